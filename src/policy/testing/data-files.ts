/** Where a value of `data` was written. Files are parsed only when a test has failed. */

import type { Place } from './yaml-document.ts'
import { YamlDocument } from './yaml-document.ts'

/** Finds the place of a path below `data`; null when no data file has it. */
export type DataPlaces = (path: readonly (string | number)[]) => Place | null

/** @param files texts of `data.json` and `data.yaml` files by path */
export function createDataPlaces(files: Readonly<Record<string, string>>): DataPlaces {
  const parsed = new Map<string, YamlDocument | null>()
  const documentOf = (file: string): YamlDocument | null => {
    const known = parsed.get(file)
    if (known !== undefined) return known
    const document = YamlDocument.parse(file, files[file] ?? '')
    const made = document instanceof YamlDocument ? document : null
    parsed.set(file, made)
    return made
  }
  return (path) => {
    for (const file of Object.keys(files).filter((name) => isAbove(name, path))) {
      const document = documentOf(file)
      const inner = path.slice(file.split('/').length - 1)
      if (document !== null && inner.length > 0 && document.reach(inner) === inner.length)
        return document.placeOf(inner, typeof inner.at(-1) === 'string')
    }
    return null
  }
}

/** A data file's folders are the beginning of its values' paths. */
function isAbove(file: string, path: readonly (string | number)[]): boolean {
  return file
    .split('/')
    .slice(0, -1)
    .every((folder, index) => path[index] === folder)
}
