/** API keys in the database: one function per operation. Every change is announced to all gateways in the same statement. */
import type { Pool } from 'pg'
import { UsageError } from '../errors.ts'
import type { KeyKind, KeySettings } from './key-settings.ts'
import { checkExpiry, checkKeySettings } from './key-settings.ts'
import { newKey, newKeyId } from './key-text.ts'

/** A key as people may see it: nothing secret in it. */
export interface ApiKey extends KeySettings {
  readonly id: string
  readonly createdAt: Date
  readonly rotatedAt: Date | null
  readonly revokedAt: Date | null
  /** Until then the secret before the last rotation is accepted as well. */
  readonly overlapUntil: Date | null
}

/** A made or rotated key. `text` is the key itself: show it once, keep it nowhere. */
export interface IssuedKey {
  readonly key: ApiKey
  readonly text: string
  /** Number of the announced change, for `waitUntilApplied`. */
  readonly changeSeq: bigint
}

export type KeyState = 'active' | 'expired' | 'revoked'

type Db = Pick<Pool, 'query'>

/** Topic of the change feed; its subjects are key ids. */
export const KEYS_TOPIC = 'keys'

/** More are not listed at once. */
export const MAX_LISTED = 10_000
const MAX_OVERLAP_MS = 30 * 24 * 3_600_000

const VISIBLE = `id, name, kind, roles, tenant, teams, scopes, claims, created_at, rotated_at, expires_at, revoked_at,
  previous_until`

interface VisibleRow {
  readonly id: string
  readonly name: string | null
  readonly kind: KeyKind
  readonly roles: string[]
  readonly tenant: string | null
  readonly teams: string[]
  readonly scopes: string[]
  readonly claims: Record<string, unknown>
  readonly created_at: Date
  readonly rotated_at: Date | null
  readonly expires_at: Date | null
  readonly revoked_at: Date | null
  readonly previous_until: Date | null
}

interface ChangedRow extends VisibleRow {
  readonly seq: string
}

/** Makes a key. Throws UsageError `usage` for settings against the rules. */
export async function createKey(db: Db, settings: KeySettings, nowMs: number): Promise<IssuedKey> {
  checkKeySettings(settings, nowMs)
  const fresh = newKey(newKeyId())
  const { rows } = await db.query<ChangedRow>(
    `with made as (
       insert into api_keys (id, name, kind, roles, tenant, teams, scopes, claims, secret_sha256, expires_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning *)
     select ${VISIBLE}, record_change('${KEYS_TOPIC}', id) as seq from made`,
    [
      fresh.id,
      settings.name,
      settings.kind,
      settings.roles,
      settings.tenant,
      settings.teams,
      settings.scopes,
      JSON.stringify(settings.claims),
      fresh.sha256,
      settings.expiresAt,
    ],
  )
  return issued(rows, fresh.text)
}

/** What {@link rotateKey} may be told. */
export interface RotateOptions {
  /** How long the old secret stays good, ms; 0 = it ends now. At most 30 days. */
  readonly overlapMs: number
  /** New end of life; absent = as it was. */
  readonly expiresAt?: Date | null
}

/** Gives a key a new secret; its id and all it stands for stay. Throws UsageError `not_found` when it is not active. */
export async function rotateKey(
  db: Db,
  id: string,
  options: RotateOptions,
  nowMs: number,
): Promise<IssuedKey> {
  const { overlapMs, expiresAt } = options
  if (!Number.isFinite(overlapMs) || overlapMs < 0 || overlapMs > MAX_OVERLAP_MS) {
    throw new UsageError('usage', 'overlap: must be between 0 and 30 days.')
  }
  if (expiresAt !== undefined) checkExpiry(expiresAt, nowMs)
  const fresh = newKey(id)
  const { rows } = await db.query<ChangedRow>(
    `with rotated as (
       update api_keys set
         previous_sha256 = case when $3::float8 > 0 then secret_sha256 end,
         previous_until = case when $3::float8 > 0 then now() + $3::float8 * interval '1 millisecond' end,
         secret_sha256 = $2,
         rotated_at = now(),
         expires_at = case when $4 then $5::timestamptz else expires_at end
       where id = $1 and revoked_at is null and (expires_at is null or expires_at > now()) returning *)
     select ${VISIBLE}, record_change('${KEYS_TOPIC}', id) as seq from rotated`,
    [id, fresh.sha256, overlapMs, expiresAt !== undefined, expiresAt ?? null],
  )
  if (rows.length === 0) {
    throw new UsageError('not_found', `Key ${id} does not exist, has expired or was revoked: make a new one.`)
  }
  return issued(rows, fresh.text)
}

