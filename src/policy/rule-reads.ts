/** Who reads what: the fields of the input and the data that rules read, by themselves and through other rules. Pure. */
import type { RuleDependencies } from './compiler.ts'
import { PRODUCT_FILE_PREFIX } from './dictionary.ts'

/** One definition of a rule of the author's; an else chain is one. */
export interface RuleReads extends RuleDependencies {
  /** What it reads in all, through the rules it names as well; sorted. */
  readonly allInput: readonly string[]
  readonly allData: readonly string[]
}

/** The definitions in the order of the sources. */
export function readsOfRules(definitions: readonly RuleDependencies[]): readonly RuleReads[] {
  const byRule = new Map<string, readonly RuleDependencies[]>()
  for (const one of definitions) byRule.set(one.rule, [...(byRule.get(one.rule) ?? []), one])
  const known = new Map<string, Reads>()
  const readsOf = (rules: readonly string[]): Reads => {
    const key = rules.join('\n')
    const found = known.get(key) ?? reach(rules, byRule)
    known.set(key, found)
    return found
  }
  return definitions
    .filter(({ file }) => !file.startsWith(PRODUCT_FILE_PREFIX))
    .map((one) => {
      const below = readsOf(one.rules)
      return {
        ...one,
        allInput: [...new Set([...one.input, ...below.input])].sort(),
        allData: [...new Set([...one.data, ...below.data])].sort(),
      }
    })
}

interface Reads {
  readonly input: readonly string[]
  readonly data: readonly string[]
}

/** What rules read, and all that they name. */
function reach(start: readonly string[], byRule: ReadonlyMap<string, readonly RuleDependencies[]>): Reads {
  const seen = new Set(start)
  for (const rule of seen) {
    for (const { rules } of byRule.get(rule) ?? []) for (const next of rules) seen.add(next)
  }
  const all = [...seen].flatMap((rule) => byRule.get(rule) ?? [])
  return { input: all.flatMap(({ input }) => input), data: all.flatMap(({ data }) => data) }
}

/** A definition that reads something, and how. */
export interface Reader {
  readonly rule: RuleReads
  /** The references in its own lines that read it; empty when only other rules do. */
  readonly direct: readonly string[]
  /** Rules it names that read it, by themselves or through others. */
  readonly via: readonly string[]
}

/**
 * The definitions that read a field of the input or a value of the data: itself, something in it, or something that it is in.
 *
 * @param reference such as `input.principal.claims.mfa`
 */
export function readersOf(reference: string, rules: readonly RuleReads[]): readonly Reader[] {
  const reads = (one: string) => isWithin(one, reference) || isWithin(reference, one)
  const reading = new Set(
    rules.filter((one) => [...one.allInput, ...one.allData].some(reads)).map(({ rule }) => rule),
  )
  return rules.flatMap((rule) => {
    const direct = [...rule.input, ...rule.data].filter(reads)
    const via = rule.rules.filter((name) => name !== rule.rule && reading.has(name))
    return direct.length + via.length === 0 ? [] : [{ rule, direct, via }]
  })
}

function isWithin(reference: string, outer: string): boolean {
  return reference === outer || reference.startsWith(`${outer}.`) || reference.startsWith(`${outer}[`)
}
