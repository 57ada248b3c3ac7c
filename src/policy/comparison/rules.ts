/** What differs in the texts of two policies: definitions of rules, base documents, files. Layout and comments are no difference. */
import type { CompiledPolicy } from '../build.ts'
import { authorsFiles } from '../bundle.ts'
import type { RuleProbe } from '../dictionary.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import { findDefaults, packageOf } from '../testing/rego-heads.ts'

/** As much of a policy as is compared. */
export type ComparedPolicy = Pick<CompiledPolicy, 'sources' | 'data' | 'dictionary'>

/** One rule whose definitions differ. */
export interface RuleChange {
  readonly kind: 'added' | 'removed' | 'changed'
  /** Such as `data.gateway.authz.deny`. */
  readonly rule: string
  /** Definitions that only the first policy has, `file:line`. */
  readonly before: readonly string[]
  /** Definitions that only the second one has. */
  readonly after: readonly string[]
}

/** A file or a value of `data` that differs. */
export interface NamedChange {
  readonly kind: RuleChange['kind']
  readonly name: string
}

/** Everything that differs. */
export interface TextChanges {
  readonly rules: readonly RuleChange[]
  /** Paths of base documents; never their values. */
  readonly data: readonly NamedChange[]
  /** Rego files whose text differs, comments included. */
  readonly files: readonly NamedChange[]
}

/** Compares two policies. */
export function compareTexts(before: ComparedPolicy, after: ComparedPolicy): TextChanges {
  return {
    rules: compareRules(definitionsOf(before), definitionsOf(after)),
    data: [...compareValues(before.data, after.data, 'data')],
    files: compareFiles(authorsFiles(before.sources), authorsFiles(after.sources)),
  }
}

interface Definition {
  readonly rule: string
  readonly at: string
  /** Equal for equal definitions, wherever they stand. */
  readonly meaning: string
}

function definitionsOf({ dictionary, sources }: ComparedPolicy): readonly Definition[] {
  const texts = new Map(dictionary.exprs.map(({ id, text }) => [id, text]))
  const written = dictionary.rules
    .filter(({ file }) => !file.startsWith(PRODUCT_FILE_PREFIX))
    .map((rule) => ({
      rule: rule.path,
      at: `${rule.file}:${rule.row}`,
      meaning: meaningOf(rule, texts),
    }))
  return [...written, ...Object.entries(authorsFiles(sources)).flatMap(defaultsOf)]
}

function meaningOf({ kind, text, body }: RuleProbe, texts: ReadonlyMap<number, string>): string {
  return JSON.stringify([kind, oneLine(text), ...body.map((id) => oneLine(texts.get(id) ?? ''))])
}

/** Rules of `default` leave no probe. */
function defaultsOf([file, text]: readonly [string, string]): readonly Definition[] {
  const lines = text.split('\n')
  const path = (packageOf(text) ?? []).join('.')
  return findDefaults(text).map(({ name, row }) => ({
    rule: `data.${path}.${name}`,
    at: `${file}:${row}`,
    meaning: oneLine(lines[row - 1] ?? ''),
  }))
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}

function compareRules(before: readonly Definition[], after: readonly Definition[]): readonly RuleChange[] {
  const names = new Set([...before, ...after].map(({ rule }) => rule))
  return [...names].sort().flatMap((rule) => {
    const had = before.filter((one) => one.rule === rule)
    const has = after.filter((one) => one.rule === rule)
    const gone = without(had, has)
    const come = without(has, had)
    if (gone.length === 0 && come.length === 0) return []
    const kind = had.length === 0 ? 'added' : has.length === 0 ? 'removed' : 'changed'
    return [{ kind, rule, before: gone.map(({ at }) => at), after: come.map(({ at }) => at) } as const]
  })
}

/** Those of `these` that are not among `others`, each counted as often as it is there. */
function without(these: readonly Definition[], others: readonly Definition[]): readonly Definition[] {
  const left = new Map<string, number>()
  for (const { meaning } of others) left.set(meaning, (left.get(meaning) ?? 0) + 1)
  return these.filter(({ meaning }) => {
    const count = left.get(meaning) ?? 0
    left.set(meaning, count - 1)
    return count <= 0
  })
}

function* compareValues(before: unknown, after: unknown, path: string): Generator<NamedChange> {
  if (!(isObject(before) && isObject(after))) {
    if (JSON.stringify(before) !== JSON.stringify(after)) yield { kind: 'changed', name: path }
    return
  }
  for (const name of [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()) {
    const inner = `${path}.${name}`
    if (!Object.hasOwn(before, name)) yield { kind: 'added', name: inner }
    else if (!Object.hasOwn(after, name)) yield { kind: 'removed', name: inner }
    else yield* compareValues(before[name], after[name], inner)
  }
}

function compareFiles(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): readonly NamedChange[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return names.flatMap((name) => {
    if (before[name] === after[name]) return []
    const kind = before[name] === undefined ? 'added' : after[name] === undefined ? 'removed' : 'changed'
    return [{ kind, name } as const]
  })
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
