/**
 * Removes whole days of rows that are older than they have to be kept: archive, detach, record, drop. Works as the role that
 * owns the tables; the role the gateway works as could not, and must not be able to.
 *
 * Each day is finished before the next one begins, and whatever ends it half way leaves it whole or detached: the next run
 * goes on from there. A row is in the table or in the archive at every moment.
 */

import type { ClientBase } from 'pg'
import { escapeIdentifier } from 'pg'
import type { Archive } from './archive.ts'
import { archiveDay } from './archive.ts'

type Db = Pick<ClientBase, 'query'>

/** An unbroken run of what one writer stored on a day. Sequence numbers are decimal text, leaves hex. */
export interface RetiredSpan {
  readonly writer: string
  readonly rows: number
  readonly fromSeq: string
  readonly toSeq: string
  readonly lastLeaf: string | null
}

/** A day that is removed. */
export interface RetiredDay {
  /** `YYYY-MM-DD`, UTC. */
  readonly day: string
  readonly rows: number
  /** On disk, with indexes. */
  readonly bytes: number
  readonly spans: readonly RetiredSpan[]
  readonly archive: Archive | null
}

/** Keeps a record of what went, in the transaction that drops it: both happen, or neither. */
export type RecordRetirement = (db: Db, day: RetiredDay) => Promise<void>

/** What {@link retireDays} needs. */
export interface RetentionOptions {
  /** A connection of its own, as the owner of the tables, not in a transaction, with a lock timeout. */
  readonly db: Db
  /** At least 1. */
  readonly keepDays: number
  /** Wall clock, ms. A day goes only when this clock and the database's agree that it is old. */
  readonly nowMs: number
  /** null = no archive. */
  readonly archiveFolder: string | null
  readonly recordRetirement: RecordRetirement
  /** Told of every day that has gone. */
  readonly onRetired?: (day: RetiredDay) => void
}

/** A day that is old enough. */
export interface OldDay {
  /** `YYYY-MM-DD`, UTC. */
  readonly day: string
  /** Estimate of the server's statistics; null = never looked at. */
  readonly rows: number | null
  readonly bytes: number
}

interface DayTable extends OldDay {
  /** Quoted for SQL, with its schema. */
  readonly table: string
  readonly state: 'attached' | 'detaching' | 'detached'
}

const RETENTION_LOCK = '7238512046114191'
const DAY_MS = 86_400_000

/** The days that would go, oldest first. Changes nothing. */
export async function oldDays(db: Db, keepDays: number, nowMs: number): Promise<readonly OldDay[]> {
  return (await oldTables(db, keepDays, nowMs)).map(({ day, rows, bytes }) => ({ day, rows, bytes }))
}

/** Whether this role may remove days. */
export async function mayRetire(db: Db): Promise<boolean> {
  const { rows } = await db.query<{ may: boolean }>(
    `select pg_has_role(relowner, 'MEMBER') as may from pg_class where oid = 'audit_events'::regclass`,
  )
  return rows[0]?.may === true
}

/**
 * Removes the days that are old enough; null when another process is doing so. @throws Error of the first day that could not
 * be removed; those before it are gone, it and those after it stay
 */
export async function retireDays(options: RetentionOptions): Promise<readonly RetiredDay[] | null> {
  const { db } = options
  const { rows } = await db.query<{ held: boolean }>(`select pg_try_advisory_lock(${RETENTION_LOCK}) as held`)
  if (rows[0]?.held !== true) return null
  try {
    const retired: RetiredDay[] = []
    for (const table of await oldTables(db, options.keepDays, options.nowMs)) {
      const day = await retireDay(options, table)
      options.onRetired?.(day)
      retired.push(day)
    }
    return retired
  } finally {
    await db.query(`select pg_advisory_unlock(${RETENTION_LOCK})`)
  }
}

/**
 * The archive is made while the day can still be read by everybody, so that one that fails changes nothing. Rows that came in
 * meanwhile (a gateway that was away for months) are seen once the day is detached, and then it is archived again.
 */
async function retireDay(options: RetentionOptions, table: DayTable): Promise<RetiredDay> {
  const before = table.state === 'attached' ? await readDay(options, table) : null
  await detach(options.db, table)
  const after = before === null ? null : await spansOf(options.db, table)
  const seen = before !== null && isSame(before.spans, after ?? []) ? before : await readDay(options, table)
  const day = { ...seen, day: table.day, bytes: table.bytes }
  await drop(options, table, day)
  return day
}

