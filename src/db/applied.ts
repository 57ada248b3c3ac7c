import type { Pool } from 'pg'

/** Which running gateways have applied a change. */
export interface AppliedReport {
  /** Names of processes that have. */
  readonly applied: readonly string[]
  /** Names of processes that had not when the wait ended. */
  readonly pending: readonly string[]
}

const POLL_MS = 50
/** A process that has not reported for this long is not running any more (it would have reported every second). */
const LIVE_WITHIN = `interval '5 seconds'`

/** Waits until every running gateway has applied the change, at most `timeoutMs`. */
export async function waitUntilApplied(
  db: Pick<Pool, 'query'>,
  seq: bigint,
  timeoutMs = 2000,
): Promise<AppliedReport> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const { rows } = await db.query<{ name: string; is_applied: boolean }>(
      `select name, applied_seq >= $1 as is_applied from gateway_processes
       where seen_at > now() - ${LIVE_WITHIN} order by name`,
      [String(seq)],
    )
    const pending = rows.filter((row) => !row.is_applied).map((row) => row.name)
    if (pending.length === 0 || performance.now() > deadline) {
      return { applied: rows.filter((row) => row.is_applied).map((row) => row.name), pending }
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Names of running gateways that serve policies of another sequence (a refused bundle, a folder). */
export async function servesOtherPolicies(
  db: Pick<Pool, 'query'>,
  sequence: number,
): Promise<readonly string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name from gateway_processes
     where seen_at > now() - ${LIVE_WITHIN} and policy_sequence is distinct from $1 order by name`,
    [sequence],
  )
  return rows.map(({ name }) => name)
}
