/** What the ids of a trace dictionary stand for, looked up by what they stand for. Agrees with `audit_trace_words` of the database. */

/** An index, or the text itself where there is none. */
export type Part = number | string

/** An id, or the members themselves where no id stands for them. */
type Ref = number | Readonly<Record<string, unknown>>

/** Looks up what a trace says. */
export interface Words {
  rule(members: Readonly<Record<'rule' | 'at' | 'title', unknown>>): { readonly ref: Ref }
  step(members: Readonly<Record<'at' | 'expr', unknown>>): {
    readonly ref: Ref
    /** Place of a name in the `reads` of the id. */
    readonly readAt: (name: string) => Part
  }
}

/** A rule or an expression of the dictionary, as far as it matters. */
interface Probe {
  readonly id: number
  readonly path?: string
  readonly title?: string | null
  readonly file: string
  readonly row: number
  readonly text: string
  readonly reads?: readonly { readonly text: string }[]
}

/** @param dictionary of the policy's compiler; see `src/policy/dictionary.ts` for its form */
export function createWords(dictionary: object): Words {
  const { rules = [], exprs = [] } = dictionary as { rules?: readonly Probe[]; exprs?: readonly Probe[] }
  const ruleIds = new Map<string, number>()
  const steps = new Map<string, { readonly id: number; readonly reads: ReadonlyMap<string, number> }>()
  for (const probe of [...exprs, ...rules]) {
    const place = `${probe.file}:${probe.row}`
    const key = keyOf([place, probe.text])
    if (steps.has(key)) continue
    steps.set(key, { id: probe.id, reads: new Map(probe.reads?.map((read, at) => [read.text, at])) })
  }
  for (const probe of rules)
    ruleIds.set(keyOf([probe.path, `${probe.file}:${probe.row}`, probe.title ?? undefined]), probe.id)
  return {
    rule({ rule, at, title }) {
      return { ref: ruleIds.get(keyOf([rule, at, title])) ?? present({ rule, at, title }) }
    },
    step({ at, expr }) {
      const known = steps.get(keyOf([at, expr]))
      if (known === undefined) return { ref: present({ at, expr }), readAt: (name) => name }
      return { ref: known.id, readAt: (name) => known.reads.get(name) ?? name }
    },
  }
}

/** Texts cannot be mistaken for one another, nor for their absence. */
function keyOf(parts: readonly unknown[]): string {
  return parts.map((part) => (typeof part === 'string' ? `${part.length}:${part}` : '-')).join('')
}

function present(members: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
}
