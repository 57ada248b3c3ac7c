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

/** What is looked at: rows whose call began within a day, or all, which costs a look at every day there is. */
export type Reach = 'day' | 'all'

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
export async function currentPosition(db: Db): Promise<Position> {
  const { rows } = await db.query<{ writer: string; seq: string }>(
    `${writers('all')} select w.writer, (select max(seq) from audit_events e where e.writer = w.writer) as seq
     from w where w.writer is not null`,
  )
  return new Map(rows.map(({ writer, seq }) => [writer, seq]))
}

/** Rows stored since `position` that match, each once. */
export async function rowsSince(
  db: Db,
  position: Position,
  filter: RowFilter,
  reach: Reach = 'day',
): Promise<Followed> {
  const { sql, values } = toCondition(filter, 2)
  const { rows } = await db.query<RowSummary & { wanted: boolean }>(
    `${writers(reach)} select found.* from w
     left join unnest($1::uuid[], $2::bigint[]) as seen (writer, seq) on seen.writer = w.writer
     cross join lateral (
       select ${SUMMARY}, (${sql}) as wanted from audit_events e
       where e.writer = w.writer and e.seq > coalesce(seen.seq, 0) and ${REACHES[reach]}
       order by e.seq limit ${FOLLOW_BATCH}
     ) found where w.writer is not null`,
    [[...position.keys()], [...position.values()], ...values],
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

const REACHES = { day: "e.ts > now() - interval '1 day'", all: 'true' } as const

/** Hops over the index from one writer to the next instead of reading their rows. */
function writers(reach: Reach): string {
  const within = REACHES[reach]
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
/** Rows of calls that began more than a day ago are rare: a spool that waited, a stream that has just ended. */
const SWEEP_MS = 30_000

/** Hands over what is stored from `start` on, until it is told to end. A database that goes away is waited for. */
export async function follow(db: Db, start: Position, options: FollowOptions): Promise<void> {
  const { signal, monotonicMs } = options
  let position = start
  let sweptAt = monotonicMs()
  let isDown = false
  const look = async (): Promise<boolean> => {
    const now = monotonicMs()
    const reach = now - sweptAt >= SWEEP_MS ? 'all' : 'day'
    const found = await rowsSince(db, position, options.filter, reach).catch(toTrouble)
    const trouble = found instanceof Error ? found : null
    if ((trouble !== null) !== isDown) options.onTrouble(trouble)
    isDown = trouble !== null
    if (found instanceof Error) return false
    if (reach === 'all') sweptAt = now
    position = found.position
    await options.onRows(found.rows)
    return found.more
  }
  while (!signal.aborted) {
    const more = await look()
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
