/** Reads what `verify` needs: rows in the form in which they were chained, and what was signed about them. */
import type { Pool } from 'pg'
import type { ChainedColumns, Leaf, PayloadDigests, PayloadTexts } from './chain.ts'
import type { Checkpoint, Erasure, Retirement } from './signing.ts'

type Db = Pick<Pool, 'query'>

/** A row as it stands. */
export interface ChainedRow extends ChainedColumns, PayloadTexts {
  /** null: from before the chain. */
  readonly leaf: Leaf | null
  /** Hex; null where it has been erased. */
  readonly salt: string | null
}

/** A row to go on from. */
export interface Place {
  readonly seq: bigint
  readonly leaf: Leaf | null
}

/** Which rows of a writer; both ends included, null = open. */
export interface Span {
  readonly from: bigint
  readonly to: bigint | null
}

/** Rows of one statement: some MB at most. */
const PAGE = 200

/** Doubles travel as bits, so that no setting of the server can round them. */
const COLUMNS = `id, (extract(epoch from ts) * 1000)::float8 as ts, writer, seq, request_id, tenant, principal_id,
  principal_kind, role, roles, api_key_id, client_ip::text as client_ip, client_name, client_version, protocol_version,
  session_hash, http_method, method, server, target_kind, tool_name, outcome, status_code, reason, error_message,
  float8send(latency_ms) as latency_ms, float8send(upstream_ms) as upstream_ms, policy_revision,
  request_json::text as request_json, response_json::text as response_json, decision::text as decision,
  redaction::text as redaction, encode(leaf, 'hex') as leaf, encode(salt, 'hex') as salt`

type RawRow = Omit<ChainedRow, 'latency_ms' | 'upstream_ms'> & {
  readonly latency_ms: Buffer
  readonly upstream_ms: Buffer | null
}

/** Pages of rows in order of `seq`. The next page is on its way while one is looked at. */
export async function* readRows(db: Db, writer: string, span: Span): AsyncGenerator<readonly ChainedRow[]> {
  let next = readPage(db, writer, span, null)
  for (;;) {
    const page = await next
    const last = page.at(-1)
    if (last === undefined) return
    const hasMore = page.length === PAGE
    if (hasMore) {
      next = readPage(db, writer, span, last)
      // Whoever stops in the middle does not wait for it.
      next.catch(() => undefined)
    }
    yield page
    if (!hasMore) return
  }
}

async function readPage(
  db: Db,
  writer: string,
  { from, to }: Span,
  after: ChainedRow | null,
): Promise<readonly ChainedRow[]> {
  const { rows } = await db.query<RawRow>({
    name: after === null ? 'audit_verify_first' : 'audit_verify_next',
    text: `select ${COLUMNS} from audit_events
      where writer = $1 and seq >= $2 and seq <= $3 ${after === null ? '' : 'and (seq, ts, id) > ($2, to_timestamp($4::float8 / 1000), $5::uuid)'}
      order by seq, ts, id limit ${PAGE}`,
    values: [
      writer,
      after?.seq ?? String(from),
      String(to ?? MAX_SEQ),
      ...(after === null ? [] : [after.ts, after.id]),
    ],
  })
  return rows.map(toChainedRow)
}

const MAX_SEQ = 9_223_372_036_854_775_807n

/** One row, locked against whoever else would change it; null when there is none. */
export async function lockRow(
  db: Db,
  { id, ts }: { readonly id: string; readonly ts: Date },
): Promise<ChainedRow | null> {
  const { rows } = await db.query<RawRow>(
    `select ${COLUMNS} from audit_events where id = $1 and ts = $2 for update`,
    [id, ts],
  )
  const [row] = rows
  return row === undefined ? null : toChainedRow(row)
}

function toChainedRow(raw: RawRow): ChainedRow {
  return {
    ...raw,
    latency_ms: raw.latency_ms.readDoubleBE(),
    upstream_ms: raw.upstream_ms === null ? null : raw.upstream_ms.readDoubleBE(),
  }
}

/** The row of a writer before `seq`; null when there is none. */
export async function placeBefore(db: Db, writer: string, seq: bigint): Promise<Place | null> {
  const { rows } = await db.query<{ seq: string; leaf: Leaf | null }>(
    `select seq, encode(leaf, 'hex') as leaf from audit_events where writer = $1 and seq < $2 order by seq desc limit 1`,
    [writer, String(seq)],
  )
  const [row] = rows
  return row === undefined ? null : { seq: BigInt(row.seq), leaf: row.leaf }
}

/** Rows of a writer around `seq`, at most `count` on either side, in order. */
export async function placesAround(
  db: Db,
  writer: string,
  seq: bigint,
  count: number,
): Promise<readonly Place[]> {
  const { rows } = await db.query<{ seq: string; leaf: Leaf | null }>(
    `(select seq, encode(leaf, 'hex') as leaf from audit_events where writer = $1 and seq <= $2 order by seq desc limit $3)
     union all
     (select seq, encode(leaf, 'hex') from audit_events where writer = $1 and seq > $2 order by seq limit $3)`,
    [writer, String(seq), count],
  )
  return rows.map((row) => ({ seq: BigInt(row.seq), leaf: row.leaf }))
}

