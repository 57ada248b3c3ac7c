/** Policies that have served, kept so that an old row still finds its source lines. */
import { createHash } from 'node:crypto'
import type { Pool } from 'pg'
import { admitDictionary } from './compact-trace.ts'

/** What is kept of a policy. */
export interface ServedPolicy {
  /** `sha256:<hex>` of the serving module. */
  readonly digest: string
  readonly revision: string
  /** Version of OPA that compiled it. */
  readonly opa: string
  /** Rego files by name. */
  readonly sources: Readonly<Record<string, string>>
  /** What the probes of the module stand for. */
  readonly dictionary: object
  /** Base documents. Only their digest is kept: they may be large and may be confidential. */
  readonly data: unknown
  readonly loadedAt: Date
}

/**
 * Keeps a policy before it serves. One that is known already stays as it was first seen. Traces may refer to its dictionary
 * from then on, unless the one that is kept is another (made by another version of the compiler).
 */
export async function storeRevision(pool: Pick<Pool, 'query'>, policy: ServedPolicy): Promise<void> {
  const dictionary = toJsonb(policy.dictionary)
  await pool.query(
    `insert into policy_revisions (digest, revision, opa, sources, dictionary, data_sha256, loaded_at)
     values ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7) on conflict (digest, revision) do nothing`,
    [
      policy.digest,
      policy.revision,
      policy.opa,
      toJsonb(policy.sources),
      dictionary,
      createHash('sha256').update(canonical(policy.data)).digest('hex'),
      policy.loadedAt,
    ],
  )
  const { rows } = await pool.query<{ same: boolean }>(
    'select dictionary = $3::jsonb as same from policy_revisions where digest = $1 and revision = $2',
    [policy.digest, policy.revision, dictionary],
  )
  if (rows[0]?.same === true) admitDictionary(policy.dictionary)
}

/** A stored policy, as `audit explain` needs it. */
export interface StoredPolicy {
  readonly sources: Readonly<Record<string, string>>
  /** The trace dictionary, unchecked. */
  readonly dictionary: unknown
}

/** The policy of a row; null when it was never stored or is gone. */
export async function loadRevision(
  pool: Pick<Pool, 'query'>,
  digest: string,
  revision: string,
): Promise<StoredPolicy | null> {
  const { rows } = await pool.query<StoredPolicy>(
    'select sources, dictionary from policy_revisions where digest = $1 and revision = $2',
    [digest, revision],
  )
  return rows[0] ?? null
}

/** JSON text without NUL, which PostgreSQL does not store. */
function toJsonb(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) =>
    typeof member === 'string'
      ? member.replaceAll('\0', '\u2400').replace(/\p{Surrogate}/gu, '\ufffd')
      : member,
  )
}

/** JSON with sorted keys: equal documents have equal digests. */
function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_name, member: unknown) => {
      if (typeof member !== 'object' || member === null || Array.isArray(member)) return member
      return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
    }) ?? 'null'
  )
}
