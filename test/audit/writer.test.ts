import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import type { AuditLimits, AuditState } from '../../src/audit/limits.ts'
import { createNoAudit } from '../../src/audit/none.ts'
import { findRevisions, storeRevision } from '../../src/audit/revisions.ts'
import type { AuditWriter } from '../../src/audit/writer.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import { GatewayError } from '../../src/errors.ts'
import type { Rooms } from '../../src/gateway/call.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { SECRET_VALUES } from '../support/secrets-corpus.ts'
import {
  allowed,
  call,
  denied,
  evaluation,
  newId,
  refused,
  removeSpools,
  spooling,
  toolsCall,
} from './fixtures.ts'

const DAY_MS = 86_400_000

interface Opened {
  readonly room: AuditWriter
  readonly clock: { ms: number; nowMs(): number }
  readonly writerId: string
  readonly logged: string[]
  readonly states: AuditState[]
}

describe('audit/writer', () => {
  let database: TestDatabase
  const opened: AuditWriter[] = []

  before(async () => {
    database = await createTestDatabase()
  })
  afterEach(async () => {
    for (const room of opened.splice(0)) await room.close()
  })
  after(async () => {
    await database.drop()
    removeSpools()
  })

  async function open(
    limits: Partial<AuditLimits> = {},
    pool: unknown = database.pool,
    startMs = Date.now(),
  ): Promise<Opened> {
    const clock = {
      ms: startMs,
      nowMs() {
        return this.ms
      },
    }
    const logged: string[] = []
    const states: AuditState[] = []
    const log = (_fields: object, text: string) => void logged.push(text)
    const writerId = randomUUID()
    const room = createAuditRoom({
      pool: pool as TestDatabase['pool'],
      writerId,
      newId,
      clock,
      log: { info: log, warn: log, error: log },
      limits,
      onState: (state) => states.push(state),
      ...spooling(),
    })
    opened.push(room)
    await room.start()
    return { room, clock, writerId, logged, states }
  }

  /** Everything that is stored of one call, as text. */
  async function stored(event: AuditEvent): Promise<Record<string, string | null>[]> {
    const { rows } = await database.pool.query<Record<string, string | null>>(
      `select e.*, decision::text as decision, request_json::text as request_json,
       response_json::text as response_json, redaction::text as redaction, to_char(ts at time zone 'UTC', 'YYYY-MM-DD') as day
       from audit_events e where request_id = $1`,
      [event.call.requestId],
    )
    return rows
  }

  const now = (changes = {}) => ({ startedMs: Date.now(), ...changes })

  it('offers what the spine asks for', async () => {
    const room: Rooms['audit'] = createNoAudit()
    const real: Rooms['audit'] = (await open()).room
    expect([room, real]).to.have.lengthOf(2)
  })

  it('stores the row before `end` resolves', async () => {
    const { room, writerId } = await open()
    const event = allowed(now())
    await room.begin(event.call)
    expect(room.counters().open).to.equal(1)
    await room.end(event)
    const [row, ...others] = await stored(event)
    expect(others).to.deep.equal([])
    expect(row).to.deep.include({
      id: event.call.id,
      outcome: 'allowed',
      writer: writerId,
      seq: '1',
    })
    expect(row?.['leaf']).to.have.lengthOf(32)
    expect(row?.['ts']).to.deep.equal(new Date(event.call.startedMs))
    expect(room.counters()).to.include({ accepted: 1, open: 0, statements: 1, degraded: 0 })
    const { spoolDiskBytes, ...gauges } = room.gauges()
    expect(spoolDiskBytes).to.be.greaterThan(0)
    expect(gauges).to.deep.equal({
      pendingRows: 0,
      pendingBytes: 0,
      lagMs: 0,
      writtenRows: 1,
      mendedRows: 0,
      failedWrites: 0,
      lostRows: 0,
      deadLetters: 0,
      recoveredRows: 0,
      spoolMaxBytes: 64 * 1024 * 1024,
      accepting: 1,
    })
  })

  it('makes the days ahead at the start', async () => {
    const { clock } = await open({}, database.pool, Date.now() + 30 * DAY_MS)
    const { rows } = await database.ownerPool.query<{ name: string }>(
      `select relname as name from pg_class where relname like 'audit_events_%' and relkind = 'r' and relname > $1`,
      [`audit_events_${new Date(clock.ms - DAY_MS).toISOString().slice(0, 10).replaceAll('-', '')}`],
    )
    expect(rows.map(({ name }) => name.slice(-8)).sort()).to.deep.equal(
      Array.from({ length: 8 }, (_, index) =>
        new Date(clock.ms + index * DAY_MS).toISOString().slice(0, 10).replaceAll('-', ''),
      ),
    )
  })

  it('stores rows of a clock that is ten days ahead, and of one that is years off', async () => {
    const { room } = await open()
    const ahead = denied({ startedMs: Date.now() + 10 * DAY_MS })
    const behind = denied({ startedMs: Date.now() - 60 * DAY_MS })
    const lost = denied({ startedMs: Date.UTC(2004, 1, 29) })
    const neighbour = denied(now())
    await Promise.all([ahead, behind, lost, neighbour].map((event) => room.end(event)))
    for (const event of [ahead, behind, neighbour]) {
      const [row] = await stored(event)
      expect(row?.['id']).to.equal(event.call.id)
      expect(row?.['day']).to.equal(new Date(event.call.startedMs).toISOString().slice(0, 10))
    }
    const [moved] = await stored(lost)
    expect(moved?.['day']).to.equal(new Date().toISOString().slice(0, 10))
    expect(JSON.parse(moved?.['decision'] ?? '')).to.have.nested.property('moved.id', lost.call.id)
    expect(room.counters().redated).to.equal(1)
  })

  it('shares statements between callers and numbers rows without holes', async () => {
    const { room, writerId } = await open()
    await room.end(denied(now()))
    const before = room.counters().statements
    await Promise.all(Array.from({ length: 200 }, () => room.end(denied(now()))))
    expect(room.counters().statements - before).to.be.at.most(3)
    const { rows } = await database.pool.query<{ seqs: string[] }>(
      'select array_agg(seq order by seq) as seqs from audit_events where writer = $1',
      [writerId],
    )
    expect(rows[0]?.seqs).to.deep.equal(Array.from({ length: 201 }, (_, index) => String(index + 1)))
  })

  it('stores rows with hostile contents and their neighbours', async () => {
    const { room } = await open()
    const nasty = 'a\\u0000b\\ud800c'
    const bodies = [
      `{"x":"${nasty}"}`,
      `{"x":${'['.repeat(60)}1${']'.repeat(60)}}`,
      `{"x":"${'y'.repeat(300_000)}"}`,
      `{"${'k'.repeat(300_000)}":1}`,
      '{"x":1e400,"y":-0,"z":123456789012345678901234567890}',
      `{"x":1e-99999,"y":0.${'3'.repeat(2000)}}`,
      '{"__proto__":{"a":1},"constructor":null}',
    ]
    const events = bodies.map((body) => denied(now({ message: toolsCall(body, 'a\0b\ud800') })))
    await Promise.all(events.map((event) => room.end(event)))
    for (const event of events) {
      const [row, ...others] = await stored(event)
      expect(others).to.deep.equal([])
      expect(row?.['request_json']).to.be.a('string')
    }
    expect(room.counters()).to.include({ bisections: 0, degraded: 0 })
    const [first] = await stored(events[0]!)
    expect(JSON.parse(first?.['request_json'] ?? '')).to.have.nested.property(
      'params.arguments.x',
      'a\u2400b\ufffdc',
    )
    const [exact] = await stored(events[4]!)
    expect(exact?.['request_json']).to.include('123456789012345678901234567890')
  })

  it('finds the rows the database refuses and stores them without what it refuses, neighbours untouched', async () => {
    const { room } = await open()
    // The engine is trusted to give JSON; should it ever not, this is what happens.
    const bad = evaluation({ trace: `{"v":1,"rules":[${'['.repeat(30_000)}${']'.repeat(30_000)}]}` })
    const poisoned = denied(now({ evaluation: bad }))
    await database.ownerPool.query(
      "alter table audit_events add constraint no_evil check (tool_name <> 'evil')",
    )
    const impossible = denied(
      now({ target: { kind: 'tool', name: 'evil', annotations: {}, schemaDigest: null } }),
    )
    const events = [...Array.from({ length: 50 }, () => denied(now())), poisoned, impossible]
    await Promise.all(events.map((event) => room.end(event)))
    for (const event of events.slice(0, 50)) {
      expect(JSON.parse((await stored(event))[0]?.['decision'] ?? '{}')).to.have.nested.property(
        'authz.trace.v',
        1,
      )
    }
    const [mended] = await stored(poisoned)
    expect(mended).to.deep.include({ outcome: 'denied_authz', principal_id: 'anna', request_json: null })
    expect(JSON.parse(mended?.['decision'] ?? '').stored).to.include({
      as: 'without_payload',
      sqlstate: '54001',
    })
    const [held] = await stored(impossible)
    expect(JSON.parse(held?.['decision'] ?? '').stored).to.include({ as: 'placeholder' })
    expect(room.counters().degraded).to.equal(2)
    await database.ownerPool.query('alter table audit_events drop constraint no_evil')
    expect(room.state()).to.equal('up')
  })

  it('stores a row once when the same statement is repeated', async () => {
    let fail = true
    const flaky = {
      on: () => flaky,
      off: () => flaky,
      async query(...args: [never]) {
        const result = await database.pool.query(...args)
        if (fail && typeof args[0] === 'object') {
          fail = false
          throw new Error('the connection was lost after the commit')
        }
        return result
      },
    }
    const { room, states } = await open({ retryMinMs: 1 }, flaky)
    const event = allowed(now())
    await room.begin(event.call)
    await room.end(event)
    expect(await stored(event)).to.have.lengthOf(1)
    expect(states).to.deep.equal(['down', 'up'])
    expect(room.counters()).to.include({ accepted: 1, retries: 1 })
  })

  describe('when the database cannot be reached', () => {
    /** A pool that refuses, or never answers, until told otherwise. */
    function broken() {
      let mode: 'refuse' | 'hang' | 'work' = 'refuse'
      const hanging: (() => void)[] = []
      const pool = {
        on: () => pool,
        off: () => pool,
        async query(...args: [never]) {
          if (mode === 'hang') await new Promise<void>((resolve) => hanging.push(resolve))
          if (mode === 'refuse') throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
          return await database.pool.query(...args)
        },
      }
      const set = (next: typeof mode) => {
        mode = next
        if (next !== 'hang') for (const resolve of hanging.splice(0)) resolve()
      }
      return { pool, set }
    }

    async function kindOf(promise: Promise<unknown>): Promise<string> {
      const error = await promise.then(
        () => 'none',
        (thrown: unknown) => thrown,
      )
      return error instanceof GatewayError ? error.kind : String(error)
    }

    it('lets no call begin, keeps rows of refused calls and stores them when it is back', async () => {
      const { pool, set } = broken()
      const { room, states, logged } = await open({ retryMinMs: 1, retryMaxMs: 5 }, pool)
      const first = allowed(now())
      expect(await kindOf(room.begin(first.call))).to.equal('audit_unavailable')
      expect(room.state()).to.equal('down')
      expect(await kindOf(room.begin(call(now())))).to.equal('audit_unavailable')
      const rejected = { call: first.call, ending: refused('audit_unavailable') }
      expect(await kindOf(room.end(rejected))).to.equal('audit_unavailable')
      expect(room.gauges().pendingRows).to.equal(1)
      set('work')
      expect(await room.flush(5000)).to.equal(true)
      expect(states).to.deep.equal(['down', 'up'])
      expect((await stored(rejected))[0]).to.deep.include({
        outcome: 'unavailable',
        reason: 'audit_unavailable',
        seq: '1',
      })
      expect(logged).to.deep.equal([
        'the audit days ahead could not be made',
        'audit rows cannot be stored: calls are refused until they can',
        'audit rows can be stored again',
      ])
      await room.begin(call(now()))
    })

    it('answers a caller whose row does not come in time, and stores the row later', async () => {
      const { pool, set } = broken()
      set('work')
      const { room, states } = await open({ endDeadlineMs: 20 }, pool)
      const event = allowed(now())
      await room.begin(event.call)
      set('hang')
      expect(await kindOf(room.end(event))).to.equal('audit_unavailable')
      expect(room.state()).to.equal('down')
      expect(room.counters().late).to.equal(1)
      set('work')
      expect(await room.flush(5000)).to.equal(true)
      expect(await stored(event)).to.have.lengthOf(1)
      expect(states).to.deep.equal(['down', 'up'])
    })

    it('keeps rows without their payload when memory runs short', async () => {
      const { pool, set } = broken()
      const { room } = await open({ maxLength: 7000, retryMinMs: 1, retryMaxMs: 5, endDeadlineMs: 10 }, pool)
      const events = Array.from({ length: 4 }, () =>
        denied(now({ message: toolsCall(`{"a":"${'x'.repeat(3000)}"}`) })),
      )
      for (const event of events) await room.end(event).catch(() => undefined)
      set('work')
      expect(await room.flush(5000)).to.equal(true)
      const kept = await Promise.all(
        events.map(async (event) => (await stored(event))[0]?.['request_json'] !== null),
      )
      expect(kept).to.deep.equal([true, false, false, false])
    })

    it('says at the end how many rows wait in the spool for the next start', async () => {
      const { pool } = broken()
      const { room, logged } = await open({ endDeadlineMs: 5, closeDeadlineMs: 5, retryMinMs: 1 }, pool)
      await kindOf(room.end(denied(now())))
      await kindOf(room.end(denied(now())))
      expect(await room.close()).to.deep.equal({ waiting: 2, unwritten: 0 })
      expect(room.gauges().lostRows).to.equal(0)
      expect(logged.at(-1)).to.equal('audit rows wait in the spool for the next start')
      expect(await kindOf(room.begin(call(now())))).to.equal('audit_unavailable')
      expect(await kindOf(room.end(denied(now())))).to.equal('audit_unavailable')
    })
  })

  it('records calls that are still open at the end as interrupted', async () => {
    const { room } = await open()
    const event = allowed(now())
    await room.begin(event.call)
    expect(await room.close()).to.deep.equal({ waiting: 0, unwritten: 0 })
    expect((await stored(event))[0]).to.deep.include({ outcome: 'interrupted', id: event.call.id })
  })

  it('has a database role that can add and read rows and nothing else', async () => {
    const { room } = await open()
    const event = denied(now())
    await room.end(event)
    const [row] = await stored(event)
    const table = `audit_events_${row?.['day']?.replaceAll('-', '')}`
    const refusedStatements = [
      "update audit_events set outcome = 'allowed'",
      'delete from audit_events',
      'truncate audit_events',
      'drop table audit_events',
      `update ${table} set outcome = 'allowed'`,
      `delete from ${table}`,
      `select * from ${table}`,
      `drop table ${table}`,
      `alter table audit_events detach partition ${table}`,
      'create table mine (x int)',
      "update policy_revisions set revision = 'x'",
      'delete from policy_revisions',
      'alter table audit_events disable trigger all',
      "select audit_revoke_defaults('audit_events')",
      "select audit_create_day('1999-01-01')",
      "select audit_create_day('2999-01-01')",
      'select audit_create_day(null)',
    ]
    for (const statement of refusedStatements) {
      const error = await database.pool.query(statement).then(
        () => null,
        (thrown: unknown) => thrown as { code: string },
      )
      expect(error?.code, statement).to.be.oneOf(['42501', '22008'])
    }
  })

  it('makes days by a function that a hostile search path cannot turn', async () => {
    const client = await database.pool.connect()
    try {
      await client.query('create temporary table audit_events (id int) on commit preserve rows')
      await client.query(
        'create function pg_temp.now() returns timestamptz language sql as $$ select null::timestamptz $$',
      )
      await client.query('set search_path = pg_temp, public, pg_catalog')
      const { rows } = await client.query<{ made: boolean }>(
        `select public.audit_create_day((current_date + 200)::date) as made`,
      )
      expect(rows).to.deep.equal([{ made: true }])
      const { rows: again } = await client.query<{ made: boolean }>(
        `select public.audit_create_day((current_date + 200)::date) as made`,
      )
      expect(again).to.deep.equal([{ made: false }])
    } finally {
      client.release(true)
    }
  })

  it('keeps a policy that has served as it was first seen', async () => {
    const policy = {
      digest: 'sha256:1',
      revision: 'r1',
      opa: '1.22.0',
      sources: { 'a.rego': 'package a\0' },
      dictionary: { v: 1, rules: [], exprs: [] },
      data: { b: 1, a: [{ d: 1, c: 2 }] },
      loadedAt: new Date(0),
    }
    await storeRevision(database.pool, policy)
    await storeRevision(database.pool, { ...policy, sources: { 'a.rego': 'changed' }, loadedAt: new Date(1) })
    await storeRevision(database.pool, { ...policy, revision: 'r2', data: { a: [{ c: 2, d: 1 }], b: 1 } })
    const { rows } = await database.pool.query(
      "select revision, sources, loaded_at, data_sha256, data_json from policy_revisions where digest = 'sha256:1' order by 1",
    )
    expect(rows).to.have.lengthOf(2)
    expect(rows[0].data_json).to.equal('{"b":1,"a":[{"d":1,"c":2}]}')
    expect(rows[0]).to.deep.include({ sources: { 'a.rego': 'package a\u2400' }, loaded_at: new Date(0) })
    expect(rows[0].data_sha256).to.equal(rows[1].data_sha256)
    // Found again by the beginning of revision or digest; data beyond the bound leave their digest only.
    expect(await findRevisions(database.pool, 'r1')).to.deep.include.members([
      { revision: 'r1', sources: { 'a.rego': 'package a\u2400' }, dataText: '{"b":1,"a":[{"d":1,"c":2}]}' },
    ])
    expect(await findRevisions(database.pool, 'sha256:1')).to.have.lengthOf(2)
    const large = { text: 'x'.repeat(4 * 1024 * 1024) }
    await storeRevision(database.pool, { ...policy, revision: 'large', data: large })
    expect((await findRevisions(database.pool, 'large'))[0]).to.include({ dataText: null })
    expect(await findRevisions(database.pool, '%')).to.deep.equal([])
  })

  it('leaves no secret in any column', async () => {
    const { room, writerId } = await open()
    const all = Object.values(SECRET_VALUES)
    await Promise.all(
      all.map((secret) =>
        room.end(
          denied(
            now({
              message: toolsCall(
                JSON.stringify({ value: secret, text: `use ${secret}`, token: secret }),
                secret,
              ),
              target: { kind: 'tool', name: secret, annotations: {}, schemaDigest: null },
              evaluation: evaluation({
                trace: {
                  v: 1,
                  truncated: false,
                  dropped: 0,
                  rules: [{ rule: 'r', at: 'a:1', outcome: 'defined', value: secret, steps: [] }],
                },
              }),
            }),
          ),
        ),
      ),
    )
    const { rows } = await database.pool.query<{ row: string }>(
      'select row_to_json(e)::text as row from audit_events e where writer = $1',
      [writerId],
    )
    expect(rows).to.have.lengthOf(all.length)
    const text = rows.map(({ row }) => row).join('\n')
    for (const secret of all)
      expect(text.includes(JSON.stringify(secret).slice(1, -1)), secret.slice(0, 10)).to.equal(false)
  })
})
