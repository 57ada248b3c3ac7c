/**
 * Following the log. What is new is told by (writer, seq), never by `ts`: that is when a call began, and a row of a long
 * call, or one that waited for the database, is stored long after rows of later calls. A writer commits in order of `seq`.
 */
import type { Pool } from 'pg'
import type { RowFilter } from './filter.ts'
import { toCondition } from './filter.ts'
import type { RowSummary } from './query.ts'
import { SUMMARY } from './query.ts'
import { sqlState } from './store.ts'

type Db = Pick<Pool, 'query'>

/** How far a follower has read: the last `seq` seen of each writer. */
export type Position = ReadonlyMap<string, string>

/** Where following begins. */
export interface Start {
  readonly position: Position
  /** A day before the start, by the database's clock. Does not move while one follows, so every row is on one side of it. */
  readonly horizon: Date
}

/** Rows whose call began after the horizon, or those that began before: to look for the latter is to look at every day there is. */
export type Side = 'recent' | 'old'

/** One look. */
export interface Followed {
  /** What matches, in order of `ts`. */
  readonly rows: readonly RowSummary[]
  readonly position: Position
  /** A writer has more than one look takes: look again at once. */
  readonly more: boolean
}

const FOLLOW_BATCH = 500

/** Where every writer is now; a follower starts from here. */
export async function startNow(db: Db): Promise<Start> {
  const { rows } = await db.query<{ writer: string | null; seq: string; horizon: Date }>(
    `${writers('true')} select w.writer, (select max(seq) from audit_events e where e.writer = w.writer) as seq,
       now() - interval '1 day' as horizon from w`,
  )
  const position = new Map<string, string>()
  for (const { writer, seq } of rows) if (writer !== null) position.set(writer, seq)
  // In an empty log everything is still to come, and recent.
  return { position, horizon: rows[0]?.horizon ?? new Date(0) }
}

/** Rows of one side stored since `position` that match, each once. */
export async function rowsSince(
  db: Db,
  { position, horizon }: Start,
  filter: RowFilter,
  side: Side = 'recent',
): Promise<Followed> {
  const { sql, values } = toCondition(filter, 3)
  const within = SIDES[side]
  const { rows } = await db.query<RowSummary & { wanted: boolean }>(
    `${writers(within)} select found.* from w
     left join unnest($1::uuid[], $2::bigint[]) as seen (writer, seq) on seen.writer = w.writer
     cross join lateral (
       select ${SUMMARY}, (${sql}) as wanted from audit_events e
       where e.writer = w.writer and e.seq > coalesce(seen.seq, 0) and ${within}
       order by e.seq limit ${FOLLOW_BATCH}
     ) found where w.writer is not null`,
    [[...position.keys()], [...position.values()], horizon, ...values],
  )
  const next = new Map(position)
  const counts = new Map<string, number>()
  for (const { writer, seq } of rows) {
    counts.set(writer, (counts.get(writer) ?? 0) + 1)
    if (BigInt(seq) > BigInt(next.get(writer) ?? 0)) next.set(writer, seq)
  }
  const wanted = rows.filter((row) => row.wanted).map(({ wanted: _wanted, ...row }) => row)
  return {
    rows: wanted.sort((left, right) => left.ts.getTime() - right.ts.getTime()),
    position: next,
    more: [...counts.values()].some((count) => count >= FOLLOW_BATCH),
  }
}

const SIDES = { recent: 'e.ts > $3::timestamptz', old: 'e.ts <= $3::timestamptz' } as const

/** Hops over the index from one writer to the next instead of reading their rows. */
function writers(within: string): string {
  return `with recursive w (writer) as (
  (select e.writer from audit_events e where ${within} order by e.writer limit 1)
  union all
  select (select e.writer from audit_events e where e.writer > w.writer and ${within} order by e.writer limit 1)
  from w where w.writer is not null)`
}

/** How following goes on. */
export interface FollowOptions {
  readonly filter: RowFilter
  /** Ends it. */
  readonly signal: AbortSignal
  readonly monotonicMs: () => number
  /** Resolves after so many milliseconds, or when the signal is aborted. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>
  readonly onRows: (rows: readonly RowSummary[]) => Promise<void>
  /** The database does not answer; null: it does again. */
  readonly onTrouble: (error: Error | null) => void
}

const POLL_MS = 500
/** Rows of calls that began more than a day before are rare: of a spool that waited, of a stream that has just ended. */
const SWEEP_MS = 30_000

/** Hands over what is stored from `start` on, until it is told to end. A database that goes away is waited for. */
export async function follow(db: Db, start: Start, options: FollowOptions): Promise<void> {
  const { signal, monotonicMs } = options
  const { horizon } = start
  // Each side has a position of its own: rows of the other one must not move it past what it has not seen.
  const positions: Record<Side, Position> = { recent: start.position, old: start.position }
  let sweptAt = monotonicMs()
  let isDown = false
  const look = async (side: Side): Promise<boolean> => {
    const found = await rowsSince(db, { position: positions[side], horizon }, options.filter, side).catch(
      toTrouble,
    )
    const trouble = found instanceof Error ? found : null
    if ((trouble !== null) !== isDown) options.onTrouble(trouble)
    isDown = trouble !== null
    if (found instanceof Error) return false
    positions[side] = found.position
    await options.onRows(found.rows)
    return found.more
  }
  while (!signal.aborted) {
    let more = await look('recent')
    if (!isDown && monotonicMs() - sweptAt >= SWEEP_MS) {
      more = (await look('old')) || more
      if (!isDown) sweptAt = monotonicMs()
    }
    if (!more) await options.pause(POLL_MS, signal)
  }
}

/** The error when waiting may mend it; throws every other one. */
function toTrouble(error: unknown): Error {
  if (!(error instanceof Error)) throw error
  const { code } = error as Error & { readonly code?: unknown }
  const isServer = /^(08|53|57)/.test(sqlState(error) ?? '')
  const isNetwork = typeof code === 'string' && /^E[A-Z]{3,}$/.test(code)
  if (isServer || isNetwork || /^(Connection terminated|timeout)|timeout expired/.test(error.message))
    return error
  throw error
}
