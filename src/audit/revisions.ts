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
  /** Base documents. Kept up to {@link MAX_DATA_CHARACTERS}, so that old rows can be decided again; of larger ones the digest. */
  readonly data: unknown
  readonly loadedAt: Date
}

/** Every revision keeps its own copy. */
const MAX_DATA_CHARACTERS = 4 * 1024 * 1024

/**
 * Keeps a policy before it serves. One that is known already stays as it was first seen. Traces may refer to its dictionary
 * from then on, unless the one that is kept is another (made by another version of the compiler).
 */
export async function storeRevision(pool: Pick<Pool, 'query'>, policy: ServedPolicy): Promise<void> {
  const dictionary = toJsonb(policy.dictionary)
  const data = JSON.stringify(policy.data) ?? 'null'
  await pool.query(
    `insert into policy_revisions (digest, revision, opa, sources, dictionary, data_sha256, loaded_at, data_json)
     values ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7, $8) on conflict (digest, revision) do nothing`,
    [
      policy.digest,
      policy.revision,
      policy.opa,
      toJsonb(policy.sources),
      dictionary,
      createHash('sha256').update(canonical(policy.data)).digest('hex'),
      policy.loadedAt,
      data.length > MAX_DATA_CHARACTERS ? null : data,
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

/** A stored policy, as much as is needed to build it again. */
export interface StoredSources {
  readonly revision: string
  /** Rego files by name, the product's own among them. */
  readonly sources: Readonly<Record<string, string>>
  /** JSON text; null = not kept. */
  readonly dataText: string | null
}

/**
 * Policies whose revision, or digest (`sha256:..`), begins like this, the newest first; one for each revision, two at most:
 * more than one means that the name is not enough.
 */
export async function findRevisions(
  pool: Pick<Pool, 'query'>,
  prefix: string,
): Promise<readonly StoredSources[]> {
  const { rows } = await pool.query<StoredSources>(
    `select revision, sources, data_json as "dataText" from (
       select distinct on (revision) revision, sources, data_json, loaded_at from policy_revisions
       where starts_with(revision, $1) or starts_with(digest, $1)
       order by revision, data_json is null, loaded_at desc) newest
     order by loaded_at desc limit 2`,
    [prefix],
  )
  return rows
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
