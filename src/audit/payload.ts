/** How much of what callers and upstreams sent a row keeps: from the configuration, and from what the policy asks. Pure. */
import type { Limit } from '../gateway/limit-types.ts'
import type { Call } from '../gateway/types.ts'

/**
 * `full`: request, answer and trace. `request`: not the answer. `metadata`: neither, and in the trace no values: who used
 * what, what was decided and by which rules.
 */
export type PayloadLevel = 'metadata' | 'request' | 'full'

/** The configured levels. null = as one level up. */
export interface PayloadLevels {
  readonly level: PayloadLevel
  readonly upstreams: Readonly<
    Record<
      string,
      { readonly level: PayloadLevel | null; readonly tools: Readonly<Record<string, PayloadLevel | null>> }
    >
  >
}

/** How rows are kept. */
export interface RowPlan {
  readonly payload: PayloadLevels
  /** Whether traces are stored compactly. */
  readonly compact: boolean
}

/** Everything, readable. */
export const WHOLE_ROWS: RowPlan = { payload: { level: 'full', upstreams: {} }, compact: false }

/** The level of one row, and who wanted it so strict. */
export interface KeptPayload {
  readonly level: PayloadLevel
  readonly by: 'configuration' | 'policy'
}

const STRICTNESS: readonly PayloadLevel[] = ['metadata', 'request', 'full']

/**
 * The strictest of the configured level and those of the policy's obligations (`{"kind": "audit_payload", "level": ..}`): a
 * policy can keep less, never more. A level nobody knows is the strictest.
 */
export function keptPayload(call: Readonly<Call>, levels: PayloadLevels): KeptPayload {
  const configured = configuredLevel(call, levels)
  const asked = (call.evaluation?.obligations ?? [])
    .filter((obligation) => obligation.kind === 'audit_payload')
    .map((obligation) => STRICTNESS.find((level) => level === obligation['level']) ?? 'metadata')
  const level = strictest([configured, ...asked])
  return { level, by: level === configured ? 'configuration' : 'policy' }
}

/** While it is not known which tool is meant, it may be the one of which least is to be kept. */
function configuredLevel({ server, head, target }: Readonly<Call>, levels: PayloadLevels): PayloadLevel {
  const name = server?.name ?? head.mount
  const upstream = Object.hasOwn(levels.upstreams, name) ? levels.upstreams[name] : undefined
  const level = upstream?.level ?? levels.level
  const tools = upstream?.tools ?? {}
  if (target === null) return strictest([level, ...Object.values(tools).map((one) => one ?? level)])
  if (target.kind !== 'tool' || !Object.hasOwn(tools, target.name)) return level
  return tools[target.name] ?? level
}

function strictest(levels: readonly PayloadLevel[]): PayloadLevel {
  return STRICTNESS.find((level) => levels.includes(level)) ?? 'metadata'
}

/** Stands where a value was. */
const WITHHELD = '[withheld]'
const VALUES: ReadonlySet<string> = new Set(['args', 'vars', 'reads'])

/**
 * A trace as JSON text without the values in it: names stay, and so do truth values and the reasons of the decision, which
 * the row holds anyway.
 */
export function withoutValues(traceText: string, reasons: readonly string[]): string {
  const known = new Set(reasons)
  return JSON.stringify(JSON.parse(traceText), (name: string, member: unknown) => {
    if (VALUES.has(name)) return withheldMembers(member)
    return name === 'value' ? withheldValue(member, known) : member
  })
}

function withheldMembers(members: unknown): unknown {
  if (typeof members !== 'object' || members === null) return WITHHELD
  return Object.fromEntries(Object.keys(members).map((name) => [name, WITHHELD]))
}

function withheldValue(value: unknown, reasons: ReadonlySet<string>): unknown {
  const isKnown = (one: unknown) =>
    typeof one === 'boolean' || (typeof one === 'string' && reasons.has(one)) || one === WITHHELD
  return isKnown(value) || (Array.isArray(value) && value.every(isKnown)) ? value : WITHHELD
}

/** Limits without what they count by, which may be an argument. */
export function withoutKeys(limits: readonly Limit[]): readonly unknown[] {
  return limits.map(({ key, ...facts }) => facts)
}