/** Ends a key for good. Returns the change's number, or null when there was nothing to end. */
export async function revokeKey(db: Db, id: string): Promise<bigint | null> {
  const seqs = await revoke(db, 'id = $1', [id])
  return seqs.at(-1) ?? null
}

/** Ends all active keys with this principal name. Returns the changes' numbers. */
export async function revokeKeysNamed(db: Db, name: string): Promise<readonly bigint[]> {
  return await revoke(db, 'name = $1', [name])
}

/** The keys, newest first, at most 10,000; only active ones unless `includeEnded`. */
export async function listKeys(db: Db, options: { readonly includeEnded: boolean }): Promise<ApiKey[]> {
  const { rows } = await db.query<VisibleRow>(
    `select ${VISIBLE} from api_keys
     where $1 or (revoked_at is null and (expires_at is null or expires_at > now()))
     order by created_at desc, id limit ${MAX_LISTED}`,
    [options.includeEnded],
  )
  return rows.map(toApiKey)
}

/** The one key whose id begins like this (`gwk_` in front or not). Throws UsageError `not_found` or `usage`. */
export async function findKey(db: Db, prefix: string): Promise<ApiKey> {
  const id = prefix.replace(/^gwk_/, '')
  if (!/^[a-z0-9]{1,12}$/.test(id)) {
    // Not echoed: it may be a whole key, pasted by mistake.
    throw new UsageError(
      'usage',
      'A key is named by its id or the beginning of it: at most 12 small letters and digits.',
    )
  }
  const { rows } = await db.query<VisibleRow>(
    `select ${VISIBLE} from api_keys where starts_with(id, $1) order by id limit 3`,
    [id],
  )
  const [first, second] = rows
  if (first === undefined) throw new UsageError('not_found', `No key has an id that begins with ${id}.`)
  if (second !== undefined) {
    const some = rows.map((row) => row.id).join(', ')
    throw new UsageError(
      'usage',
      `Several keys have an id that begins with ${id} (${some}): give more of it.`,
    )
  }
  return toApiKey(first)
}

/** How many keys are active now. 0 = nobody can get in by a key. */
export async function countKeys(db: Db): Promise<number> {
  const { rows } = await db.query<{ count: string }>(
    `select count(*) as count from api_keys
     where revoked_at is null and (expires_at is null or expires_at > now())`,
  )
  return Number(rows[0]?.count ?? 0)
}

/** Revoked beats expired. */
export function keyState(key: ApiKey, nowMs: number): KeyState {
  if (key.revokedAt !== null) return 'revoked'
  return key.expiresAt !== null && key.expiresAt.getTime() <= nowMs ? 'expired' : 'active'
}

async function revoke(db: Db, condition: string, values: readonly string[]): Promise<bigint[]> {
  const { rows } = await db.query<{ seq: string }>(
    `with ended as (
       update api_keys set revoked_at = now(), previous_sha256 = null, previous_until = null
       where ${condition} and revoked_at is null returning id)
     -- All rows are changed (sorting needs them all) before the first change is announced, which takes a lock.
     select record_change('${KEYS_TOPIC}', id) as seq from (select id from ended order by id) as sorted`,
    [...values],
  )
  return rows.map((row) => BigInt(row.seq))
}

function issued(rows: readonly ChangedRow[], text: string): IssuedKey {
  const row = rows[0]
  if (row === undefined) throw new Error('the database returned no row for a key it has just stored')
  return { key: toApiKey(row), text, changeSeq: BigInt(row.seq) }
}

function toApiKey(row: VisibleRow): ApiKey {
  return {
    id: row.id,
    name: row.name,
    kind: row.kind,
    roles: row.roles,
    tenant: row.tenant,
    teams: row.teams,
    scopes: row.scopes,
    claims: row.claims,
    createdAt: row.created_at,
    rotatedAt: row.rotated_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    overlapUntil: row.previous_until,
  }
}
