/**
 * Who may define what in a policies folder with many owners. Package `gateway.authz`, helpers and data are the organisation's.
 * Files in `server/<upstream>/` belong to that upstream's owners: they define `gateway.server.<upstream>` and nothing else, so
 * nobody can add to somebody else's rules from there. Package clauses are read strictly: one that is written in an unusual
 * way is refused rather than guessed at, and what the compiler made of the files is compared with it afterwards.
 */
import { dataError } from './build-data.ts'
import type { PolicyError } from './compiler.ts'
import type { Dictionary } from './dictionary.ts'
import { DECISION_RULES, OWNED_PACKAGE, PRODUCT_FILE, SERVER_PACKAGE } from './product-module.ts'
import { constantPath } from './testing/reference.ts'
import { findDefaults } from './testing/rego-heads.ts'

/** Folder of the upstreams' own policies, directly in the policies folder. */
const SERVER_FOLDER = 'server'

/** Names an upstream may have in `gateway.yaml` (schemas/config.schema.json). */
const UPSTREAM = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const TEST_SUFFIX = '_test'

type Texts = Readonly<Record<string, string>>

interface PackageClause {
  /** Without `data`. */
  readonly path: readonly string[]
  /** 1-based. */
  readonly row: number
}

const CLAUSE =
  /^(?:[ \t\r\n]|#[^\n]*\n)*package[ \t]+([A-Za-z_]\w*(?:\.[A-Za-z_]\w*|\["[^"\\\n]*"\])*)(?=[\s;#]|$)/
const STEP = /\["([^"]*)"\]|([A-Za-z_]\w*)/g

/** The package of a file; null when its clause is not in the usual form. */
function readClause(text: string): PackageClause | null {
  const match = CLAUSE.exec(text)
  if (match === null) return null
  const [head, reference = ''] = match
  const path = [...reference.matchAll(STEP)].map(([, quoted, name]) => quoted ?? name ?? '')
  return { path, row: head.split('\n').length }
}

/** A file that belongs to an upstream's package. */
export interface UpstreamFile {
  readonly file: string
  /** Of its package clause, 1-based. */
  readonly row: number
  readonly upstream: string
}

/** Files with a package `gateway.server.<upstream>`, or one below it. */
export function filesOfUpstreams(rego: Texts): readonly UpstreamFile[] {
  return Object.entries(rego).flatMap(([file, text]) => {
    const { path, row } = readClause(text) ?? { path: [], row: 0 }
    return isServerPackage(path) && path[2] !== undefined ? [{ file, row, upstream: path[2] }] : []
  })
}

/** Upstreams that have a package of their own, in order. */
export function upstreamsWithPackage(rego: Texts): readonly string[] {
  return [...new Set(filesOfUpstreams(rego).map(({ upstream }) => upstream))].sort()
}

/**
 * Files that define what is not their owners', and packages that would belong to no upstream. Test files may also use
 * the package `gateway.server.<upstream>_test`.
 */
export function ownershipErrors(files: Texts): readonly PolicyError[] {
  return Object.entries(files).flatMap(([file, text]) => {
    const clause = readClause(text)
    const problem = problemOf(file, clause)
    return problem === null ? [] : [errorAt(file, text, clause?.row ?? 1, problem)]
  })
}

interface Problem {
  readonly message: string
  readonly hint: string
}

function problemOf(file: string, clause: PackageClause | null): Problem | null {
  const [folder, owner, ...rest] = file.split('/')
  if (folder === SERVER_FOLDER && owner !== undefined && rest.length > 0) return foreign(file, owner, clause)
  const { path = [] } = clause ?? {}
  return isServerPackage(path) ? nameless(testless(file, path[2])) : null
}

function foreign(file: string, owner: string, clause: PackageClause | null): Problem | null {
  const wrongFolder = nameless(owner)
  if (wrongFolder !== null) return wrongFolder
  const { path = [] } = clause ?? {}
  if (isServerPackage(path) && testless(file, path[2]) === owner) return null
  const wanted = packageText([OWNED_PACKAGE, SERVER_PACKAGE, owner])
  const found = path.length === 0 ? 'a package clause in another form' : `package ${packageText(path)}`
  return {
    message: `${SERVER_FOLDER}/${owner}/ belongs to the owners of one upstream, this is ${found}`,
    hint: `write: package ${wanted} (or one below it). What several upstreams share is the organisation's and stands outside of ${SERVER_FOLDER}/`,
  }
}

