/**
 * Test tables -> tests. Options are inherited downwards (table, group, case), lists of principals, tools, targets and servers
 * make a test of each combination, and every mistake is told with its place.
 */
import type { PolicyError } from '../compiler.ts'
import type { OptionName, Setting, Settings } from './case-maker.ts'
import { CaseMaker, MAX_CASES, OPTIONS } from './case-maker.ts'
import { CaseProblem } from './case-problem.ts'
import { readExpectations } from './expectation.ts'
import { asObject, Fixtures } from './fixtures.ts'
import type { TestCase } from './table.ts'
import type { TableCheck } from './table-schema.ts'
import type { YamlPath } from './yaml-document.ts'
import { YamlDocument } from './yaml-document.ts'

/** All tests of a folder's tables, and all that is wrong with the tables. */
export interface ReadTables {
  readonly cases: readonly TestCase[]
  readonly errors: readonly PolicyError[]
}

const SHARED = /^(.*\/)?fixtures\.ya?ml$/
const MAX_GROUPS = 4

/** Reads tables, given by file name. */
export function readTables(tables: Readonly<Record<string, string>>, check: TableCheck): ReadTables {
  const errors: PolicyError[] = []
  const documents: YamlDocument[] = []
  for (const [file, text] of Object.entries(tables)) {
    const parsed = YamlDocument.parse(file, text)
    const problems = parsed instanceof YamlDocument ? check(parsed) : parsed
    errors.push(...problems)
    if (parsed instanceof YamlDocument && problems.length === 0) documents.push(parsed)
  }
  const shared = sharedFixtures(documents, errors)
  const cases = documents.flatMap((document) => {
    if (isShared(document)) return []
    const fixtures = new Fixtures(shared.get(folderOf(document.file)) ?? null)
    errors.push(...fixtures.add(document))
    const reader = new TableReader(document, fixtures)
    const read = reader.read()
    errors.push(...reader.errors)
    return read
  })
  return { cases, errors }
}

const folderOf = (file: string) => file.slice(0, file.lastIndexOf('/') + 1)
const isShared = (document: YamlDocument) =>
  SHARED.test(document.file) && asObject(document.value)['cases'] === undefined

function sharedFixtures(
  documents: readonly YamlDocument[],
  errors: PolicyError[],
): ReadonlyMap<string, Fixtures> {
  const shared = new Map<string, Fixtures>()
  for (const document of documents.filter(isShared)) {
    const fixtures = shared.get(folderOf(document.file)) ?? new Fixtures(null)
    shared.set(folderOf(document.file), fixtures)
    errors.push(...fixtures.add(document))
  }
  return shared
}

class TableReader {
  readonly errors: PolicyError[] = []
  readonly #document: YamlDocument
  readonly #maker: CaseMaker
  readonly #names = new Set<string>()
  readonly #cases: TestCase[] = []

  constructor(document: YamlDocument, fixtures: Fixtures) {
    this.#document = document
    this.#maker = new CaseMaker(document, fixtures)
  }

  read(): readonly TestCase[] {
    const table = asObject(this.#document.value)
    if (table['cases'] === undefined) {
      this.#complain(
        [],
        'the table has no cases',
        'fixtures that several tables share stand in fixtures.yaml',
      )
      return []
    }
    this.#group({ node: table, path: [], prefix: '', settings: this.#settings(table, [], {}), depth: 0 })
    return this.#cases
  }

  #group(group: {
    readonly node: Readonly<Record<string, unknown>>
    readonly path: YamlPath
    readonly prefix: string
    readonly settings: Settings
    readonly depth: number
  }): void {
    const { node, path, prefix, settings, depth } = group
    const cases = node['cases'] as readonly unknown[]
    cases.forEach((value, index) => {
      const inner = asObject(value)
      const at = [...path, 'cases', index]
      const name = `${prefix}${String(inner['name'])}`
      const own = this.#settings(inner, at, settings)
      if (inner['cases'] === undefined) this.#leaf(inner, at, name, own)
      else if (inner['expect'] !== undefined)
        this.#complain([...at, 'expect'], 'a group expects nothing itself', 'move it to its cases')
      else if (depth >= MAX_GROUPS) this.#complain(at, `groups are nested deeper than ${MAX_GROUPS}`)
      else this.#group({ node: inner, path: at, prefix: `${name}: `, settings: own, depth: depth + 1 })
    })
  }

  /** What stands at this level on top of what is inherited. `tool` and `target`/`method` replace each other. */
  #settings(node: Readonly<Record<string, unknown>>, path: YamlPath, inherited: Settings): Settings {
    const own: Partial<Record<OptionName, Setting>> = {}
    for (const name of OPTIONS) {
      if (Object.hasOwn(node, name)) own[name] = { value: node[name], path: [...path, name] }
    }
    if (own.tool !== undefined && own.target !== undefined)
      this.#complain([...path, 'target'], 'tool and target exclude each other', null, true)
    const base: Partial<Record<OptionName, Setting>> = { ...inherited }
    if (own.tool !== undefined) {
      delete base.target
      delete base.method
    }
    if (own.target !== undefined || (own.method !== undefined && own.tool === undefined)) delete base.tool
    if (own.method !== undefined && own.target === undefined) delete base.target
    return { ...base, ...own }
  }

  #leaf(node: Readonly<Record<string, unknown>>, path: YamlPath, name: string, settings: Settings): void {
    if (this.#names.has(name)) {
      this.#complain([...path, 'name'], 'there is a case of this name already', 'names tell tests apart')
    }
    this.#names.add(name)
    const phase = settings.phase?.value === 'list' ? 'list' : 'call'
    try {
      const expects = readExpectations(this.#document, node['expect'], [...path, 'expect'])
      const made = this.#maker.make({ path, name, settings, phase, expects })
      if (this.#cases.length + made.length > MAX_CASES)
        this.#complain(path, `the table makes more than ${MAX_CASES} tests`, 'split it')
      else this.#cases.push(...made)
    } catch (error) {
      if (!(error instanceof CaseProblem)) throw error
      this.errors.push(error.error)
    }
  }

  #complain(path: YamlPath, message: string, hint: string | null = null, key = false): void {
    this.errors.push(this.#document.error(path, { code: 'wrong_value', message, hint, key }))
  }
}
