/** Policies published in the database: one function per operation. Gateways believe the bundle alone, never the columns beside it. */
import type { Pool } from 'pg'
import { UsageError } from '../errors.ts'

type Db = Pick<Pool, 'query'>

/** Topic of the change feed; its subjects are revisions. */
export const POLICIES_TOPIC = 'policies'

/** Releases shown by {@link listReleases} at most. */
export const MAX_RELEASES_LISTED = 200

/** Sequence, and the digest of the bundle that has it. */
export interface Release {
  readonly sequence: number
  /** `sha256:<hex>` of the bundle's manifest. */
  readonly digest: string
  readonly revision: string
}

/** One line of the history. */
export interface PublishedRelease extends Release {
  readonly isSigned: boolean
  /** Sequence of the release whose content it brought back; null = it is no rollback. */
  readonly rollbackOf: number | null
  readonly at: Date
  readonly actor: string
  /** The database role that wrote it. */
  readonly dbUser: string
}

/** What {@link publishRelease} stores. */
export interface NewRelease extends Release {
  readonly isSigned: boolean
  readonly rollbackOf: number | null
  readonly bundle: Uint8Array
  readonly actor: string
}

interface ReleaseRow {
  readonly sequence: string
  readonly digest: string
  readonly revision: string
  readonly is_signed: boolean
  readonly rollback_of: string | null
  readonly at: Date
  readonly actor: string
  readonly db_user: string
}

const UNIQUE_VIOLATION = '23505'

/** Stores a bundle and tells all gateways; returns the change's number. Throws UsageError `exists` when the sequence is taken. */
export async function publishRelease(db: Db, release: NewRelease): Promise<bigint> {
  try {
    const { rows } = await db.query<{ published: string }>(
      `insert into policy_bundles (published, sequence, revision, digest, is_signed, rollback_of, bundle, actor)
       values (record_change('${POLICIES_TOPIC}', $2), $1, $2, $3, $4, $5, $6, $7) returning published`,
      [
        release.sequence,
        release.revision,
        release.digest,
        release.isSigned,
        release.rollbackOf,
        release.bundle,
        release.actor,
      ],
    )
    return BigInt(rows[0]?.published ?? 0)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION)) throw error
    throw new UsageError('exists', `Sequence ${release.sequence} has been published before.`, {
      cause: error,
    })
  }
}

/** The bundle that was published `nth` from last (0 = the newest); null when there are not so many. */
export async function readPublished(db: Db, nth: number): Promise<Uint8Array | null> {
  const { rows } = await db.query<{ bundle: Buffer }>(
    'select bundle from policy_bundles order by published desc limit 1 offset $1',
    [nth],
  )
  return rows[0]?.bundle ?? null
}

/** The history, newest first. */
export async function listReleases(db: Db): Promise<readonly PublishedRelease[]> {
  const { rows } = await db.query<ReleaseRow>(
    `select sequence, digest, revision, is_signed, rollback_of, at, actor, db_user from policy_bundles
     order by published desc limit ${MAX_RELEASES_LISTED}`,
  )
  return rows.map((row) => ({
    sequence: Number(row.sequence),
    digest: row.digest,
    revision: row.revision,
    isSigned: row.is_signed,
    rollbackOf: row.rollback_of === null ? null : Number(row.rollback_of),
    at: row.at,
    actor: row.actor,
    dbUser: row.db_user,
  }))
}

/** The release of that sequence, else the newest whose revision begins like that (six characters or more); null = none. */
export async function findRelease(
  db: Db,
  name: string,
): Promise<{ readonly sequence: number; readonly bundle: Uint8Array } | null> {
  const { rows } = await db.query<{ sequence: string; bundle: Buffer }>(
    `select sequence, bundle from policy_bundles
     where sequence::text = $1 or (length($1) >= 6 and starts_with(revision, $1))
     order by sequence::text = $1 desc, published desc limit 1`,
    [name],
  )
  const [row] = rows
  return row === undefined ? null : { sequence: Number(row.sequence), bundle: row.bundle }
}

/** The sequence that a next release may have: above all that were published or accepted. */
export async function nextSequence(db: Db): Promise<number> {
  const { rows } = await db.query<{ last: string }>(
    `select greatest((select max(sequence) from policy_bundles), (select max(sequence) from policy_accepted), 0) as last`,
  )
  return Number(rows[0]?.last ?? 0) + 1
}

/** The highest release that was put in force on any gateway; null = none yet. */
export async function lastAccepted(db: Db): Promise<Release | null> {
  const { rows } = await db.query<{ sequence: string; digest: string; revision: string }>(
    'select sequence, digest, revision from policy_accepted order by sequence desc limit 1',
  )
  const [row] = rows
  return row === undefined ? null : { ...row, sequence: Number(row.sequence) }
}

/** Remembers that a release was put in force; one that is known stays as it is. */
export async function recordAccepted(db: Db, release: Release): Promise<void> {
  await db.query(
    'insert into policy_accepted (sequence, digest, revision) values ($1, $2, $3) on conflict do nothing',
    [release.sequence, release.digest, release.revision],
  )
}