async function readDay({ db, archiveFolder }: RetentionOptions, { table, day }: DayTable) {
  await db.query('begin isolation level repeatable read read only')
  try {
    await refuseOtherDays(db, table, day)
    const spans = await spansOf(db, { table })
    const rows = spans.reduce((sum, span) => sum + span.rows, 0)
    const archive =
      archiveFolder === null ? null : await archiveDay(db, { table, day, folder: archiveFolder })
    if (archive !== null && archive.rows !== rows) {
      throw new Error(`the archive of ${day} holds ${archive.rows} rows, the table ${rows}`)
    }
    await db.query('commit')
    return { spans, rows, archive }
  } catch (error) {
    await db.query('rollback').catch(() => undefined)
    throw error
  }
}

async function spansOf(db: Db, { table }: Pick<DayTable, 'table'>): Promise<readonly RetiredSpan[]> {
  const { rows } = await db.query<RetiredSpan>(
    `select writer::text, count(*)::float8 as rows, min(seq)::text as "fromSeq", max(seq)::text as "toSeq",
       encode((array_agg(leaf order by seq desc))[1], 'hex') as "lastLeaf"
     from (select writer, seq, leaf, seq - row_number() over (partition by writer order by seq) as run from ${table}) as numbered
     group by writer, run order by writer, min(seq)`,
  )
  return rows
}

/** A table is known by its name, which somebody may have given it by hand. */
async function refuseOtherDays(db: Db, table: string, day: string): Promise<void> {
  const { rows } = await db.query<{ found: boolean }>(
    `select exists (select from ${table} where ts < $1::timestamptz or ts >= $1::timestamptz + interval '24 hours') as found`,
    [`${day} 00:00:00+00`],
  )
  if (rows[0]?.found !== false) throw new Error(`${table} holds rows of other days than ${day}`)
}

/** Rows are only ever added, so counts and ends tell whether any were. */
function isSame(before: readonly RetiredSpan[], after: readonly RetiredSpan[]): boolean {
  return JSON.stringify(before) === JSON.stringify(after)
}

/** CONCURRENTLY, so that calls go on meanwhile; one that was interrupted is finished. */
async function detach(db: Db, { table, state }: DayTable): Promise<void> {
  if (state === 'detached') return
  const how = state === 'detaching' ? 'finalize' : 'concurrently'
  await db.query(`alter table audit_events detach partition ${table} ${how}`)
}

async function drop(
  { db, recordRetirement }: RetentionOptions,
  { table }: DayTable,
  day: RetiredDay,
): Promise<void> {
  await db.query('begin')
  try {
    await recordRetirement(db, day)
    await db.query(`drop table ${table}`)
    await db.query('commit')
  } catch (error) {
    await db.query('rollback').catch(() => undefined)
    throw error
  }
}

/** Days that ended at least `keepDays` days ago, by both clocks. Those that an earlier run has left detached are among them. */
async function oldTables(db: Db, keepDays: number, nowMs: number): Promise<readonly DayTable[]> {
  if (!Number.isInteger(keepDays) || keepDays < 1) throw new RangeError('rows are kept for at least a day')
  const { rows } = await db.query<{
    schema: string
    name: string
    state: DayTable['state']
    rows: number | null
    bytes: number
    now_ms: number
  }>(
    `select n.nspname::text as schema, c.relname::text as name,
       case when i.inhrelid is null then 'detached' when i.inhdetachpending then 'detaching' else 'attached' end as state,
       case when c.reltuples < 0 then null else c.reltuples::float8 end as rows,
       pg_total_relation_size(c.oid)::float8 as bytes, extract(epoch from now())::float8 * 1000 as now_ms
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
       join pg_class parent on parent.oid = 'audit_events'::regclass
       left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = parent.oid
     where c.relkind = 'r' and c.relnamespace = parent.relnamespace and c.relowner = parent.relowner
       and c.relname ~ '^audit_events_[0-9]{8}$'
     order by c.relname`,
  )
  return rows.flatMap(({ schema, name, now_ms, ...facts }) => {
    const day = name.replace(/^.*_(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3')
    const endMs = Date.parse(`${day}T00:00:00Z`) + DAY_MS
    if (!(endMs + keepDays * DAY_MS <= Math.min(now_ms, nowMs))) return []
    return [{ ...facts, day, table: `${escapeIdentifier(schema)}.${escapeIdentifier(name)}` }]
  })
}
