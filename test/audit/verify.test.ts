import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import fc from 'fast-check'
import { readAnchorFile, toAnchorLine } from '../../src/audit/anchor-file.ts'
import type { RowPlace } from '../../src/audit/erase.ts'
import { erasableRows, erasePayloads } from '../../src/audit/erase.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import type { Checkpoint, Signer } from '../../src/audit/signing.ts'
import { createSigner, parsePublicKeys, signRetirement } from '../../src/audit/signing.ts'
import type { Store } from '../../src/audit/store.ts'
import { createStore } from '../../src/audit/store.ts'
import type { TamperFinding } from '../../src/audit/tamper.ts'
import type { VerifyOptions, VerifyReport } from '../../src/audit/verify.ts'
import { verifyLog } from '../../src/audit/verify.ts'
import type { StoredText } from '../../src/json/stored-text.ts'
import { toStoredText } from '../../src/json/stored-text.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { allowed, denied, newId, toolsCall } from './fixtures.ts'

const signer = createSigner(generateKeyPairSync('ed25519').privateKey)

const BASE_MS = Date.now() - 60_000

describe('audit/verify', () => {
  let database: TestDatabase
  const stores: Store[] = []

  beforeEach(async () => {
    database = await createTestDatabase()
  })
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close(true).catch(() => undefined)
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
        startedMs: BASE_MS + index,
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
      await store.close(true)
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
    await database.pool.query(`insert into audit_keys values ('0123456789abcdef', 'no key')`)
    expect((await verify()).ok).to.equal(true)
    expect((report.last?.getTime() ?? 0) - (report.first?.getTime() ?? 0)).to.equal(9)
  })

  it('says how many rows no checkpoint covers', async () => {
    const store = open(randomUUID(), { rows: 1000 })
    await fill(store, 1, 5)
    expect(await verify()).to.include({ ok: true, unproven: 5, checkpoints: 0 })
    await store.close(true)
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
    ['a row put later', 'update audit_events set seq = 11 where writer = $1 and seq = 5', ['reordered 11']],
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

  it('names a row moved to another writer', async () => {
    const [first, second] = await filled()
    await asOwner('delete from audit_events where writer = $1 and seq = 5', [second])
    await asOwner('update audit_events set writer = $2 where writer = $1 and seq = 5', [first, second])
    const report = await verify()
    expect(
      report.findings.map(({ kind, writer, seq, origin }) => ({ kind, writer, seq, origin })),
    ).to.deep.equal([
      { kind: 'moved', writer: second, seq: '5', origin: { writer: first, seq: '5' } },
      { kind: 'deleted', writer: second, seq: '5', origin: undefined },
    ])
    await asOwner('update audit_events set writer = $1 where writer = $2 and seq = 6', [randomUUID(), first])
    expect((await verify()).findings.map(({ kind }) => kind)).to.include('moved')
  })

  it('finds a chain that was written anew as a whole, without the key', async () => {
    const [writer] = await filled()
    await asOwner('delete from audit_events where writer = $1', [writer])
    const forger = createSigner(generateKeyPairSync('ed25519').privateKey)
    const checkpoints = await asOwner('delete from audit_checkpoints where writer = $1 returning *', [writer])
    await fill(open(writer, { signer: forger }), 1, 10)
    // With the old checkpoints the rows do not fit, with new ones the key is not ours.
    expect(shortly(await verify({ publicKeys: parsePublicKeys(signer.publicKey) }))).to.deep.equal([
      'checkpoint 6',
      'checkpoint 10',
    ])
    await asOwner('delete from audit_checkpoints where writer = $1', [writer])
    for (const { seq, leaf, rows, ts, key_id, signature } of checkpoints.rows) {
      await asOwner('insert into audit_checkpoints values ($1, $2, $3, $4, $5, $6, $7)', [
        ...[writer, seq, leaf, rows, ts, key_id, signature],
      ])
    }
    expect(shortly(await verify())).to.deep.equal(['rewritten 6', 'rewritten 10'])
  })

  describe('with anchors', () => {
    let folder: string
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'gateway-anchor-'))
    })
    afterEach(() => rm(folder, { recursive: true, force: true }))

    async function anchored(checkpoints: readonly Checkpoint[]) {
      const file = join(folder, 'anchors.ndjson')
      const lines = checkpoints.map(toAnchorLine)
      await writeFile(file, `{"level":30,"msg":"started"}\n${lines.join('\n')}\n`)
      return await readAnchorFile(file, { since: null, until: null })
    }

    async function made() {
      const [writer, made]: [string, Checkpoint[]] = [randomUUID(), []]
      const store = open(writer, { made })
      await fill(store, 1, 10)
      await store.close(true)
      return { writer, anchors: await anchored(made) }
    }

    it('agrees with rows as they were stored', async () => {
      const { anchors } = await made()
      expect(await verify({ anchors })).to.include({ ok: true, anchors: 2, checkpoints: 2 })
    })

    it('finds a tail cut off together with its checkpoints', async () => {
      const { writer, anchors } = await made()
      await asOwner('delete from audit_events where writer = $1 and seq > 6', [writer])
      await asOwner('delete from audit_checkpoints where writer = $1 and seq > 6', [writer])
      expect((await verify()).ok).to.equal(true)
      expect(shortly(await verify({ anchors }))).to.deep.equal(['cut 7'])
    })

    it('finds a table that was emptied', async () => {
      const { anchors } = await made()
      await asOwner('truncate audit_events, audit_checkpoints')
      expect(shortly(await verify({ anchors }))).to.deep.equal(['cut 1'])
    })

    it('finds rows without leaves, and missing checkpoints', async () => {
      const { writer, anchors } = await made()
      await asOwner('delete from audit_checkpoints where writer = $1 and seq = 6', [writer])
      expect(shortly(await verify({ anchors }))).to.deep.equal(['checkpoint 6', 'checkpoint 10'])
      await asOwner('update audit_events set leaf = null')
      await asOwner('delete from audit_checkpoints')
      expect((await verify({ anchors })).ok).to.equal(false)
    })

    it('finds a chain and checkpoints signed anew by whoever has a key of their own', async () => {
      const { writer, anchors } = await made()
      await asOwner('truncate audit_events, audit_checkpoints, audit_keys')
      const forger = createSigner(generateKeyPairSync('ed25519').privateKey)
      const store = open(writer, { signer: forger })
      await fill(store, 1, 10)
      await store.close(true)
      expect((await verify()).ok).to.equal(true)
      expect((await verify({ anchors })).ok).to.equal(false)
      expect((await verify({ publicKeys: parsePublicKeys(signer.publicKey) })).ok).to.equal(false)
    })

    it('refuses a file that holds none, or a damaged one', async () => {
      const file = join(folder, 'other.ndjson')
      for (const text of [
        '',
        '{"level":30}\n',
        '{"audit_checkpoint":{"writer":1}}\n',
        '{"audit_checkpoint":\n',
      ]) {
        await writeFile(file, text)
        const error = await readAnchorFile(file, { since: null, until: null }).catch(
          (thrown: unknown) => thrown,
        )
        expect(error).to.have.property('code', 'usage')
      }
    })
  })

  describe('chains', () => {
    it('go on after a restart, and when another process has taken over the rows', async () => {
      const writer = randomUUID()
      await fill(open(writer), 1, 5)
      await fill(open(writer), 6, 8)
      const adopter = open(randomUUID())
      await fill(adopter, 9, 14, writer)
      await fill(adopter, 1, 4)
      await adopter.close(true)
      expect(await verify()).to.deep.include({ ok: true, rows: 18, writers: 2, unproven: 0, findings: [] })
    })

    it('do not fork when batches are repeated, in part or by others', async () => {
      const writer = randomUUID()
      const first = open(writer)
      const entries = Array.from({ length: 9 }, (_, at) => first.entry(rowAt(at + 1), at + 1))
      await first.store(entries.slice(0, 6), () => undefined)
      const second = open(randomUUID())
      const again = Array.from({ length: 12 }, (_, at) =>
        second.entry(entries[at]?.row ?? rowAt(at + 1), at + 1, writer),
      )
      const stored: number[] = []
      await second.store(again.slice(2, 5), (part) => stored.push(...part.map(({ seq }) => seq)))
      await second.store(again.slice(9, 10).concat(), () => undefined)
      expect(stored).to.deep.equal([3, 4, 5])
      // The first process believes that its own next row comes after the sixth.
      await first.store(entries.slice(3, 6), () => undefined)
      expect(await verify()).to.deep.include({ ok: true, rows: 7, holes: 3, findings: [] })
    })

    it('do not fork when an answer is lost and the next batch is a larger one', async () => {
      const writer = randomUUID()
      let fail = true
      const store = createStore({
        pool: {
          async query(...args: [never]) {
            const result = await database.pool.query(...args)
            const isInsert = typeof args[0] === 'object'
            if (isInsert && fail) throw new Error('the connection was lost after the commit')
            return result
          },
        } as unknown as TestDatabase['pool'],
        writerId: writer,
        newId,
        clock: { nowMs: Date.now },
        signer,
      })
      stores.push(store)
      const entries = Array.from({ length: 6 }, (_, at) => store.entry(rowAt(at + 1), at + 1))
      const lost = await store.store(entries.slice(0, 2), () => undefined).catch((thrown: unknown) => thrown)
      expect(lost).to.be.an('error')
      fail = false
      await store.store(entries, () => undefined)
      await store.close(true)
      expect(await verify()).to.deep.include({ ok: true, rows: 6, holes: 0, unproven: 0, findings: [] })
    })

    it('are over what is stored in place of a refused row', async () => {
      await asOwner("alter table audit_events add constraint no_evil check (tool_name <> 'evil')")
      const store = open(randomUUID())
      const entries = Array.from({ length: 7 }, (_, at) => {
        const row = rowAt(at + 1)
        return store.entry(at === 3 ? { ...row, tool_name: 'evil' } : row, at + 1)
      })
      const noJson = store.entry({ ...rowAt(8), decision: '{"a":' as StoredText }, 8)
      await store.store([...entries, noJson], () => undefined)
      await asOwner('alter table audit_events drop constraint no_evil')
      expect(await verify()).to.deep.include({ ok: true, rows: 8, findings: [] })
      expect(store.counters).to.include({ degraded: 2 })
    })

    it('keep a row whose id another row has', async () => {
      const row = rowAt(1)
      await fill(open(randomUUID()), 1, 1)
      const [a, b] = [open(randomUUID()), open(randomUUID())]
      await a.store([a.entry(row, 1)], () => undefined)
      await b.store([b.entry(row, 1), b.entry(rowAt(2), 2)], () => undefined)
      expect(await verify()).to.deep.include({ ok: true, rows: 4, findings: [] })
      expect(b.counters.redated).to.equal(1)
    })

    it('are over any row as PostgreSQL gives it back', async function () {
      this.timeout(60_000)
      const text = fc
        .string({ unit: 'binary', maxLength: 20 })
        .map((value) => value.replaceAll('\0', '\u2400'))
      const nullable = fc.option(text)
      const json = fc.oneof(
        fc.json({ noUnicodeString: false } as object).filter((value) => !value.includes('\\u0000')),
        fc.constantFrom(
          '{"x":1e400,"y":-0,"z":1.0,"__proto__":{"a":123456789012345678901234567890}}',
          '{"b":1,"a":{"bb":2,"c":-0.0},"b":[1E+3]}',
        ),
      )
      const stored = json.map(toStoredText)
      const address = fc.option(fc.oneof(fc.ipV4(), fc.ipV6()))
      const double = fc.oneof(
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.constantFrom(-0, 5e-324, 1e21),
      )
      const values = fc.record({
        ...{
          tenant: nullable,
          principal_id: nullable,
          client_name: nullable,
          tool_name: nullable,
          reason: nullable,
        },
        ...{ roles: fc.option(fc.array(text, { maxLength: 4 })), client_ip: address },
        ...{
          latency_ms: double,
          upstream_ms: fc.option(double),
          status_code: fc.integer({ min: 0, max: 999 }),
        },
        ...{ request_json: fc.option(stored), response_json: fc.option(stored), decision: stored },
      })
      let seq = 0
      const store = open(randomUUID(), { rows: 50 })
      await fc.assert(
        fc.asyncProperty(fc.array(values, { minLength: 10, maxLength: 20 }), async (rows) => {
          const entries = rows.map((row) => {
            seq += 1
            return store.entry({ ...rowAt(seq % 1000), ...row }, seq)
          })
          await store.store(entries, () => undefined)
        }),
        { numRuns: 12 },
      )
      const report = await verify()
      expect(report.findings).to.deep.equal([])
      expect(report).to.include({ ok: true, rows: seq })
      // Few are such that the database refuses them.
      expect(store.counters.degraded).to.be.lessThan(seq / 4)
    })
  })

  describe('rows that were dropped because of their age', () => {
    async function retire(writer: string, from: number, to: number, by: Signer | null = signer) {
      const { rows } = await asOwner(
        `select encode(leaf, 'hex') as leaf from audit_events where writer = $1 and seq = $2`,
        [writer, to],
      )
      const { rowCount } = await asOwner(
        'delete from audit_events where writer = $1 and seq between $2 and $3',
        [...[writer, from, to]],
      )
      const retired = signRetirement(
        {
          ...{
            writer,
            fromSeq: String(from),
            toSeq: String(to),
            rows: rowCount ?? 0,
            lastLeaf: rows[0].leaf as string,
          },
          ...{ day: '2026-01-31', retiredAt: new Date().toISOString(), archive: null, archiveSha256: null },
        },
        by,
      )
      await asOwner(
        `insert into audit_retired (writer, from_seq, to_seq, rows, last_leaf, day, retired_at, key_id, signature)
         values ($1, $2, $3, $4, decode($5, 'hex'), $6, $7, $8, $9)`,
        [
          ...[retired.writer, retired.fromSeq, retired.toSeq, retired.rows, retired.lastLeaf, retired.day],
          ...[retired.retiredAt, retired.keyId, retired.signature],
        ],
      )
    }

    it('are no loss when a signed record says so, at the beginning, in the middle and at the end', async () => {
      const [first, second] = await filled()
      await retire(first, 1, 3)
      await retire(first, 6, 7)
      await retire(second, 1, 10)
      expect(await verify()).to.deep.include({
        ok: true,
        rows: 5,
        retired: 15,
        retiredUnsigned: 0,
        findings: [],
      })
    })

    it('are missed where the record speaks of fewer', async () => {
      const [writer] = await filled()
      await retire(writer, 2, 3)
      await asOwner('delete from audit_events where writer = $1 and seq in (1, 5)', [writer])
      expect(shortly(await verify())).to.deep.equal(['deleted 1', 'deleted 5'])
    })

    it('are missed when the record was changed or bears no signature', async () => {
      const [first, second] = await filled()
      await retire(first, 1, 3)
      await retire(second, 1, 3, null)
      await asOwner('update audit_retired set rows = 2 where writer = $1', [first])
      expect(shortly(await verify())).to.deep.equal([
        'retirement 1',
        'deleted 1',
        'retirement 1',
        'deleted 1',
      ])
    })
  })

  describe('erasure', () => {
    const order = { signer, actor: 'ada', reason: 'ticket 4711', nowMs: Date.now() }

    async function place(writer: string, seq: number) {
      const { rows } = await asOwner('select id, ts from audit_events where writer = $1 and seq = $2', [
        writer,
        seq,
      ])
      return rows[0] as RowPlace
    }

    async function erase(places: readonly RowPlace[]): Promise<number> {
      const client = await database.ownerPool.connect()
      try {
        return await erasePayloads(client, places, order)
      } finally {
        client.release()
      }
    }

    it('takes everything of the payload, and the row stays provable', async () => {
      const [writer] = await filled()
      const [five, six] = [await place(writer, 5), await place(writer, 6)]
      expect(await erase([five, six])).to.equal(2)
      expect(await erase([five])).to.equal(0)
      expect(await verify()).to.deep.include({ ok: true, rows: 20, erased: 2, findings: [] })
      const { rows } = await asOwner('select * from audit_events where id = $1', [six.id])
      expect(rows[0]).to.include({ request_json: null, response_json: null, redaction: null, salt: null })
      expect(rows[0].decision.authz).to.not.have.any.keys('input', 'input_mac')
      expect(rows[0].decision.authz.trace).to.include({ erased: true })
      expect(JSON.stringify(rows[0].decision))
        .to.include('input.principal.claims.mfa')
        .and.not.match(/"(reads|vars|value|missing|args)"/)
      const { rows: records } = await database.pool.query(
        'select actor, reason from audit_erasures order by seq',
      )
      expect(records).to.deep.equal(
        Array.from({ length: 2 }, () => ({ actor: 'ada', reason: 'ticket 4711' })),
      )
    })

    it('does not hide an edit before or after it, and only its signed record explains a missing payload', async () => {
      const [writer] = await filled()
      await asOwner("update audit_events set tool_name = 'harmless' where writer = $1 and seq = 3", [writer])
      await erase([await place(writer, 3), await place(writer, 5), await place(writer, 7)])
      await asOwner(`update audit_events set decision = '{}' where writer = $1 and seq = 5`, [writer])
      await asOwner(`update audit_erasures set reason = 'other' where writer = $1 and seq = 7`, [writer])
      await asOwner(
        'update audit_events set request_json = null, salt = null where writer = $1 and seq = 9',
        [writer],
      )
      expect(shortly(await verify())).to.deep.equal([
        'edited 3',
        'edited 5',
        'erasure 7',
        'edited 7',
        'edited 9',
      ])
    })

    it('finds all rows of a principal, and rows from before the chain', async () => {
      const [writer] = await filled()
      await asOwner('update audit_events set leaf = null, salt = null where writer <> $1', [writer])
      await asOwner('delete from audit_checkpoints where writer <> $1', [writer])
      let count = 0
      for (let rows = await erasableRows(database.ownerPool, 'anna'); rows.length > 0; ) {
        count += await erase(rows)
        rows = await erasableRows(database.ownerPool, 'anna')
      }
      expect(count).to.equal(20)
      expect(await verify()).to.include({ erased: 20, unchained: 10 })
    })
  })

  it('looks at a span of time only, and at what belongs to it', async () => {
    const [writer] = await filled()
    const { rows } = await asOwner('select ts from audit_events where writer = $1 and seq = 5', [writer])
    const since = rows[0].ts as Date
    const until = new Date(since.getTime() + 3)
    expect(await verify({ since })).to.include({ ok: true, rows: 12 })
    await asOwner("update audit_events set outcome = 'x' where writer = $1 and seq = 3", [writer])
    expect(await verify({ since })).to.include({ ok: true })
    await asOwner("update audit_events set outcome = 'x' where writer = $1 and seq = 6", [writer])
    expect(shortly(await verify({ since, until: null }))).to.deep.equal(['edited 6'])
    expect(shortly(await verify({ since: null, until }))).to.deep.equal(['edited 3', 'edited 6'])
  })

  it('needs rights that the runtime role has, which may add to the records and change none', async () => {
    await filled()
    for (const table of [
      'audit_events',
      'audit_checkpoints',
      'audit_keys',
      'audit_erasures',
      'audit_retired',
    ]) {
      for (const statement of [
        `delete from ${table}`,
        `truncate ${table}`,
        `update ${table} set writer = null`,
      ]) {
        const sql = table === 'audit_keys' ? statement.replace('writer', 'key_id') : statement
        const error = await database.pool.query(sql).catch((thrown: unknown) => thrown)
        expect(error, sql).to.have.property('code', '42501')
      }
    }
    const forged = database.pool.query(
      `insert into audit_erasures (id, writer, seq, erased_at, actor, reason, after, key_id, signature)
       values (gen_random_uuid(), gen_random_uuid(), 1, now(), 'x', 'x', '{}', 'x', 'x')`,
    )
    expect(await forged.catch((thrown: unknown) => thrown)).to.have.property('code', '42501')
  })
})
