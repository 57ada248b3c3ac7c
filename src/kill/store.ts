/** Kill switches in the database: one function per operation. Every change is announced to all gateways in the same statement. */
import type { Pool } from 'pg'
import { UsageError } from '../errors.ts'

/** What a switch stops. */
export type KillTarget =
  | { readonly kind: 'server'; readonly name: string }
  /** `server` null: the tool of that name on every server. */
  | { readonly kind: 'tool'; readonly name: string; readonly server: string | null }

/** One entry of the list of what was done. */
export interface KillEntry {
  readonly target: KillTarget
  readonly action: 'kill' | 'unkill'
  /** Always there for a kill. */
  readonly reason: string | null
  readonly at: Date
  /** End of the switch; null = until somebody ends it. */
  readonly until: Date | null
  readonly actor: string
  /** The database role that wrote it. */
  readonly dbUser: string
  /** Whether it is in force now. */
  readonly isActive: boolean
}

/** A switch that is in force. */
export interface ActiveKill {
  readonly target: KillTarget
  readonly reason: string
  readonly actor: string
  readonly until: Date | null
  /** ms from the moment of the reading; null = no end. By the database's clock alone. */
  readonly remainingMs: number | null
}

type Db = Pick<Pool, 'query'>

/** Topic of the change feed; its subjects are `server NAME` or `tool NAME`. */
export const KILLS_TOPIC = 'kills'

/** What PostgreSQL does not store. */
const LONE_SURROGATE = /\p{Surrogate}/u
/** More than anybody switches by hand; every gateway holds all of them in memory. */
const MAX_ACTIVE = 10_000
const MAX_SUBJECT = 200
/** Entries shown by `listKills` at most. */
export const MAX_KILLS_LISTED = 1000

/** Longest and shortest time of a switch, ms. */
export const KILL_BOUNDS = { minMs: 1000, maxMs: 366 * 24 * 3_600_000, reasonCharacters: 1000 } as const

const NEWEST = `select distinct on (kind, name, server) * from kill_switches order by kind, name, server, seq desc`
const IN_FORCE = `action = 'kill' and (until is null or until > now())`

interface KillRow {
  readonly kind: 'tool' | 'server'
  readonly server: string | null
  readonly name: string
  readonly action: 'kill' | 'unkill'
  readonly reason: string | null
  readonly at: Date
  readonly until: Date | null
  readonly actor: string
  readonly db_user: string
  readonly is_active: boolean
}

/** What {@link kill} is told. */
export interface KillOrder {
  readonly target: KillTarget
  readonly reason: string
  /** null = until somebody ends it. */
  readonly forMs: number | null
  /** Who does it. */
  readonly actor: string
}

