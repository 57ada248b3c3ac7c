/** What keeps secrets out of rows besides what every row is searched for. */
import type { Call, Mask } from '../gateway/types.ts'
import type { RowPlan } from './payload.ts'
import { toKeySet } from './secrets.ts'

/** Rules of one gateway; absent = nothing more. */
export interface RowRules {
  /** Further names of members whose values are never stored, see {@link toKeySet}. */
  readonly keys?: ReadonlySet<string>
  /** Key of the digests in markers (HMAC-SHA-256). Without it markers carry none. */
  readonly hashKey?: Buffer | null
  /** Masks of one tool, whatever the policy says. */
  readonly toolMasks?: (server: string, tool: string) => readonly Mask[]
  /** Whether the policy in force has masks: then a message it was not asked about is not stored. */
  readonly policyMasks?: () => boolean
  /** How much of a row is kept, and in which form; absent = everything, readable. */
  readonly plan?: RowPlan
}

/** The rules of an audit room. */
export function toRowRules(options: {
  readonly redactKeys?: readonly string[]
  readonly redaction?: Omit<RowRules, 'keys'>
}): RowRules {
  return { ...options.redaction, keys: toKeySet(options.redactKeys ?? []) }
}

/** What is masked in a call; null = nobody knows. */
export function masksOf(call: Readonly<Call>, rules: RowRules): readonly Mask[] | null {
  const { evaluation, message } = call
  if (message === null) return []
  if (evaluation === null ? rules.policyMasks?.() === true : evaluation.maskFailure !== null) return null
  const own = evaluation?.masks ?? []
  const tool = message.method === 'tools/call' ? message.params['name'] : null
  if (rules.toolMasks === undefined || typeof tool !== 'string') return own
  return [...own, ...rules.toolMasks(call.server?.name ?? call.head.mount, tool)]
}
