/** The statement that charges a queue of calls at once, as text on the way there and on the way back. Pure. */
import { RateLimiterRes } from 'rate-limiter-flexible'
import type { Charge } from './limit.ts'

/** Charges of one call, in the order they are reported in. */
export type Call = readonly Charge[]

/** `$1`.. of {@link CHARGE_STATEMENT}. Lists travel as PostgreSQL array text; keys are base64url, so nothing needs quotes. */
export type BatchParameters = readonly string[]

/** The one row that {@link CHARGE_STATEMENT} answers. */
export interface BatchRow {
  readonly allowed: string
  readonly consumed: string
  readonly ends: string
  readonly now_ms: string
}

/** Whether a call was let through, and the state of its counters in the order of its charges. */
export interface Counted {
  readonly allowed: boolean
  readonly results: readonly RateLimiterRes[]
}

/** Prepared once per connection. What the function does stands in the migration that makes it. */
export const CHARGE_STATEMENT = {
  name: 'rate-charge-1',
  text: `select allowed::text, consumed::text, ends::text, now_ms::text
    from rate_charge($1::text[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::boolean[], $7::int[])`,
} as const

const CALENDAR_SPAN = { day: '-1', month: '-2' } as const

/** A queue of calls as parameters, and how to read the answer. */
export interface Batch {
  readonly parameters: BatchParameters
  /** What became of each call, in their order. Throws when the row is not an answer to this batch. */
  parse(row: BatchRow | undefined): readonly Counted[]
}

/** @param calls at least one, each with at least one charge and no counter twice */
export function toBatch(calls: readonly Call[]): Batch {
  const positions = new Map<string, number>()
  const spans: string[] = []
  const keyAt: number[] = []
  const callEnds: number[] = []
  const charges = calls.flat()
  for (const charge of charges) keyAt.push(position(charge))
  for (const call of calls) callEnds.push((callEnds.at(-1) ?? 0) + call.length)

  /** Index of the charge's counter, from 1. */
  function position(charge: Charge): number {
    const known = positions.get(charge.counter)
    if (known !== undefined) return known
    spans.push(charge.calendar === null ? `${charge.windowS}000` : CALENDAR_SPAN[charge.calendar])
    positions.set(charge.counter, spans.length)
    return spans.length
  }

  const costs = charges.map((charge) => charge.cost)
  const maxima = charges.map((charge) => charge.limit)
  const enforced = charges.map((charge) => (charge.mode === 'enforce' ? 't' : 'f'))
  const lists = [[...positions.keys()], spans, keyAt, costs, maxima, enforced, callEnds]
  return {
    parameters: lists.map((list) => `{${list.join(',')}}`),
    parse: (row) => parseRow(row, calls, keyAt, spans.length),
  }
}

function parseRow(
  row: BatchRow | undefined,
  calls: readonly Call[],
  keyAt: readonly number[],
  keyCount: number,
): readonly Counted[] {
  if (row === undefined) throw new Error('the answer of rate_charge is empty')
  const allowed = parseList(row.allowed, calls.length)
  const consumed = parseList(row.consumed, keyAt.length)
  const ends = parseList(row.ends, keyCount)
  const nowMs = Number(row.now_ms)
  let part = 0
  return calls.map((call, at) => {
    const isAllowed = allowed[at] === 't'
    const results = call.map((charge) => {
      const end = ends[(keyAt[part] as number) - 1]
      const result = toResult(charge, Number(consumed[part]), Math.max(0, Number(end) - nowMs), isAllowed)
      part += 1
      return result
    })
    return { allowed: isAllowed, results }
  })
}

function toResult(
  { limit, cost }: Charge,
  consumed: number,
  resetMs: number,
  isAllowed: boolean,
): RateLimiterRes {
  return new RateLimiterRes(Math.max(limit - consumed, 0), resetMs, consumed, isAllowed && consumed === cost)
}

/** The elements of an array's text: numbers and booleans, so without quotes. */
function parseList(text: string, length: number): readonly string[] {
  const list = text.slice(1, -1).split(',')
  if (list.length !== length) throw new Error('the answer of rate_charge does not fit the question')
  return list
}
