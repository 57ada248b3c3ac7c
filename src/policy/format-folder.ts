/** The Rego files of a policies folder as OPA formats them, tests among them. */
import { PolicyBuildError } from './build-error.ts'
import type { FileSelection } from './build-sources.ts'
import { CASES_FOLDER, readFolder } from './build-sources.ts'
import type { Compiler, PolicyError } from './compiler.ts'

/** A file and what it should look like. */
export interface FormattedFile {
  /** Path relative to the folder, with `/`. */
  readonly name: string
  readonly text: string
  readonly formatted: string
}

const REGO_FILES: FileSelection = {
  enters: (name) => name !== CASES_FOLDER,
  takes: (name) => name.endsWith('.rego'),
}

/** Throws PolicyBuildError when a file cannot be parsed; all of them are named. */
export async function formatFolder(
  folder: string,
  compiler: Pick<Compiler, 'format'>,
): Promise<readonly FormattedFile[]> {
  const files: FormattedFile[] = []
  const errors: PolicyError[] = []
  for (const { name, text } of await readFolder(folder, REGO_FILES)) {
    const result = await compiler.format(name, text)
    if (result.ok) files.push({ name, text, formatted: result.formatted })
    else errors.push(...result.errors)
  }
  if (errors.length > 0) throw new PolicyBuildError(errors)
  return files
}
