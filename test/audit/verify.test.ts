import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { expect } from 'chai'
import fc from 'fast-check'
import { toAuditRow } from '../../src/audit/event.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import type { Checkpoint, Signer } from '../../src/audit/signing.ts'
import { createSigner, parsePublicKeys, signRetirement } from '../../src/audit/signing.ts'
import type { Store } from '../../src/audit/store.ts'
import { createStore } from '../../src/audit/store.ts'
import type { TamperFinding } from '../../src/audit/tamper.ts'
import type { VerifyOptions, VerifyReport } from '../../src/audit/verify.ts'
import { verifyLog } from '../../src/audit/verify.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { allowed, denied, newId, toolsCall } from './fixtures.ts'

const signer = createSigner(generateKeyPairSync('ed25519').privateKey)

describe('audit/verify', () => {
  let database: TestDatabase
  const stores: Store[] = []

  beforeEach(async () => {
    database = await createTestDatabase()
  })
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close().catch(() => undefined)
    await database.drop()
  })

  function open(
    writerId: string,
    options: { signer?: Signer | null; made?: Checkpoint[]; rows?: number } = {},
  ): Store {
    const store = createStore({
      pool: database.pool,
      writerId,
      newId,
      clock: { nowMs: Date.now },
      signer: options.signer === undefined ? signer : options.signer,
      onCheckpoint: (checkpoint) => options.made?.push(checkpoint),
      checkpoints: { rows: options.rows ?? 4, ms: 3_600_000 },
    })
    stores.push(store)
    return store
  }

  const rowAt = (index: number): AuditRow =>
    toAuditRow(
      (index % 2 === 0 ? denied : allowed)({
        startedMs: Date.now() - 60_000 + index,
        message: toolsCall(`{"n":${index}}`),
      }),
    )

  /** Stores rows `from` to `to` of a writer, in batches of three. */
  async function fill(store: Store, from: number, to: number, writer?: string): Promise<void> {
    const entries = Array.from({ length: to - from + 1 }, (_, at) =>
      store.entry(rowAt(from + at), from + at, writer),
    )
    for (let at = 0; at < entries.length; at += 3)
      await store.store(entries.slice(at, at + 3), () => undefined)
  }

  /** Two writers of ten rows each, closed, so that all are covered. */
  async function filled(): Promise<readonly [string, string]> {
    const writers = [randomUUID(), randomUUID()].sort() as [string, string]
    for (const writer of writers) {
      const store = open(writer)
      await fill(store, 1, 10)
      await store.close()
    }
    return writers
  }

  const verify = (options: Partial<VerifyOptions> = {}): Promise<VerifyReport> =>
    verifyLog({ db: database.pool, since: null, until: null, anchors: null, publicKeys: null, ...options })

  const asOwner = (statement: string, values: unknown[] = []) => database.ownerPool.query(statement, values)
  const shortly = ({ findings }: VerifyReport) =>
    findings.map(({ kind, seq }: TamperFinding) => `${kind} ${seq}`)

  it('finds nothing wrong with rows as they were stored, and says what it has seen', async () => {
    await filled()
    const report = await verify()
    expect(report.findings).to.deep.equal([])
    expect(report).to.deep.include({
      ok: true,
      rows: 20,
      writers: 2,
      checkpoints: 4,
      unproven: 0,
      holes: 0,
      unchained: 0,
    })
    expect(report.keys).to.equal('database')
    expect((report.last?.getTime() ?? 0) - (report.first?.getTime() ?? 0)).to.equal(9)
  })

  it('says how many rows no checkpoint covers', async () => {
    const store = open(randomUUID(), { rows: 1000 })
    await fill(store, 1, 5)
    expect(await verify()).to.include({ ok: true, unproven: 5, checkpoints: 0 })
    await store.close()
    expect(await verify()).to.include({ ok: true, unproven: 0, checkpoints: 1 })
  })

  it('chains without a key, too', async () => {
    const store = open(randomUUID(), { signer: null })
    await fill(store, 1, 5)
    expect(await verify()).to.include({ ok: true, rows: 5, unproven: 5, keys: 'none' })
    await asOwner('update audit_events set outcome = $1 where seq = 3', ['allowed '])
    expect(shortly(await verify())).to.deep.equal(['edited 3'])
  })

  it('names the row in which any one column was edited', async () => {
    const [writer] = await filled()
    const edits: Record<string, string> = {
      id: 'gen_random_uuid()',
      ts: "ts + interval '1 ms'",
      request_id: "request_id || 'x'",
      tenant: "'evil'",
      principal_id: "'mallory'",
      principal_kind: "'service'",
      role: "'admin'",
      roles: "array['admin']",
      api_key_id: 'null',
      client_ip: "'10.1.2.3/8'::inet",
      client_name: "'x'",
      client_version: "'x'",
      protocol_version: "'x'",
      session_hash: "'x'",
      http_method: "'GET'",
      method: "'ping'",
      server: "'x'",
      target_kind: "'prompt'",
      tool_name: "'harmless'",
      outcome: "'internal_error'",
      status_code: 'status_code + 1',
      reason: "'x'",
      error_message: "'x'",
      latency_ms: 'latency_ms + 0.0000000001',
      upstream_ms: "'NaN'::float8",
      policy_revision: "'x'",
      request_json: `jsonb_set(request_json, '{params,arguments,n}', '5.0')`,
      response_json: 'null',
      decision: `decision - 'stage'`,
      redaction: `'{}'`,
      salt: "decode('00', 'hex')",
      leaf: "decode(repeat('ab', 32), 'hex')",
    }
    const { rows } = await database.pool.query<{ name: string }>(
      `select attname as name from pg_attribute where attrelid = 'audit_events'::regclass and attnum > 0 and not attisdropped`,
    )
    expect([...Object.keys(edits), 'writer', 'seq'].sort()).to.deep.equal(rows.map(({ name }) => name).sort())
    for (const [column, edit] of Object.entries(edits)) {
      const client = await database.ownerPool.connect()
      try {
        await client.query('begin')
        await client.query(`update audit_events set ${column} = ${edit} where writer = $1 and seq = 5`, [
          writer,
        ])
        expect(shortly(await verify({ db: client })), column).to.deep.equal(['edited 5'])
      } finally {
        await client.query('rollback')
        client.release()
      }
    }
    expect((await verify()).ok).to.equal(true)
  })

  it('tells a lost leaf from a row that never had one', async () => {
    const [writer] = await filled()
    await asOwner('update audit_events set leaf = null where writer = $1 and seq = 5', [writer])
    expect(shortly(await verify())).to.deep.equal(['edited 5'])
    await asOwner('update audit_events set leaf = null where writer = $1 and seq <= 5', [writer])
    expect((await verify()).ok).to.equal(false)
    await asOwner('update audit_events set leaf = null where writer = $1', [writer])
    expect((await verify()).ok).to.equal(false)
  })

  const tamperings: readonly (readonly [string, string, readonly string[]])[] = [
    ['a row deleted', 'delete from audit_events where writer = $1 and seq = 5', ['deleted 5']],
    ['the first row deleted', 'delete from audit_events where writer = $1 and seq = 1', ['deleted 1']],
    [
      'rows deleted in several places',
      'delete from audit_events where writer = $1 and seq in (3, 4, 7)',
      ['deleted 3', 'deleted 7'],
    ],
    ['the last rows deleted', 'delete from audit_events where writer = $1 and seq > 8', ['cut 9']],
    ['all rows of a writer deleted', 'delete from audit_events where writer = $1', ['cut 1']],
    [
      'two rows swapped',
      'update audit_events set seq = 11 - seq where writer = $1 and seq in (5, 6)',
      ['reordered 5', 'reordered 6'],
    ],
    [
      'a row put later',
      'update audit_events set seq = 11 where writer = $1 and seq = 5',
      ['reordered 11'],
    ],
    [
      'a row put in the place of another',
      'update audit_events set seq = 5 where writer = $1 and seq = 4',
      ['reordered 5'],
    ],
    [
      'a row copied',
      `insert into audit_events select (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid()))).* from audit_events e
       where writer = $1 and seq = 5`,
      ['inserted 5'],
    ],
    [
      'a checkpoint deleted',
      'delete from audit_checkpoints where writer = $1 and seq = 6',
      ['checkpoint 10'],
    ],
    [
      'a checkpoint changed',
      `update audit_checkpoints set leaf = decode(repeat('ab', 32), 'hex') where writer = $1 and seq = 6`,
      ['checkpoint 6'],
    ],
    [
      'a checkpoint replaced by that of another row',
      'update audit_checkpoints set seq = 7 where writer = $1 and seq = 6',
      ['checkpoint 7'],
    ],
  ]
  for (const [what, statement, expected] of tamperings) {
    it(`names ${what}`, async () => {
      const [writer] = await filled()
      const { rowCount } = await asOwner(statement, [writer])
      expect(rowCount).to.be.greaterThan(0)
      const report = await verify()
      expect(report.ok).to.equal(false)
      expect(shortly(report), JSON.stringify(report.findings)).to.deep.equal(expected)
      for (const finding of report.findings) expect(finding.writer).to.equal(writer)
    })
  }
})
