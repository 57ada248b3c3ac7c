/**
 * Taking the payload out of stored rows (a person's right to erasure) without making the chain unprovable: the row keeps its
 * leaf, which covers digests, and a signed record keeps those. The salt of the digests goes as well, so that nobody can
 * find out by trying what the payload was. Runs as the owner: the gateway's own role cannot change rows.
 */
import type { Pool } from 'pg'
import { parseExact, stringifyExact } from '../json/exact.ts'
import { digestPayload } from './chain.ts'
import { lockRow } from './chain-reader.ts'
import type { Erasure, Signer } from './signing.ts'
import { INSERT_KEY, signErasure } from './signing.ts'

/** Within a transaction of the owner. */
type Db = Pick<Pool, 'query'>

/** A row by the two columns that find it. */
export interface RowPlace {
  readonly id: string
  readonly ts: Date
}

/** Who erases, and why; both are kept for as long as the record. */
export interface EraseOrder {
  readonly signer: Signer
  readonly actor: string
  readonly reason: string
  readonly nowMs: number
}

/** Rows of one transaction. */
const BATCH = 50

/** The oldest rows of a principal whose payload has not been erased yet; at most 50. */
export async function erasableRows(db: Db, principal: string): Promise<readonly RowPlace[]> {
  const { rows } = await db.query<RowPlace>(
    `select id, ts from audit_events e where principal_id = $1
       and not exists (select from audit_erasures x where x.id = e.id) order by ts, id limit ${BATCH}`,
    [principal],
  )
  return rows
}

/** Erases the payloads of some rows in one transaction; returns how many were there and not erased yet. */
export async function erasePayloads(db: Db, places: readonly RowPlace[], order: EraseOrder): Promise<number> {
  await db.query('begin')
  try {
    await db.query(INSERT_KEY, [order.signer.keyId, order.signer.publicKey])
    let count = 0
    for (const place of places) count += await erasePayload(db, place, order)
    await db.query('commit')
    return count
  } catch (error) {
    await db.query('rollback').catch(() => undefined)
    throw error
  }
}

async function erasePayload(db: Db, place: RowPlace, order: EraseOrder): Promise<0 | 1> {
  const row = await lockRow(db, place)
  const { rowCount } = await db.query('select from audit_erasures where id = $1', [place.id])
  if (row === null || rowCount !== 0) return 0
  const { rows } = await db.query<{ decision: string }>(
    `update audit_events set request_json = null, response_json = null, redaction = null, salt = null, decision = $3
     where id = $1 and ts = $2 returning decision::text as decision`,
    [place.id, place.ts, eraseDecision(row.decision ?? '{}')],
  )
  const left = {
    request_json: null,
    response_json: null,
    redaction: null,
    decision: rows[0]?.decision ?? null,
  }
  const { signer, actor, reason, nowMs } = order
  const erasure = {
    ...{ id: row.id, writer: row.writer, seq: row.seq, actor, reason },
    erasedAt: new Date(nowMs).toISOString(),
    before: row.leaf === null ? null : digestPayload(row, row.salt),
    after: digestPayload(left, null),
  }
  await storeErasure(db, signErasure(erasure, signer))
  return 1
}

async function storeErasure(db: Db, erasure: Erasure): Promise<void> {
  const { id, writer, seq, erasedAt, actor, reason, before, after, keyId, signature } = erasure
  await db.query(
    `insert into audit_erasures (id, writer, seq, erased_at, actor, reason, before, after, key_id, signature)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    [
      ...[id, writer, seq, erasedAt, actor, reason],
      before === null ? null : [before.request_json, before.response_json, before.decision, before.redaction],
      [after.request_json, after.response_json, after.decision, after.redaction],
      ...[keyId, signature],
    ],
  )
}

type Tree = Readonly<Record<string, unknown>>

/** The decision without what came from the caller: of the policy's input nothing, of the trace rules and lines. */
export function eraseDecision(text: string): string {
  const decision = parseExact(text)
  if (!isTree(decision)) return '{}'
  if (!isTree(decision['authz'])) return stringifyExact({ ...decision, ...withoutHash(decision['upstream']) })
  const { input: _input, input_mac: _mac, trace, ...authz } = decision['authz']
  const kept = trace === undefined ? authz : { ...authz, trace: { ...eraseTrace(trace), erased: true } }
  return stringifyExact({ ...decision, authz: kept, ...withoutHash(decision['upstream']) })
}

/** A plain hash of a short answer tells what the answer was. */
function withoutHash(upstream: unknown): object {
  return isTree(upstream) ? { upstream: { ...upstream, sha256: null } } : {}
}

/** Everything else in a trace may hold values of the call. */
const TRACE_MEMBERS: ReadonlySet<string> = new Set([
  ...[
    'v',
    'truncated',
    'dropped',
    'rules',
    'steps',
    'rule',
    'at',
    'title',
    'outcome',
    'expr',
    'ok',
    'aborted',
  ],
])

function eraseTrace(value: unknown): object {
  if (!isTree(value)) return {}
  const kept = Object.entries(value).filter(([name]) => TRACE_MEMBERS.has(name))
  return Object.fromEntries(
    kept.map(([name, member]) => [name, Array.isArray(member) ? member.map(eraseTrace) : scalar(member)]),
  )
}

function scalar(value: unknown): unknown {
  return typeof value === 'object' ? null : value
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