/** Puts a switch in force; one that is there already gets this reason and this end. Throws UsageError `usage`. */
export async function kill(db: Db, order: KillOrder): Promise<{ seq: bigint; until: Date | null }> {
  const { target, reason, forMs, actor } = order
  checkTarget(target)
  checkReason(reason)
  checkTime(forMs)
  await refuseTooMany(db)
  const { rows } = await db.query<{ seq: string; until: Date | null }>(
    `insert into kill_switches (seq, action, kind, server, name, reason, until, actor)
     values (record_change('${KILLS_TOPIC}', $1), 'kill', $2, $3, $4, $5,
       now() + $6::float8 * interval '1 millisecond', $7)
     returning seq, until`,
    [subjectOf(target), target.kind, serverOf(target), target.name, reason.trim(), forMs, actor],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('the database returned no row for a switch it has just stored')
  return { seq: BigInt(row.seq), until: row.until }
}

/** Ends a switch. Returns the change's number, or null when none was in force. Throws UsageError `usage`. */
export async function unkill(
  db: Db,
  order: Pick<KillOrder, 'target' | 'actor'> & { readonly reason: string | null },
): Promise<bigint | null> {
  const { target, reason, actor } = order
  checkTarget(target)
  if (reason !== null) checkReason(reason)
  const { rows } = await db.query<{ seq: string }>(
    `with newest as (
       select * from kill_switches where kind = $2 and name = $4 and server is not distinct from $3
       order by seq desc limit 1)
     insert into kill_switches (seq, action, kind, server, name, reason, actor)
     select record_change('${KILLS_TOPIC}', $1), 'unkill', kind, server, name, $5, $6 from newest where ${IN_FORCE}
     returning seq`,
    [subjectOf(target), target.kind, serverOf(target), target.name, reason?.trim() ?? null, actor],
  )
  return rows[0] === undefined ? null : BigInt(rows[0].seq)
}

/** All switches in force, for the gateways' memory. */
export async function loadActiveKills(db: Db): Promise<ActiveKill[]> {
  const { rows } = await db.query<KillRow & { readonly remaining_ms: number | null }>(
    `select kind, server, name, reason, actor, until, extract(epoch from until - now())::float8 * 1000 as remaining_ms
     from (${NEWEST}) as newest where ${IN_FORCE}`,
  )
  return rows.map((row) => ({
    target: toTarget(row),
    reason: row.reason ?? '',
    actor: row.actor,
    until: row.until,
    remainingMs: row.remaining_ms,
  }))
}

/** Newest first, at most {@link MAX_KILLS_LISTED}: the switches in force, or with `includeEnded` all that was ever done. */
export async function listKills(db: Db, options: { readonly includeEnded: boolean }): Promise<KillEntry[]> {
  const newest = `select seq from (${NEWEST}) as newest where ${IN_FORCE}`
  const { rows } = await db.query<KillRow>(
    `select *, seq in (${newest}) as is_active from kill_switches
     where $1 or seq in (${newest}) order by seq desc limit ${MAX_KILLS_LISTED}`,
    [options.includeEnded],
  )
  return rows.map((row) => ({
    target: toTarget(row),
    action: row.action,
    reason: row.reason,
    at: row.at,
    until: row.until,
    actor: row.actor,
    dbUser: row.db_user,
    isActive: row.is_active,
  }))
}

async function refuseTooMany(db: Db): Promise<void> {
  const { rows } = await db.query<{ count: string }>(
    `select count(*) as count from (${NEWEST}) as newest where ${IN_FORCE}`,
  )
  if (Number(rows[0]?.count ?? 0) < MAX_ACTIVE) return
  throw new UsageError(
    'usage',
    `${MAX_ACTIVE} kill switches are in force, which is the most: kill whole servers, or end some first.`,
  )
}

function checkTarget(target: KillTarget): void {
  checkName(target.kind, target.name, target.kind === 'server' ? 512 : 1024)
  const server = serverOf(target)
  if (server !== null) checkName('server', server, 512)
}

function checkName(what: string, name: string, maxBytes: number): void {
  const bytes = Buffer.byteLength(name)
  if (bytes >= 1 && bytes <= maxBytes && !name.includes('\0') && !LONE_SURROGATE.test(name)) return
  throw new UsageError('usage', `The name of a ${what} must have between 1 and ${maxBytes} bytes of text.`)
}

function checkReason(reason: string): void {
  const { reasonCharacters } = KILL_BOUNDS
  const characters = [...reason.trim()].length
  if (
    characters >= 1 &&
    characters <= reasonCharacters &&
    !reason.includes('\0') &&
    !LONE_SURROGATE.test(reason)
  )
    return
  throw new UsageError('usage', `--reason: write between 1 and ${reasonCharacters} characters.`)
}

function checkTime(forMs: number | null): void {
  const { minMs, maxMs } = KILL_BOUNDS
  if (forMs === null || (Number.isFinite(forMs) && forMs >= minMs && forMs <= maxMs)) return
  throw new UsageError('usage', '--for: must be between one second and 366 days.')
}

function serverOf(target: KillTarget): string | null {
  return target.kind === 'tool' ? target.server : null
}

/** For people who read the table `changes`; the gateways read all switches whatever it says. */
function subjectOf(target: KillTarget): string {
  return `${target.kind} ${target.name}`.slice(0, MAX_SUBJECT).replace(/\p{Surrogate}/gu, '')
}

function toTarget({ kind, name, server }: KillRow): KillTarget {
  return kind === 'server' ? { kind, name } : { kind, name, server }
}