/** Checkpoints of a writer with `seq` after `after` and up to `to`, in order; at most 500. */
export async function readCheckpoints(
  db: Db,
  writer: string,
  after: bigint,
  to: bigint,
): Promise<readonly Checkpoint[]> {
  const { rows } = await db.query<Omit<Checkpoint, 'ts'> & { ts: Date }>(
    `select writer, seq, encode(leaf, 'hex') as leaf, rows::float8 as rows, ts, key_id as "keyId", signature
     from audit_checkpoints where writer = $1 and seq > $2 and seq <= $3 order by seq limit 500`,
    [writer, String(after), String(to)],
  )
  return rows.map((row) => ({ ...row, ts: row.ts.toISOString() }))
}

/** Retirements of a writer that touch the rows from `from` to `to`, in order. */
export async function readRetirements(
  db: Db,
  writer: string,
  from: bigint,
  to: bigint,
): Promise<readonly Retirement[]> {
  const { rows } = await db.query<Omit<Retirement, 'retiredAt'> & { retiredAt: Date }>(
    `select writer, from_seq as "fromSeq", to_seq as "toSeq", rows::float8 as rows, encode(last_leaf, 'hex') as "lastLeaf",
       to_char(day, 'YYYY-MM-DD') as day, retired_at as "retiredAt", archive,
       encode(archive_sha256, 'hex') as "archiveSha256", key_id as "keyId", signature
     from audit_retired where writer = $1 and from_seq <= $3 and to_seq >= $2 order by from_seq`,
    [writer, String(from), String(to)],
  )
  return rows.map((row) => ({ ...row, retiredAt: row.retiredAt.toISOString() }))
}

type Four = readonly [string | null, string | null, string | null, string | null]

/** Erasures of a writer's rows from `from` to `to`, by row id. */
export async function readErasures(
  db: Db,
  writer: string,
  from: bigint,
  to: bigint,
): Promise<ReadonlyMap<string, Erasure>> {
  const { rows } = await db.query<
    Omit<Erasure, 'erasedAt' | 'before' | 'after'> & { erasedAt: Date; before: Four | null; after: Four }
  >(
    `select id, writer, seq, erased_at as "erasedAt", actor, reason, before, after, key_id as "keyId", signature
     from audit_erasures where writer = $1 and seq between $2 and $3`,
    [writer, String(from), String(to)],
  )
  const erasures = rows.map((row) => ({
    ...row,
    erasedAt: row.erasedAt.toISOString(),
    before: row.before === null ? null : toDigests(row.before),
    after: toDigests(row.after),
  }))
  return new Map(erasures.map((erasure) => [erasure.id, erasure]))
}

function toDigests([request_json, response_json, decision, redaction]: Four): PayloadDigests {
  return { request_json, response_json, decision, redaction }
}

/** Every writer of rows and checkpoints, in order. Hops over the index from one to the next. */
export async function readWriters(db: Db): Promise<readonly string[]> {
  const hops = (table: string, name: string) => `${name} (writer) as (
      (select writer from ${table} order by writer limit 1)
      union all
      select (select t.writer from ${table} t where t.writer > ${name}.writer order by t.writer limit 1)
      from ${name} where ${name}.writer is not null)`
  const { rows } = await db.query<{ writer: string }>(
    `with recursive ${hops('audit_events', 'e')}, ${hops('audit_checkpoints', 'c')}
     select writer from e where writer is not null union select writer from c where writer is not null order by writer`,
  )
  return rows.map(({ writer }) => writer)
}

/** The rows of a writer between two moments, as one span of `seq`; null when it stored nothing then. */
export async function readSpan(
  db: Db,
  writer: string,
  since: Date | null,
  until: Date | null,
): Promise<Span | null> {
  const { rows } = await db.query<{ from: string | null; to: string | null }>(
    `select least(e.first, c.first)::text as from, greatest(e.last, c.last)::text as to from
       (select min(seq) as first, max(seq) as last from audit_events where writer = $1
          and ts >= coalesce($2::timestamptz, '-infinity') and ts < coalesce($3::timestamptz, 'infinity')) e,
       (select min(seq) as first, max(seq) as last from audit_checkpoints where writer = $1
          and ts >= coalesce($2::timestamptz, '-infinity') and ts < coalesce($3::timestamptz, 'infinity')) c`,
    [writer, since, until],
  )
  const { from = null, to = null } = rows[0] ?? {}
  if (from === null || to === null) return null
  return { from: BigInt(from), to: until === null ? null : BigInt(to) }
}

/** Where the checkpoints of a writer end; 0 when there is none. */
export async function lastCheckpoint(db: Db, writer: string): Promise<bigint> {
  const { rows } = await db.query<{ seq: string }>(
    'select coalesce(max(seq), 0)::text as seq from audit_checkpoints where writer = $1',
    [writer],
  )
  return BigInt(rows[0]?.seq ?? 0)
}

/** The public keys that gateways have left in the database, PEM each. */
export async function readPublicKeys(db: Db): Promise<readonly string[]> {
  const { rows } = await db.query<{ public_key: string }>('select public_key from audit_keys order by key_id')
  return rows.map((row) => row.public_key)
}

/** When rows began to be chained, ms since the epoch. */
export async function readChainStart(db: Db): Promise<number> {
  const { rows } = await db.query<{ ms: number }>(
    `select (extract(epoch from applied_at) * 1000)::float8 as ms from schema_migrations where name = 'audit-chain'`,
  )
  return rows[0]?.ms ?? 0
}
