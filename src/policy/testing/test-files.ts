/** The tests of a policies folder: `*_test.rego` and the tables in folders `cases/`. */
import type { FileSelection, SourceBounds } from '../build-sources.ts'
import { CASES_FOLDER, readFolder } from '../build-sources.ts'

/** Texts by path, relative to the folder, in order. */
export interface TestFiles {
  /** Rego with rules `test_..`. */
  readonly rego: Readonly<Record<string, string>>
  /** YAML tables, and the fixtures they share. */
  readonly tables: Readonly<Record<string, string>>
}

const isTest = (name: string) => name.endsWith('_test.rego')
const isTable = (name: string) => /\.ya?ml$/.test(name)

const TEST_FILES: FileSelection = {
  enters: () => true,
  takes: (name, folders) => (folders.includes(CASES_FOLDER) ? isTable(name) : isTest(name)),
}

/** Reads the tests of a policies folder. Throws PolicyBuildError for what cannot be read. */
export async function loadTestFiles(folder: string, bounds?: SourceBounds): Promise<TestFiles> {
  const files = await readFolder(folder, TEST_FILES, bounds)
  const named = (rego: boolean) =>
    Object.fromEntries(
      files.filter(({ name }) => isTest(name) === rego).map(({ name, text }) => [name, text]),
    )
  return { rego: named(true), tables: named(false) }
}
