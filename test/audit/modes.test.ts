import { randomUUID } from 'node:crypto'
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { AuditLimits, AuditRoomOptions } from '../../src/audit/limits.ts'
import { SPOOL_FS, segmentNumber } from '../../src/audit/spool-files.ts'
import type { OwnFolder } from '../../src/audit/spool-folder.ts'
import { openOwnFolder } from '../../src/audit/spool-folder.ts'
import { readFrames, toBytes } from '../../src/audit/spool-frame.ts'
import type { AuditWriter } from '../../src/audit/writer.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import { GatewayError, UsageError } from '../../src/errors.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { allowed, call, denied, evaluation, newId, toolsCall } from './fixtures.ts'
import { faultyFs } from './spool-faults.ts'

const MIB = 1024 * 1024

interface StoredRow {
  readonly id: string
  readonly outcome: string
  readonly reason: string | null
  readonly writer: string
  readonly seq: number
  readonly principal_id: string | null
  readonly tool_name: string | null
  readonly decision: Record<string, any>
}

describe('audit modes', () => {
  let database: TestDatabase
  let dir: string
  const opened: AuditWriter[] = []

  before(async () => {
    database = await createTestDatabase()
  })
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'gateway-spool-'))
  })
  afterEach(async () => {
    for (const room of opened.splice(0)) await room.close()
    rmSync(dir, { recursive: true, force: true })
  })
  after(() => database.drop())

  /** A database that is away until told otherwise. */
  function switchable() {
    let isAway = false
    const pool = {
      on: () => pool,
      off: () => pool,
      async query(...args: [never]) {
        if (isAway) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
        return await database.pool.query(...args)
      },
    }
    return {
      pool: pool as unknown as AuditRoomOptions['pool'],
      set: (away: boolean) => {
        isAway = away
      },
    }
  }

  async function open(changes: Partial<AuditRoomOptions> = {}, limits: Partial<AuditLimits> = {}) {
    const { fs, faults } = faultyFs()
    const { pool, set } = switchable()
    const logged: string[] = []
    const log = (_fields: object, text: string) => void logged.push(text)
    const writerId = randomUUID()
    const room = createAuditRoom({
      ...{ pool, writerId, newId, clock: { nowMs: Date.now }, log: { info: log, warn: log, error: log } },
      ...{ mode: 'batch', onFailure: 'deny', spool: { dir, maxBytes: 64 * MIB, fs } },
      limits: { retryMinMs: 1, retryMaxMs: 5, gatherMs: 1, adoptEveryMs: 20, endDeadlineMs: 5000, ...limits },
      ...changes,
    })
    opened.push(room)
    await room.start()
    return { room, faults, setAway: set, logged, writerId }
  }

  const rowsOf = async (writer: string): Promise<readonly StoredRow[]> =>
    (
      await database.pool.query<StoredRow>(
        `select id, outcome, reason, writer, seq::int, principal_id, tool_name, decision from audit_events
         where writer = $1 order by seq`,
        [writer],
      )
    ).rows

  const now = (changes = {}) => ({ startedMs: Date.now(), ...changes })

  async function kindOf(promise: Promise<unknown>): Promise<string> {
    return await promise.then(
      () => 'fine',
      (thrown: unknown) => (thrown instanceof GatewayError ? thrown.kind : String(thrown)),
    )
  }

  /** One call from begin to end. */
  async function attempt(room: AuditWriter, event: AuditEvent = allowed(now())): Promise<string> {
    return await kindOf(room.begin(event.call).then(() => room.end(event)))
  }

  const frames = () =>
    readdirSync(dir, { recursive: true, encoding: 'utf8' })
      .filter((name) => segmentNumber(name.split('/').at(-1) ?? '') !== null)
      .flatMap((name) => readFrames(readFileSync(join(dir, name))).frames)

  for (const mode of ['batch', 'durable'] as const) {
    it(`${mode}: answers while the database is away, and stores every row in order when it is back`, async () => {
      const { room, setAway, writerId } = await open({ mode }, { liveRows: 10, liveLength: 40_000 })
      setAway(true)
      const results = await Promise.all(Array.from({ length: 200 }, () => attempt(room)))
      expect(new Set(results)).to.deep.equal(new Set(['fine']))
      expect(room.state()).to.equal('up')
      expect(room.gauges().pendingRows).to.equal(200)
      setAway(false)
      expect(await room.flush(10_000)).to.equal(true)
      const rows = await rowsOf(writerId)
      expect(rows.map(({ seq }) => seq)).to.deep.equal(Array.from({ length: 200 }, (_, index) => index + 1))
      expect(new Set(rows.map(({ id }) => id)).size).to.equal(200)
      expect(room.gauges()).to.include({ pendingRows: 0, pendingBytes: 0, lostRows: 0 })
    })
  }

  it('takes rows in while it reads others back', async () => {
    const { room, faults, setAway, writerId } = await open({}, { liveRows: 3 })
    setAway(true)
    for (let count = 0; count < 20; count += 1) await room.end(denied(now()))
    let extra = 0
    faults.beforeRead = async () => {
      if (extra >= 10) return
      extra += 1
      await room.end(denied(now()))
    }
    setAway(false)
    await until('all rows', async () => extra === 10 && (await rowsOf(writerId)).length === 30)
    expect((await rowsOf(writerId)).map(({ seq }) => seq)).to.deep.equal(
      Array.from({ length: 30 }, (_, index) => index + 1),
    )
    expect(room.gauges()).to.include({ pendingRows: 0, pendingBytes: 0, lostRows: 0 })
  })

  it('blocking: answers when the row is committed, and not before', async () => {
    const { room, writerId } = await open({ mode: 'blocking' })
    expect(await attempt(room)).to.equal('fine')
    expect(await rowsOf(writerId)).to.have.lengthOf(1)
  })

  it('has the begin on disk before the upstream may be asked, and the row before the answer may leave', async () => {
    const { room, setAway } = await open()
    setAway(true)
    const event = allowed(now({ message: toolsCall('{"password":"hunter2-hunter2"}') }))
    await room.begin(event.call)
    expect(
      frames()
        .map(({ kind, id }) => [kind, id])
        .slice(1),
    ).to.deep.equal([['begin', event.call.id]])
    await room.end(event)
    expect(frames().at(-1)).to.include({ kind: 'end', id: event.call.id, seq: 1 })
    expect(frames().some(({ text }) => text.includes('hunter2'))).to.equal(false)
    setAway(false)
  })

  it('waits for the disk in `durable`, and not in `batch`', async () => {
    const waiting = async (mode: 'batch' | 'durable') => {
      const { room, faults } = await open({ mode })
      const before = faults.syncs
      await attempt(room)
      return faults.syncs - before
    }
    expect(await waiting('durable')).to.equal(2)
    expect(await waiting('batch')).to.equal(0)
  })

  describe('when a process has died', () => {
    /** What a kill leaves behind: the files as they are, and nobody who holds them. */
    async function dead(write: (room: AuditWriter) => Promise<void>): Promise<string> {
      const { room, setAway, writerId } = await open({}, { closeDeadlineMs: 1 })
      setAway(true)
      await write(room)
      const folder = join(dir, writerId.replaceAll('-', '').slice(0, 12))
      const files = readdirSync(folder).flatMap((name) =>
        segmentNumber(name) === null ? [] : [[join(folder, name), readFileSync(join(folder, name))] as const],
      )
      await room.close()
      // What a graceful end has added is taken away again.
      for (const name of readdirSync(folder)) rmSync(join(folder, name))
      for (const [path, bytes] of files) writeFileSync(path, bytes)
      return writerId
    }

    const onlyFile = (writer: string): string => {
      const folder = join(dir, writer.replaceAll('-', '').slice(0, 12))
      return join(folder, readdirSync(folder).find((name) => segmentNumber(name) !== null) as string)
    }

    it('stores its rows under its own id, and calls without an end as interrupted', async () => {
      const ended = allowed(now())
      const open1 = call(now({ stage: 'audit', evaluation: evaluation({ allow: true, deniedBy: [] }) }))
      const writer = await dead(async (room) => {
        await room.begin(ended.call)
        await room.begin(open1)
        await room.end(ended)
        await room.end(denied(now()))
      })
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      const rows = await rowsOf(writer)
      expect(rows.map(({ seq, outcome }) => [seq, outcome])).to.deep.equal([
        [1, 'allowed'],
        [2, 'denied_authz'],
        [3, 'interrupted'],
      ])
      expect(rows[2]).to.deep.include({ id: open1.id, principal_id: 'anna', tool_name: 'delete_repo' })
      expect(rows[2]?.decision).to.deep.include({ stage: 'upstream', outcome: 'interrupted' })
      expect(rows[2]?.decision['authz']).to.include({ allow: true })
      expect(next.room.counters()).to.include({ recovered: 3, interrupted: 1 })
      expect(await rowsOf(next.writerId)).to.deep.equal([])
      expect(readdirSync(dir)).to.have.lengthOf(1)
    })

    it('cuts a torn end', async () => {
      const writer = await dead(async (room) => {
        for (let count = 0; count < 3; count += 1) await attempt(room)
      })
      appendFileSync(
        onlyFile(writer),
        toBytes({ kind: 'end', seq: 4, ms: 1, id: randomUUID(), text: '{}' }).subarray(0, 30),
      )
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      expect((await rowsOf(writer)).map(({ outcome }) => outcome)).to.deep.equal([
        'allowed',
        'allowed',
        'allowed',
      ])
      expect(next.room.gauges().lostRows).to.equal(0)
    })

    it('declares rows that something has damaged, stores all others and keeps the file', async () => {
      const writer = await dead(async (room) => {
        for (let count = 0; count < 5; count += 1) await room.end(denied(now()))
      })
      const path = onlyFile(writer)
      const bytes = readFileSync(path)
      const { frames: read } = readFrames(bytes)
      const third = read.find(({ seq, kind }) => kind === 'end' && seq === 3)
      bytes[(third?.start ?? 0) + 100] = 0
      writeFileSync(path, bytes)
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      const rows = await rowsOf(writer)
      expect(rows.map(({ seq }) => seq)).to.deep.equal([1, 2, 4, 5, 6])
      expect(rows.at(-1)).to.include({ outcome: 'gap', reason: 'spool_damaged' })
      expect(rows.at(-1)?.decision['gap']).to.deep.include({ count: 1, seqs: [3, 3] })
      expect(next.room.gauges().lostRows).to.equal(1)
      expect(readdirSync(join(dir, 'damaged'))).to.have.lengthOf(1)
      expect(next.logged).to.include('a file of an audit spool is damaged; what could be read is stored')
    })

    it('sets a spool aside in which nothing can be read, and starts all the same', async () => {
      const writer = await dead(async (room) => void (await attempt(room)))
      writeFileSync(onlyFile(writer), 'x'.repeat(1000))
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      expect(await attempt(next.room)).to.equal('fine')
      expect(readdirSync(join(dir, 'damaged'))).to.have.lengthOf(1)
      expect(next.logged).to.include('nothing in an audit spool can be read')
    })

    it('had not come far: what never held a row is cleared away without a word', async () => {
      for (const name of ['aaaaaaaaaaaa', 'bbbbbbbbbbbb'])
        await SPOOL_FS.mkdir(join(dir, name), { mode: 0o700 })
      writeFileSync(join(dir, 'aaaaaaaaaaaa', '0000000001.spool'), '')
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      expect(readdirSync(dir).sort()).to.deep.equal(
        [next.writerId.replaceAll('-', '').slice(0, 12), 'bbbbbbbbbbbb'].sort(),
      )
      expect(next.logged).to.deep.equal([])
    })

    it('stores rows once, although the dead had stored some of them itself', async () => {
      const { room, writerId } = await open()
      for (let count = 0; count < 5; count += 1) await attempt(room)
      await room.flush(5000)
      const folder = join(dir, writerId.replaceAll('-', '').slice(0, 12))
      const name = readdirSync(folder).find((one) => segmentNumber(one) !== null) as string
      const bytes = readFileSync(join(folder, name))
      await room.close()
      const again = join(dir, 'aaaaaaaaaaaa')
      await SPOOL_FS.mkdir(again, { mode: 0o700 })
      writeFileSync(join(again, name), bytes)
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      expect((await rowsOf(writerId)).map(({ seq }) => seq)).to.deep.equal([1, 2, 3, 4, 5])
    })

    it('is heard of again when it had declared nothing: what it missed is declared for it', async () => {
      const writer = await dead(async (room) => void (await room.end(denied(now()))))
      const gap = { why: 'spool_full', count: 12, fromMs: 1000, toMs: 2000 }
      appendFileSync(
        onlyFile(writer),
        toBytes({ kind: 'gap', seq: 0, ms: 1, id: randomUUID(), text: JSON.stringify(gap) }),
      )
      const next = await open()
      expect(await next.room.flush(5000)).to.equal(true)
      const last = (await rowsOf(writer)).at(-1)
      expect(last).to.include({ outcome: 'gap', reason: 'spool_full', seq: 2 })
      expect(last?.decision['gap']).to.include({ count: 12 })
    })

    it('is taken over by exactly one of many', async () => {
      const writer = await dead(async (room) => {
        for (let count = 0; count < 20; count += 1) await attempt(room)
      })
      const others = await Promise.all(Array.from({ length: 5 }, () => open()))
      await Promise.all(others.map(({ room }) => room.flush(5000)))
      await until('the rows', async () => (await rowsOf(writer)).length === 20)
      expect(others.map(({ room }) => room.counters().recovered).sort((a, b) => a - b)).to.deep.equal([
        0, 0, 0, 0, 20,
      ])
    })
  })

  it('takes nothing from a process that lives', async () => {
    const folders: OwnFolder[] = []
    for (const writer of [randomUUID(), randomUUID()]) {
      const folder = await openOwnFolder(SPOOL_FS, dir, writer)
      writeFileSync(join(folder.path, '0000000001.spool'), '')
      folders.push(folder)
    }
    expect(await folders[0]?.adopt()).to.deep.equal([])
    expect(await folders[1]?.adopt()).to.deep.equal([])
    await folders[1]?.release()
    expect(await folders[0]?.adopt()).to.have.lengthOf(1)
    await folders[0]?.release()
  })

  it('works in a folder whose path is too long for a socket', async function () {
    if (process.platform !== 'linux') this.skip()
    const long = join(dir, 'd'.repeat(120))
    await SPOOL_FS.mkdir(long, { mode: 0o700 })
    const { room, writerId } = await open({ spool: { dir: join(long, 'spool'), maxBytes: 64 * MIB } })
    expect(await attempt(room)).to.equal('fine')
    const other = await open({ spool: { dir: join(long, 'spool'), maxBytes: 64 * MIB } })
    await other.room.flush(5000)
    expect(other.room.counters().recovered).to.equal(0)
    await room.flush(5000)
    expect(await rowsOf(writerId)).to.have.lengthOf(1)
  })

  describe('when it cannot be written', () => {
    it('does not start where it may not write, and names the setting', async () => {
      const { fs, faults } = faultyFs()
      faults.open = 'EROFS'
      const failed = await open({ spool: { dir, maxBytes: MIB, fs } }).catch((error: unknown) => error)
      expect(failed).to.be.instanceOf(UsageError)
      expect(String(failed)).to.match(/EROFS.*audit\.spool_dir/)
    })

    it('deny: lets no call begin, stores the rows it can and goes on when the disk works', async () => {
      const { room, faults, writerId } = await open()
      const running = allowed(now())
      await room.begin(running.call)
      faults.write = 'ENOSPC'
      // The database takes what the disk refuses.
      expect(await kindOf(room.end(running))).to.equal('fine')
      expect(room.state()).to.equal('down')
      expect(await kindOf(room.begin(call(now())))).to.equal('audit_unavailable')
      expect(await kindOf(room.end(denied(now())))).to.equal('fine')
      faults.write = null
      await until('the disk to work', () => room.state() === 'up')
      expect(await attempt(room)).to.equal('fine')
      await room.flush(5000)
      expect((await rowsOf(writerId)).map(({ seq }) => seq)).to.deep.equal([1, 2, 3])
    })

    it('deny: refuses at once when disk and database are away, and loses none of the rows it holds', async () => {
      const { room, faults, setAway, writerId } = await open({}, { maxRows: 5, endDeadlineMs: 50 })
      setAway(true)
      faults.write = 'EIO'
      const first = await kindOf(room.end(denied(now())))
      const ends = await Promise.all(Array.from({ length: 11 }, () => kindOf(room.end(denied(now())))))
      expect(new Set([first, ...ends])).to.deep.equal(new Set(['audit_unavailable']))
      expect(room.counters().overflowed).to.equal(7)
      faults.write = null
      setAway(false)
      await until('the disk to work', () => room.state() === 'up')
      expect(await room.flush(5000)).to.equal(true)
      const rows = await until('the gap', async () => {
        const found = await rowsOf(writerId)
        return found.some(({ outcome }) => outcome === 'gap') && found
      })
      const { overflowed } = room.counters()
      expect(rows.filter(({ outcome }) => outcome === 'denied_authz')).to.have.lengthOf(12 - overflowed)
      expect(
        rows.filter(({ outcome }) => outcome === 'gap').map(({ decision }) => decision['gap'].count),
      ).to.deep.equal([overflowed])
    })

    for (const onFailure of ['deny', 'gap'] as const) {
      it(`${onFailure}: a full spool is declared with the exact count when there is room again`, async () => {
        const { room, setAway, writerId } = await open(
          { onFailure, spool: { dir, maxBytes: MIB } },
          { liveRows: 10 },
        )
        setAway(true)
        const big = () => denied(now({ message: toolsCall(`{"a":"${'x'.repeat(3000)}"}`) }))
        let stored = 0
        while (room.state() === 'up') {
          expect(await kindOf(room.end(big()))).to.equal('fine')
          stored += 1
        }
        const refusals = [await kindOf(room.end(big())), await attempt(room, allowed(now()))]
        expect(refusals).to.deep.equal(
          onFailure === 'gap' ? ['fine', 'fine'] : ['audit_unavailable', 'audit_unavailable'],
        )
        const missed = room.counters().overflowed
        expect(missed).to.equal(onFailure === 'gap' ? 2 : 1)
        setAway(false)
        await until('room in the spool', () => room.state() === 'up')
        const rows = await until('the gap', async () => {
          const found = await rowsOf(writerId)
          return found.some(({ outcome }) => outcome === 'gap') && found
        })
        expect(rows.filter(({ outcome }) => outcome === 'denied_authz')).to.have.lengthOf(stored)
        const [gap] = rows.filter(({ outcome }) => outcome === 'gap')
        expect(gap).to.include({ reason: 'spool_full' })
        expect(gap?.decision['gap'].count).to.equal(missed)
        expect(rows.map(({ seq }) => seq)).to.deep.equal(rows.map((_, index) => index + 1))
        expect(room.gauges().lostRows).to.equal(missed)
      })
    }

    it('refuses when the disk does not answer at all, and goes on when it does', async () => {
      const { room, faults, writerId } = await open({}, { endDeadlineMs: 30 })
      const running = allowed(now())
      await room.begin(running.call)
      faults.hanging = []
      // The database takes the row instead.
      expect(await kindOf(room.end(running))).to.equal('fine')
      expect(room.state()).to.equal('down')
      expect(await kindOf(room.begin(call(now())))).to.equal('audit_unavailable')
      for (const release of faults.hanging.splice(0)) release()
      faults.hanging = null
      await until('the disk to answer', () => room.state() === 'up')
      expect(await attempt(room)).to.equal('fine')
      await room.flush(5000)
      expect(await rowsOf(writerId)).to.have.lengthOf(2)
    })

    it('gives up rows that cannot be read back, declares them and goes on', async () => {
      const { room, faults, setAway, writerId } = await open({}, { liveRows: 5 })
      setAway(true)
      for (let count = 0; count < 20; count += 1) await room.end(denied(now()))
      faults.read = 'EIO'
      setAway(false)
      const rows = await until('the gap', async () => {
        const found = await rowsOf(writerId)
        return found.some(({ outcome }) => outcome === 'gap') && found
      })
      expect(rows.find(({ outcome }) => outcome === 'gap')?.decision['gap']).to.deep.include({
        why: 'spool_damaged',
        count: 15,
        seqs: [6, 20],
      })
      expect(rows.map(({ seq }) => seq)).to.deep.equal([1, 2, 3, 4, 5, 21])
      faults.read = null
      expect(await attempt(room)).to.equal('fine')
    })
  })

  it('survives a clock that steps back', async () => {
    let stepMs = 0
    const { room, writerId } = await open({ clock: { nowMs: () => Date.now() - stepMs } })
    expect(await attempt(room)).to.equal('fine')
    stepMs = 3_600_000
    expect(await attempt(room, allowed({ startedMs: Date.now() - stepMs }))).to.equal('fine')
    expect(await room.flush(5000)).to.equal(true)
    expect((await rowsOf(writerId)).map(({ seq }) => seq)).to.deep.equal([1, 2])
    expect(room.gauges().lagMs).to.equal(0)
  })

  it('keeps what the database refuses as a dead letter, redacted like any row', async () => {
    const { room, writerId } = await open()
    const bad = evaluation({ trace: `{"v":1,"rules":[${'['.repeat(30_000)}${']'.repeat(30_000)}]}` })
    const body = toolsCall('{"password":"hunter2-hunter2"}')
    await Promise.all([
      attempt(room),
      room.end(denied(now({ evaluation: bad, message: body }))),
      attempt(room),
    ])
    expect(await room.flush(5000)).to.equal(true)
    const rows = await rowsOf(writerId)
    expect(rows).to.have.lengthOf(3)
    const mended = rows.find(({ outcome }) => outcome === 'denied_authz')
    expect(mended?.decision['stored']).to.include({ as: 'without_payload' })
    const path = join(dir, `dead-letters-${writerId}.ndjson`)
    const letters = readFileSync(path, 'utf8').trim().split('\n')
    expect(letters).to.have.lengthOf(1)
    expect(JSON.parse(letters[0] as string)).to.include({
      id: mended?.id,
      sqlstate: '54001',
      writer: writerId,
    })
    expect(letters[0]).not.to.include('hunter2')
    if (process.platform !== 'win32') expect(statSync(path).mode & 0o777).to.equal(0o600)
    expect(room.gauges().deadLetters).to.equal(1)
  })

  it('mends a row that it has read back from the disk, digits kept', async () => {
    const { room, setAway, writerId } = await open({}, { liveRows: 1 })
    setAway(true)
    await room.end(denied(now()))
    const bad = evaluation({ trace: `{"v":1,"rules":[${'['.repeat(30_000)}${']'.repeat(30_000)}]}` })
    await room.end(denied(now({ evaluation: bad })))
    const lost = denied({
      startedMs: Date.UTC(2004, 1, 29),
      message: toolsCall('{"n":123456789012345678901234567890}'),
    })
    await room.end(lost)
    setAway(false)
    expect(await room.flush(5000)).to.equal(true)
    const rows = await rowsOf(writerId)
    expect(rows.map(({ decision }) => [decision['stored']?.as, decision['moved']?.id])).to.deep.equal([
      [undefined, undefined],
      ['without_payload', undefined],
      [undefined, lost.call.id],
    ])
    const { rows: exact } = await database.pool.query<{ text: string }>(
      'select request_json::text as text from audit_events where id = $1',
      [rows[2]?.id],
    )
    expect(exact[0]?.text).to.include('123456789012345678901234567890')
  })

  it('leaves nothing on disk after an end in peace', async () => {
    const { room } = await open()
    await attempt(room)
    expect(await room.close()).to.deep.equal({ waiting: 0, unwritten: 0 })
    expect(readdirSync(dir)).to.deep.equal([])
  })
})
