/** The statement that charges a queue of calls at once, as text on the way there and on the way back. Pure. */
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

/** What became of one call of a batch. */
export interface Judgement {
  readonly allowed: boolean
  /** Per charge: points in the window afterwards, and ms until it ends. */
  readonly counts: readonly { readonly consumed: number; readonly resetMs: number }[]
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
  /** One judgement per call, in their order. Throws when the row is not an answer to this batch. */
  parse(row: BatchRow | undefined): readonly Judgement[]
}

/** @param calls at least one, each with at least one charge and no counter twice */
export function toBatch(calls: readonly Call[]): Batch {
  const keys: string[] = []
  const spans: string[] = []
  const positions = new Map<string, number>()
  const [keyAt, costs, maxima, enforced, callEnds]: [number[], number[], number[], string[], number[]] = [
    [],
    [],
    [],
    [],
    [],
  ]
  for (const call of calls) {
    for (const charge of call) {
      let position = positions.get(charge.counter)
      if (position === undefined) {
        position = keys.push(charge.counter)
        spans.push(charge.calendar === null ? `${charge.windowS}000` : CALENDAR_SPAN[charge.calendar])
        positions.set(charge.counter, position)
      }
      keyAt.push(position)
      costs.push(charge.cost)
      maxima.push(charge.limit)
      enforced.push(charge.mode === 'enforce' ? 't' : 'f')
    }
    callEnds.push(keyAt.length)
  }
  const lists = [keys, spans, keyAt, costs, maxima, enforced, callEnds]
  return {
    parameters: lists.map((list) => `{${list.join(',')}}`),
    parse: (row) => parseRow(row, callEnds, keyAt, keys.length),
  }
}

function parseRow(
  row: BatchRow | undefined,
  callEnds: readonly number[],
  keyAt: readonly number[],
  keyCount: number,
): readonly Judgement[] {
  if (row === undefined) throw new Error('the answer of rate_charge is empty')
  const allowed = parseList(row.allowed, callEnds.length)
  const consumed = parseList(row.consumed, keyAt.length).map(Number)
  const nowMs = Number(row.now_ms)
  const resets = parseList(row.ends, keyCount).map((end) => Math.max(0, Number(end) - nowMs))
  let first = 0
  return callEnds.map((end, at) => {
    const counts = []
    for (let part = first; part < end; part += 1) {
      counts.push({
        consumed: consumed[part] as number,
        resetMs: resets[(keyAt[part] as number) - 1] as number,
      })
    }
    first = end
    return { allowed: allowed[at] === 't', counts }
  })
}

/** The elements of an array's text: numbers and booleans, so without quotes. */
function parseList(text: string, length: number): readonly string[] {
  const list = text.slice(1, -1).split(',')
  if (list.length !== length) throw new Error('the answer of rate_charge does not fit the question')
  return list
}
