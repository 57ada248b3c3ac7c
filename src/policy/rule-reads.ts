/** Who reads what: the fields of the input and the data that rules read, by themselves and through other rules. Pure. */
import type { RuleDependencies } from './compiler.ts'
import { PRODUCT_FILE_PREFIX } from './dictionary.ts'

/** A rule of the author's; all definitions of one name together. */
export interface RuleReads {
  /** Such as `data.gateway.authz.deny`. */
  readonly rule: string
  /** Its definitions: `file:row`. */
  readonly at: readonly string[]
  /** What its own lines name; sorted. */
  readonly input: readonly string[]
  readonly data: readonly string[]
  readonly rules: readonly string[]
  /** What it reads in all, through the rules it names as well; sorted. */
  readonly allInput: readonly string[]
  readonly allData: readonly string[]
  /** Whether a decision leads to it. */
  readonly reachable: boolean
}

/** The rules in the order of the sources. */
export function readsOfRules(definitions: readonly RuleDependencies[]): readonly RuleReads[] {
  const byRule = new Map<string, readonly RuleDependencies[]>()
  for (const one of definitions) {
    if (one.file.startsWith(PRODUCT_FILE_PREFIX)) continue
    byRule.set(one.rule, [...(byRule.get(one.rule) ?? []), one])
  }
  return [...byRule].map(([rule, own]) => {
    const below = reach(rule, byRule)
    return {
      rule,
      at: own.map(({ file, row }) => `${file}:${row}`),
      ...{ input: merged(own, 'input'), data: merged(own, 'data'), rules: merged(own, 'rules') },
      ...{ allInput: merged(below, 'input'), allData: merged(below, 'data') },
      reachable: own.some(({ reachable }) => reachable),
    }
  })
}

function merged(
  definitions: readonly RuleDependencies[],
  member: 'input' | 'data' | 'rules',
): readonly string[] {
  return [...new Set(definitions.flatMap((one) => one[member]))].sort()
}

/** The definitions of a rule and of all that it names. */
function reach(
  start: string,
  byRule: ReadonlyMap<string, readonly RuleDependencies[]>,
): readonly RuleDependencies[] {
  const seen = new Set([start])
  for (const rule of seen) {
    for (const { rules } of byRule.get(rule) ?? []) for (const next of rules) seen.add(next)
  }
  return [...seen].flatMap((rule) => byRule.get(rule) ?? [])
}

/** A rule that reads something, and how. */
export interface Reader {
  readonly rule: RuleReads
  /** The references that read it; empty when only other rules do. */
  readonly direct: readonly string[]
  /** Rules it names that read it, by themselves or through others. */
  readonly via: readonly string[]
}

/**
 * The rules that read a field of the input or a value of the data: itself, something in it, or something that it is in.
 *
 * @param reference such as `input.principal.claims.mfa`
 */
export function readersOf(reference: string, rules: readonly RuleReads[]): readonly Reader[] {
  const reads = (one: string) => isWithin(one, reference) || isWithin(reference, one)
  const byName = new Map(rules.map((rule) => [rule.rule, rule]))
  return rules.flatMap((rule) => {
    const direct = [...rule.input, ...rule.data].filter(reads)
    const via = rule.rules.filter((name) => {
      const named = byName.get(name)
      return named !== undefined && name !== rule.rule && [...named.allInput, ...named.allData].some(reads)
    })
    return direct.length + via.length === 0 ? [] : [{ rule, direct, via }]
  })
}

function isWithin(reference: string, outer: string): boolean {
  return reference === outer || reference.startsWith(`${outer}.`) || reference.startsWith(`${outer}[`)
}