function nameless(upstream: string | undefined): Problem | null {
  if (upstream !== undefined && UPSTREAM.test(upstream)) return null
  return {
    message:
      upstream === undefined ? 'the package names no upstream' : `no upstream can be named ${upstream}`,
    hint: `write ${packageText([OWNED_PACKAGE, SERVER_PACKAGE])}["<name of the upstream in gateway.yaml>"]`,
  }
}

function testless(file: string, upstream: string | undefined): string | undefined {
  if (!file.endsWith('_test.rego') || upstream?.endsWith(TEST_SUFFIX) !== true) return upstream
  return upstream.slice(0, -TEST_SUFFIX.length)
}

/**
 * What the compiler made of the files, compared with what was read: a decision rule that is no set, or that stands in a package
 * which the decision does not ask, would be passed over in silence.
 */
export function serverRuleErrors(
  dictionary: Dictionary,
  upstreams: readonly string[],
  sources: Texts,
): readonly PolicyError[] {
  const rules = dictionary.rules.flatMap(({ path, kind, text, file, row }) => {
    const steps = constantPath(path).map(String)
    if (kind === 'else' || !isServerPackage(steps)) return []
    const [, , upstream = '', name = ''] = steps
    const unasked = !upstreams.includes(upstream)
    if (!unasked && (!isDecisionRule(name) || isSet(text, name))) return []
    return [errorAt(file, sources[file] ?? '', row, unasked ? UNREAD : notASet(path, name))]
  })
  const defaults = Object.entries(sources).flatMap(([file, text]) => {
    const { path = [] } = readClause(text) ?? {}
    if (!isServerPackage(path) || path.length > 3) return []
    return findDefaults(text)
      .filter(({ name }) => isDecisionRule(name))
      .map(({ name, row }) => errorAt(file, text, row, notASet(name, name)))
  })
  return [...rules, ...defaults]
}

const ASKED = /data\.gateway\.server\["([^"]+)"\]\.(\w+)/

/**
 * A rule that cannot be a set is an error where the product's module asks for it; it is told where the rule stands. Other errors
 * stay as they are.
 */
export function errorsOfOwners(errors: readonly PolicyError[], sources: Texts): readonly PolicyError[] {
  return errors.map((error) => {
    const [, upstream, name = ''] = (error.file === PRODUCT_FILE && ASKED.exec(error.line ?? '')) || []
    const head = new RegExp(`^(?:default\\s+)?${name}\\b`)
    for (const [file, text] of Object.entries(upstream === undefined ? {} : sources)) {
      const { path = [] } = readClause(text) ?? {}
      const row = text.split('\n').findIndex((line) => head.test(line)) + 1
      if (isServerPackage(path) && path[2] === upstream && row > 0)
        return errorAt(file, text, row, notASet(name, name))
    }
    return error
  })
}

const UNREAD: Problem = {
  message: "the rule is in an upstream's package, and its package clause has an unusual form",
  hint: `write on one line: package ${OWNED_PACKAGE}.${SERVER_PACKAGE}["<name of the upstream in gateway.yaml>"]`,
}

function notASet(path: string, name: string): Problem {
  return {
    message: `${path} is not a set of reasons`,
    hint: `write: ${isDecisionRule(name) ? name : 'deny'} contains .. if { .. }`,
  }
}

function isServerPackage(path: readonly string[]): boolean {
  return path[0] === OWNED_PACKAGE && path[1] === SERVER_PACKAGE
}

function isDecisionRule(name: string): boolean {
  return DECISION_RULES.some((rule) => rule === name)
}

function isSet(head: string, name: string): boolean {
  return head.startsWith(name) && /^\s+contains\b/.test(head.slice(name.length))
}

/** As it is written in a package clause. */
function packageText(path: readonly string[]): string {
  return path
    .map((step, at) => {
      if (!/^[A-Za-z_]\w*$/.test(step)) return `[${JSON.stringify(step)}]`
      return at === 0 ? step : `.${step}`
    })
    .join('')
}

function errorAt(file: string, text: string, row: number, { message, hint }: Problem): PolicyError {
  const line = text.split('\n')[row - 1] ?? null
  return dataError(file, message, { row, col: 1, line, code: 'contract_error', hint })
}
