/** What a case expects of which combination, and what of it an evaluation did not give. */
import type { Evaluation } from '../../gateway/types.ts'
import { parseMasks, toMaskDocument } from '../mask.ts'
import { canonicalText } from './canonical.ts'
import { CaseProblem } from './case-problem.ts'
import { asObject } from './fixtures.ts'
import type { Choice, Expectation, ExpectedLimit } from './table.ts'
import type { YamlDocument, YamlPath } from './yaml-document.ts'

/** One expectation of a case and what it is for; null = for all. */
export interface ExpectationEntry {
  readonly path: YamlPath
  readonly principals: readonly string[] | null
  readonly whats: readonly string[] | null
  readonly servers: readonly string[] | null
  readonly expect: Expectation
}

/** Of a combination that nothing is expected of: it has to be denied. */
export const DENIED: Expectation = {
  allow: false,
  allowedBy: null,
  deniedBy: null,
  limits: null,
  obligations: null,
  mask: null,
  failure: null,
}

/** The expectations of a case; none = it has to be denied. */
export function readExpectations(
  document: YamlDocument,
  value: unknown,
  path: YamlPath,
): readonly ExpectationEntry[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) return [readEntry(document, asObject(value), path)]
  return value.map((one, index) => readEntry(document, asObject(one), [...path, index]))
}

function readEntry(
  document: YamlDocument,
  value: Readonly<Record<string, unknown>>,
  path: YamlPath,
): ExpectationEntry {
  const names = (name: string) => {
    const given = value[name]
    if (given === undefined) return null
    return (Array.isArray(given) ? given : [given]).map(String)
  }
  const list = (name: string) => (value[name] === undefined ? null : (value[name] as readonly unknown[]))
  const reasons = (name: string) => list(name)?.map(String).sort() ?? null
  const [allowedBy, deniedBy] = [reasons('allowed_by'), reasons('denied_by')]
  const implied = (allowedBy?.length ?? 0) > 0 && (deniedBy?.length ?? 0) === 0
  return {
    path,
    principals: names('principal'),
    whats: names('tool') ?? names('target'),
    servers: names('server'),
    expect: {
      allow: (value['allow'] ?? implied) === true,
      allowedBy,
      deniedBy,
      limits: list('limits') as readonly ExpectedLimit[] | null,
      obligations: value['obligations'] === undefined ? null : jsonList(document, [...path, 'obligations']),
      mask: value['mask'] === undefined ? null : readMasks(document, [...path, 'mask']),
      failure: value['failure'] === undefined ? null : String(value['failure']),
    },
  }
}

/** The values of a list, numbers as they were written. */
function jsonList(document: YamlDocument, path: YamlPath): readonly unknown[] {
  return JSON.parse(document.jsonAt(path) ?? '[]') as readonly unknown[]
}

/** In the notation that is compared. Throws CaseProblem for masks that no decision can hold. */
function readMasks(document: YamlDocument, path: YamlPath): readonly unknown[] {
  const { masks, maskFailure } = parseMasks(jsonList(document, path))
  if (maskFailure === null) return masks.map(toMaskDocument)
  const index = Number(/^mask\[(\d+)\]/.exec(maskFailure)?.[1] ?? Number.NaN)
  const at = Number.isNaN(index) ? path : [...path, index]
  const hint =
    'write masks as policies do: a path such as /arguments/ssn, or an object with op, path and value'
  throw new CaseProblem(document.error(at, { code: 'wrong_value', message: maskFailure, hint }))
}

/** What is expected of a combination. `clash`: a second expectation that is for it, too. */
export function expectationFor(
  entries: readonly ExpectationEntry[],
  { principal, what, server }: Choice,
): {
  readonly expect: Expectation
  readonly entry: ExpectationEntry | null
  readonly clash: ExpectationEntry | null
} {
  const isFor = (names: readonly string[] | null, name: string) => names === null || names.includes(name)
  const [entry = null, clash = null] = entries.filter(
    (one) => isFor(one.principals, principal) && isFor(one.whats, what) && isFor(one.servers, server),
  )
  return { expect: entry?.expect ?? DENIED, entry, clash }
}

/** The members of an evaluation that tables speak of. In a list only the reasons are known. */
export type Verdict = Pick<Evaluation, 'allow' | 'allowedBy' | 'deniedBy' | 'failure'> &
  Partial<Pick<Evaluation, 'limits' | 'obligations' | 'masks' | 'maskFailure'>>

/** One member that is not as expected; JSON values. */
export interface Mismatch {
  readonly member: 'allow' | 'allowed_by' | 'denied_by' | 'limits' | 'obligations' | 'mask' | 'failure'
  readonly expected: unknown
  readonly got: unknown
}

/** Compares; empty = as expected. A failure that nobody expects is one, whatever else is expected. */
export function mismatches(expect: Expectation, got: Verdict): readonly Mismatch[] {
  const found: Mismatch[] = []
  const compare = (member: Mismatch['member'], expected: unknown, value: unknown) => {
    if (canonicalText(expected) !== canonicalText(value)) found.push({ member, expected, got: value })
  }
  compare('failure', expect.failure, got.failure?.kind ?? null)
  if (got.failure !== null && expect.failure === null) return found
  compare('allow', expect.allow, got.allow)
  if (expect.allowedBy !== null) compare('allowed_by', expect.allowedBy, [...got.allowedBy].sort())
  if (expect.deniedBy !== null) compare('denied_by', expect.deniedBy, [...got.deniedBy].sort())
  if (expect.limits !== null)
    compare('limits', byName(expect.limits), comparedLimits(expect.limits, got.limits ?? []))
  if (expect.obligations !== null) {
    compare('obligations', sorted(expect.obligations), sorted(got.obligations ?? []))
  }
  if (expect.mask !== null) compare('mask', sorted(expect.mask), masksOf(got))
  return found
}

/** Or why they are not known: then the row holds no payloads. */
function masksOf({ masks, maskFailure }: Verdict): unknown {
  return typeof maskFailure === 'string'
    ? `malformed: ${maskFailure}`
    : sorted((masks ?? []).map(toMaskDocument))
}

function byName(limits: readonly ExpectedLimit[]): readonly ExpectedLimit[] {
  return [...limits].sort((a, b) => (canonicalText(a) < canonicalText(b) ? -1 : 1))
}

/** What a limit has that does not say otherwise. */
const LIMIT_DEFAULTS = { mode: 'enforce', on_store_error: 'deny' }

/** Of each limit the members that are expected of those of its name; all of one that is not expected. */
function comparedLimits(
  expected: readonly ExpectedLimit[],
  limits: NonNullable<Verdict['limits']>,
): readonly ExpectedLimit[] {
  const cut = limits.map((limit) => {
    const wanted = expected.filter(({ name }) => name === limit.name).flatMap((one) => Object.keys(one))
    if (wanted.length === 0) return { ...limit }
    const members = Object.entries({ ...LIMIT_DEFAULTS, ...limit })
    return { name: limit.name, ...Object.fromEntries(members.filter(([name]) => wanted.includes(name))) }
  })
  return byName(cut)
}

function sorted(values: readonly unknown[]): readonly unknown[] {
  return [...values].sort((a, b) => (canonicalText(a) < canonicalText(b) ? -1 : 1))
}
