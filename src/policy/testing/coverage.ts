/**
 * What of a policy its tests have evaluated, expression by expression. The cases of tables and the rules `test_..` run in
 * two modules made of the same sources; what was counted in both is added up.
 */
import type { Dictionary, RuleProbe } from '../dictionary.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import type { CountedExpr, CountedRule, ProbeCounts } from './probe-counts.ts'
import { readCounts } from './probe-counts.ts'

/** `covered`: held at least once. `never_true`: evaluated, and never held. `never_reached`: something before it never held. */
export type CoverageState = 'covered' | 'never_true' | 'never_reached'

/** One expression, or a definition that is nothing but its head. */
export interface CoverageItem {
  /** 1-based. */
  readonly row: number
  /** 1-based, in code points. */
  readonly col: number
  readonly text: string
  /** Path of the rule, such as `data.gateway.authz.deny`. */
  readonly rule: string
  readonly state: CoverageState
  readonly reached: number
  readonly held: number
  /** Row of the expression that never held, so that this one was not reached; null = its rule or closure never began. */
  readonly behind: number | null
}

/** One definition of a rule. */
export interface CoverageRule {
  readonly path: string
  readonly row: number
  readonly entered: number
}

/** One file of the policy; items and rules in the order of its lines. */
export interface CoverageFile {
  readonly file: string
  readonly items: readonly CoverageItem[]
  readonly rules: readonly CoverageRule[]
}

/** A reason that the policy can give and no test brought about. */
export interface UnproducedReason {
  /** `allow` or `deny`. */
  readonly rule: string
  /** null: the reason is not constant; then it is the definition that never gave one. */
  readonly reason: string | null
  readonly file: string
  readonly row: number
}

/** What the tests have covered. */
export interface Coverage {
  readonly files: readonly CoverageFile[]
  readonly unproduced: readonly UnproducedReason[]
  readonly counts: CoverageCounts
}

/** Expressions by state. */
export interface CoverageCounts {
  readonly expressions: number
  readonly covered: number
  readonly neverTrue: number
  readonly neverReached: number
  /** 0 to 100, not rounded; 100 when there is nothing to cover. */
  readonly percent: number
}

/** A module's dictionary and what was counted in it. */
export interface CountedModule {
  readonly dictionary: Dictionary
  readonly counts: ProbeCounts
}

/** @param isTest whether a file holds tests: they are no part of the policy */
export function toCoverage(modules: readonly CountedModule[], isTest: (file: string) => boolean): Coverage {
  const isOurs = (file: string) => !file.startsWith(PRODUCT_FILE_PREFIX) && !isTest(file)
  const rules = addUp(
    modules.map(({ dictionary, counts }) =>
      readCounts(dictionary, counts).filter(({ probe }) => isOurs(probe.file)),
    ),
  )
  const names = [...new Set(rules.map(({ probe }) => probe.file))].sort()
  const files = names.map((file) => toFile(file, rules))
  return { files, unproduced: unproduced(rules), counts: countItems(files.flatMap(({ items }) => items)) }
}

/** Numbers of the items' states. */
export function countItems(items: readonly CoverageItem[]): CoverageCounts {
  const of = (state: CoverageState) => items.filter((item) => item.state === state).length
  const covered = of('covered')
  return {
    expressions: items.length,
    covered,
    neverTrue: of('never_true'),
    neverReached: of('never_reached'),
    percent: items.length === 0 ? 100 : (covered / items.length) * 100,
  }
}

/** Definitions of several modules that are the same in the sources, as one. */
function addUp(modules: readonly (readonly CountedRule[])[]): readonly CountedRule[] {
  const known = new Map<string, CountedRule>()
  for (const rules of modules) {
    const keys = createKeys()
    for (const rule of rules) {
      const key = keys(placeKey(rule.probe))
      const there = known.get(key)
      known.set(key, there === undefined ? rule : addRule(there, rule))
    }
  }
  return [...known.values()]
}

function addRule(one: CountedRule, other: CountedRule): CountedRule {
  const keys = createKeys()
  const counted = new Map(other.exprs.map((expr) => [keys(placeKey(expr.probe)), expr]))
  const own = createKeys()
  const exprs = one.exprs.map((expr) => {
    const more = counted.get(own(placeKey(expr.probe)))
    if (more === undefined) return expr
    return { ...expr, reached: expr.reached + more.reached, held: expr.held + more.held }
  })
  return { ...one, entered: one.entered + other.entered, held: one.held + other.held, exprs }
}

function placeKey({
  file,
  row,
  col,
  text,
}: {
  readonly file: string
  readonly row: number
  readonly col: number
  readonly text: string
}): string {
  return `${file}:${row}:${col} ${text}`
}

/** Tells apart what has the same place and text: the second gets another key than the first. */
function createKeys(): (key: string) => string {
  const seen = new Map<string, number>()
  return (key) => {
    const count = seen.get(key) ?? 0
    seen.set(key, count + 1)
    return `${count} ${key}`
  }
}

function toFile(file: string, rules: readonly CountedRule[]): CoverageFile {
  const own = rules.filter(({ probe }) => probe.file === file)
  const items = own.flatMap((rule) => itemsOf(rule))
  return {
    file,
    items: items.sort((a, b) => a.row - b.row || a.col - b.col),
    rules: own
      .map(({ probe, entered }) => ({ path: probe.path, row: probe.row, entered }))
      .sort((a, b) => a.row - b.row),
  }
}

function itemsOf({ probe, entered, exprs }: CountedRule): readonly CoverageItem[] {
  if (probe.kind !== 'fact') return exprs.map((expr) => toItem(probe, expr))
  const state = entered > 0 ? 'covered' : 'never_reached'
  const { row, col, text, path } = probe
  return [{ row, col, text, rule: path, state, reached: entered, held: entered, behind: null }]
}

function toItem({ path }: RuleProbe, { probe, reached, held, behind }: CountedExpr): CoverageItem {
  const { row, col, text } = probe
  return {
    row,
    col,
    text,
    rule: path,
    state: stateOf(reached, held),
    reached,
    held,
    behind: behind?.row ?? null,
  }
}

function stateOf(reached: number, held: number): CoverageState {
  if (held > 0) return 'covered'
  return reached > 0 ? 'never_true' : 'never_reached'
}

/** Rules whose elements are reasons: of the organisation and of the owners of upstreams. */
const REASONS = /^data\.gateway\.(?:authz|server\b.*)\.(allow|deny)$/

function unproduced(rules: readonly CountedRule[]): readonly UnproducedReason[] {
  const giving = rules.flatMap(({ probe, held }) => {
    const name = REASONS.exec(probe.path)?.[1]
    return name === undefined ? [] : [{ name, reason: reasonOf(probe), probe, held }]
  })
  const keyOf = ({ probe, reason }: (typeof giving)[number]) =>
    reason === null ? placeKey(probe) : `${probe.path} ${reason}`
  const produced = new Set(giving.filter(({ held }) => held > 0).map(keyOf))
  const missing = new Map<string, UnproducedReason>()
  for (const one of giving) {
    const key = keyOf(one)
    if (produced.has(key) || missing.has(key)) continue
    const { name, reason, probe } = one
    missing.set(key, { rule: name, reason, file: probe.file, row: probe.row })
  }
  return [...missing.values()]
}

function reasonOf({ constant }: RuleProbe): string | null {
  if (constant === null) return null
  try {
    return String(JSON.parse(constant))
  } catch {
    return null // a raw string or a template: source text that is no JSON
  }
}
