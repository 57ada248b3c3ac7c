/** All keys of the database in memory: verifying one costs a hash and a look into a Map, however many there are. */
import { timingSafeEqual } from 'node:crypto'
import type { Pool } from 'pg'
import type { Principal } from '../gateway/types.ts'
import type { KeyKind } from './key-settings.ts'
import type { PresentedKey } from './key-text.ts'

/** What verifying a presented key found. `unknown` and `wrong_secret` may only mean: not heard of it yet. */
export type Verdict =
  | { readonly kind: 'valid'; readonly principal: Principal }
  | { readonly kind: 'unknown' | 'wrong_secret' | 'revoked' | 'expired' }

/** One key as it is kept in memory. */
interface KeyEntry {
  readonly principal: Principal
  readonly sha256: Buffer
  readonly previous: { readonly sha256: Buffer; readonly untilMs: number } | null
  readonly expiresAtMs: number
  readonly isRevoked: boolean
}

/** The keys in memory. */
export interface Keyring {
  verify(presented: PresentedKey, nowMs: number): Verdict
  /** The same against the database as it is now. Rejects when that cannot be asked. Changes nothing in memory. */
  verifyInDatabase(presented: PresentedKey, nowMs: () => number): Promise<Verdict>
  /** Whether a key that was valid once still is. */
  isLive(id: string, nowMs: number): boolean
  /**
   * Reads these keys (or all) from the database. What is in memory stays as it is when that fails. Only one at a time,
   * in the order of the changes: an answer that is overtaken by a newer one would bring a revoked key back.
   */
  load(ids: readonly string[] | 'all'): Promise<void>
  readonly size: number
}

interface KeyRow {
  readonly id: string
  readonly name: string | null
  readonly kind: KeyKind
  readonly roles: string[]
  readonly tenant: string | null
  readonly teams: string[]
  readonly scopes: string[]
  readonly claims: Record<string, unknown>
  readonly secret_sha256: Buffer
  readonly previous_sha256: Buffer | null
  readonly previous_until: Date | null
  readonly expires_at: Date | null
  readonly revoked_at: Date | null
}

const PAGE = 5000
const COLUMNS = `id, name, kind, roles, tenant, teams, scopes, claims, secret_sha256, previous_sha256, previous_until,
  expires_at, revoked_at`
/** Keys that ended longer ago are not kept; presenting one then counts as unknown, with the same answer. */
const KEPT = `coalesce(revoked_at, expires_at, 'infinity') > now() - interval '30 days'`
/** Compared with when there is no such key, so that an unknown id costs what a known one costs. */
const NO_KEY = Buffer.alloc(32)

/** Empty until `load('all')`. */
export function createKeyring(db: Pick<Pool, 'query'>): Keyring {
  let keys = new Map<string, KeyEntry>()

  async function loadAll(): Promise<void> {
    const fresh = new Map<string, KeyEntry>()
    for (let after = '', isMore = true; isMore; ) {
      const { rows } = await db.query<KeyRow>(
        `select ${COLUMNS} from api_keys where id > $1 and ${KEPT} order by id limit ${PAGE}`,
        [after],
      )
      for (const row of rows) fresh.set(row.id, toEntry(row))
      after = rows.at(-1)?.id ?? after
      isMore = rows.length === PAGE
    }
    keys = fresh
  }

  async function read(ids: readonly string[]): Promise<Map<string, KeyEntry>> {
    const { rows } = await db.query<KeyRow>(
      `select ${COLUMNS} from api_keys where id = any($1) and ${KEPT}`,
      [ids],
    )
    return new Map(rows.map((row) => [row.id, toEntry(row)]))
  }

  async function loadSome(ids: readonly string[]): Promise<void> {
    const found = await read(ids)
    for (const id of ids) {
      const entry = found.get(id)
      if (entry === undefined) keys.delete(id)
      else keys.set(id, entry)
    }
  }

  const lookUp = createSharedLookup(read)

  return {
    async verifyInDatabase(presented, nowMs) {
      const entry = (await lookUp(presented.id)).get(presented.id)
      return verify(entry, presented.sha256, nowMs())
    },
    verify: (presented, nowMs) => verify(keys.get(presented.id), presented.sha256, nowMs),
    isLive(id, nowMs) {
      const entry = keys.get(id)
      return entry !== undefined && !entry.isRevoked && entry.expiresAtMs > nowMs
    },
    load: (ids) => (ids === 'all' ? loadAll() : loadSome(ids)),
    get size() {
      return keys.size
    },
  }
}

/**
 * One statement at a time for all who ask: whoever comes while one is running shares the next, so a flood costs the
 * database no more than one caller does, and no answer is older than its question.
 */
function createSharedLookup<T>(
  read: (ids: readonly string[]) => Promise<Map<string, T>>,
): (id: string) => Promise<Map<string, T>> {
  let running: Promise<unknown> = Promise.resolve()
  let next: { readonly ids: Set<string>; readonly result: Promise<Map<string, T>> } | null = null
  return (id) => {
    if (next !== null) {
      next.ids.add(id)
      return next.result
    }
    const ids = new Set([id])
    const result = running.then(async () => {
      next = null
      return await read([...ids])
    })
    running = result.catch(() => undefined)
    next = { ids, result }
    return result
  }
}

function verify(entry: KeyEntry | undefined, sha256: Buffer, nowMs: number): Verdict {
  // Both comparisons are always made.
  const isCurrent = timingSafeEqual(entry?.sha256 ?? NO_KEY, sha256)
  const isPrevious = timingSafeEqual(entry?.previous?.sha256 ?? NO_KEY, sha256)
  if (entry === undefined) return { kind: 'unknown' }
  const isOverlapping = isPrevious && nowMs < (entry.previous?.untilMs ?? 0)
  if (!isCurrent && !isOverlapping) return { kind: 'wrong_secret' }
  if (entry.isRevoked) return { kind: 'revoked' }
  if (entry.expiresAtMs <= nowMs) return { kind: 'expired' }
  return { kind: 'valid', principal: entry.principal }
}

function toEntry(row: KeyRow): KeyEntry {
  const { previous_sha256, previous_until } = row
  return {
    principal: toPrincipal(row),
    sha256: row.secret_sha256,
    previous:
      previous_sha256 === null || previous_until === null
        ? null
        : { sha256: previous_sha256, untilMs: previous_until.getTime() },
    expiresAtMs: row.expires_at?.getTime() ?? Number.POSITIVE_INFINITY,
    isRevoked: row.revoked_at !== null,
  }
}

function toPrincipal(row: KeyRow): Principal {
  return Object.freeze({
    id: row.name ?? row.id,
    kind: row.kind,
    roles: row.roles,
    tenant: row.tenant,
    teams: row.teams,
    scopes: row.scopes,
    claims: row.claims,
    authMethod: 'api_key',
    apiKeyId: row.id,
  })
}
