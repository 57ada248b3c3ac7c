/** Which of the rows that are missing were dropped because of their age. */
import { readRetirements } from './chain-reader.ts'
import type { Retirement } from './signing.ts'
import { checkRetirement } from './signing.ts'
import type { VerifyContext } from './tamper.ts'

/** What the records of retirement say about a span of missing rows. */
export interface Covered {
  /** The last record that counts; the next row stands on its last leaf. */
  readonly last: Retirement | null
  /** Missing rows before `last` that no record covers. */
  readonly holes: readonly { readonly from: bigint; readonly to: bigint }[]
}

/** Reads and checks the records. One that is not as it was signed is a finding and does not count. */
export async function coverRetired(
  context: VerifyContext,
  writer: string,
  from: bigint,
  to: bigint,
): Promise<Covered> {
  const holes: { from: bigint; to: bigint }[] = []
  let last: Retirement | null = null
  let next = from
  for (const retirement of await readRetirements(context.db, writer, from, to)) {
    if (!isTrusted(context, retirement)) continue
    const [first, end] = [BigInt(retirement.fromSeq), BigInt(retirement.toSeq)]
    // It may not speak of rows that are still there.
    if (end > to || first < from) continue
    if (first > next) holes.push({ from: next, to: first - 1n })
    context.counts.retired += retirement.rows
    if (retirement.signature === null) context.counts.retiredUnsigned += retirement.rows
    last = retirement
    next = end + 1n
  }
  return { last, holes }
}

/** Where nobody signs, nobody can have signed this. */
function isTrusted(context: VerifyContext, retirement: Retirement): boolean {
  const state = checkRetirement(retirement, context.keys)
  if (state === 'valid' || (state === 'unsigned' && context.keys.size === 0)) return true
  const { writer, fromSeq, toSeq } = retirement
  const why = state === 'unsigned' ? 'bears no signature' : 'is not as it was signed'
  context.find({
    ...{ kind: 'retirement', writer, seq: fromSeq, to: toSeq, id: null },
    text: `The record of the retirement of rows ${fromSeq} to ${toSeq} of writer ${writer} ${why}.`,
  })
  return false
}
