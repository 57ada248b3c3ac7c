/** Lays variables and flags over the file's settings, and remembers where each value came from. */
import { resolve } from 'node:path'
import type { ConfigDocument, SettingPath } from './document.ts'
import type { Override } from './overrides.ts'
import type { Problem } from './problems.ts'
import { pathText } from './problems.ts'
import { readSecretFile } from './secret-file.ts'
import { nodeAt, SETTINGS } from './settings.ts'
import { PUBLISHED_POLICIES } from './types.ts'

type Tree = Record<string, unknown>

/** The merged settings, not yet checked against the schema. */
export interface Merged {
  readonly tree: Tree
  /** Path text -> `file:line:col`, `environment NAME` or `flag --name`, for every value that was set explicitly. */
  readonly origins: ReadonlyMap<string, string>
  readonly problems: readonly Problem[]
  /** Where to point a person who has to mend the setting. */
  at(path: SettingPath, part: 'key' | 'value'): string
}

/** `tree` is changed in place. Later overrides win over earlier ones, all of them over the file. */
export function mergeOverrides(document: ConfigDocument, tree: Tree, overrides: readonly Override[]): Merged {
  dropEmpty(tree, [])
  const origins = new Map<string, string>()
  for (const path of leaves(tree, [])) origins.set(pathText(path), document.at(path, 'key'))
  const overridden = new Map<string, string>()
  for (const { path, value, origin } of overrides) {
    setAt(tree, path, value)
    const twin = twinOf(path)
    // A variable replaces the file's way of giving the same secret: the other twin of a lower layer no longer counts.
    if (twin !== null && !overridden.has(pathText(twin))) {
      setAt(tree, twin, null)
      origins.delete(pathText(twin))
    }
    overridden.set(pathText(path), origin)
    origins.set(pathText(path), origin)
  }
  const at = (path: SettingPath, part: 'key' | 'value'): string => {
    for (let length = path.length; length > 0; length -= 1) {
      const origin = overridden.get(pathText(path.slice(0, length)))
      if (origin !== undefined) return origin
    }
    return document.at(path, part)
  }
  return { tree, origins, problems: twinProblems(tree, at), at }
}

/** Settings that can also be given as the name of a file. */
const TWINS = SETTINGS.filter(({ path }) => isTwin(path)).map(({ path }) => path)

function isTwin(path: readonly string[]): boolean {
  return path.at(-1)?.endsWith('_file') === true && path[0] !== 'tls'
}

function plainOf(twin: readonly string[]): string[] {
  return [...twin.slice(0, -1), (twin.at(-1) ?? '').slice(0, -'_file'.length)]
}

function twinOf(path: readonly string[]): readonly string[] | null {
  const text = pathText(path)
  const file = TWINS.find((twin) => pathText(twin) === text)
  if (file !== undefined) return plainOf(file)
  return TWINS.find((twin) => pathText(plainOf(twin)) === text) ?? null
}

function twinProblems(tree: Tree, at: Merged['at']): Problem[] {
  return TWINS.filter((twin) => getAt(tree, twin) != null && getAt(tree, plainOf(twin)) != null).map(
    (twin) => ({
      at: at(twin, 'key'),
      path: pathText(twin),
      message: `given together with ${pathText(plainOf(twin))}`,
      hint: 'Keep one of them',
    }),
  )
}

/** Reads the files that hold secrets into the settings they stand for. */
export function readTwins(tree: Tree, complain: (path: SettingPath, message: string) => void): void {
  for (const twin of TWINS) {
    const file = getAt(tree, twin)
    if (typeof file !== 'string') continue
    try {
      setAt(tree, plainOf(twin), readSecretFile(file))
    } catch (cause) {
      complain(twin, cause instanceof Error ? cause.message : 'cannot be read')
    }
  }
}

/** Makes paths absolute: those of the file start at its folder, those of variables and flags at the current one. */
export function resolvePaths(
  tree: Tree,
  origins: ReadonlyMap<string, string>,
  folders: { readonly file: string; readonly outside: string },
): void {
  for (const path of leaves(tree, []).map((names) => names.map(String))) {
    const value = getAt(tree, path)
    if (nodeAt(path)?.['x-path'] !== true) continue
    const isOutside = /^(environment|flag) /.test(origins.get(pathText(path)) ?? '')
    const toPath = (text: unknown): unknown =>
      typeof text !== 'string' || text === PUBLISHED_POLICIES
        ? text
        : resolve(isOutside ? folders.outside : folders.file, text)
    if (Array.isArray(value)) setAt(tree, path, value.map(toPath))
    if (typeof value === 'string') setAt(tree, path, toPath(value))
  }
}

/** `limits:` with all its lines commented out is null in YAML, and means nothing was set. */
function dropEmpty(node: Tree, path: readonly string[]): void {
  for (const [name, value] of Object.entries(node)) {
    const inner = [...path, name]
    const type = nodeAt(inner)?.type
    if (value === null && type !== undefined && !type.includes('null')) delete node[name]
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) dropEmpty(value as Tree, inner)
  }
}

function getAt(tree: Tree, path: readonly string[]): unknown {
  let value: unknown = tree
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Tree)[name]
  }
  return value
}

/** Paths come from the schema or lead to what is there already, so no name of foreign origin is ever made here. */
function setAt(tree: Tree, path: readonly string[], value: unknown): void {
  let node = tree
  for (const name of path.slice(0, -1)) {
    const inner = node[name] ?? {}
    // The file has something else here: the schema says so in a moment.
    if (typeof inner !== 'object' || Array.isArray(inner)) return
    node[name] = inner
    node = inner as Tree
  }
  node[path.at(-1) ?? ''] = value
}

function leaves(value: unknown, path: SettingPath): SettingPath[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [path]
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, [...path, name]))
}
