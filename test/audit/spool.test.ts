import { randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import fc from 'fast-check'
import type { SpoolLimits } from '../../src/audit/spool.ts'
import { SPOOL_LIMITS, Spool } from '../../src/audit/spool.ts'
import type { Frame } from '../../src/audit/spool-frame.ts'
import { NO_ID, readFrames, toBytes } from '../../src/audit/spool-frame.ts'
import type { Place } from '../../src/audit/spool-segments.ts'
import { until } from '../support/until.ts'
import { faultyFs } from './spool-faults.ts'

const frame = (changes: Partial<Frame> = {}): Frame => ({
  ...{ kind: 'end' as const, seq: 1, ms: 1_795_255_200_123, id: randomUUID(), text: '{"a":"ü"}' },
  ...changes,
})

describe('audit/spool-frame', () => {
  it('gives back what was written', () => {
    const kinds = ['head', 'begin', 'end', 'gap'] as const
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...kinds), fc.nat(), fc.nat(), fc.uuid(), fc.json())),
        (list) => {
          const frames = list.map(([kind, seq, ms, id, text]) => ({ kind, seq, ms, id, text }))
          const { frames: read, damagedBytes, tornBytes } = readFrames(Buffer.concat(frames.map(toBytes)))
          expect(read.map(({ start, end, ...rest }) => rest)).to.deep.equal(frames)
          expect(damagedBytes + tornBytes).to.equal(0)
        },
      ),
    )
  })

  it('reads all before a torn end, wherever it is torn', () => {
    const whole = [toBytes(frame({ seq: 1 })), toBytes(frame({ seq: 2 }))]
    const bytes = Buffer.concat(whole)
    for (let length = whole[0]!.length; length < bytes.length; length += 1) {
      const reading = readFrames(bytes.subarray(0, length))
      expect(reading.frames.map(({ seq }) => seq)).to.deep.equal([1])
      expect(reading).to.include({ damagedBytes: 0, tornBytes: length - whole[0]!.length })
    }
  })

  it('finds every other frame when any one byte of one is wrong', () => {
    const parts = [1, 2, 3].map((seq) => toBytes(frame({ seq })))
    const from = parts[0]!.length
    for (let at = from; at < from + parts[1]!.length; at += 1) {
      const bytes = Buffer.concat(parts)
      bytes[at] = (bytes[at] ?? 0) ^ 0x40
      const { frames, damagedBytes } = readFrames(bytes)
      expect(frames.map(({ seq }) => seq)).to.deep.equal([1, 3])
      expect(damagedBytes).to.equal(parts[1]!.length)
    }
  })

  it('never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        const { frames, damagedBytes, tornBytes } = readFrames(Buffer.from(bytes))
        expect(frames).to.deep.equal([])
        expect(damagedBytes + tornBytes).to.equal(bytes.length)
      }),
    )
  })
})

describe('audit/spool', () => {
  let folder: string
  const writer = randomUUID()
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-spool-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  async function open(limits: Partial<SpoolLimits> = {}) {
    const { fs, faults } = faultyFs()
    const failures: unknown[] = []
    const spool = new Spool({
      fs,
      writer,
      folder: () => folder,
      limits: { ...SPOOL_LIMITS, retryMinMs: 1, retryMaxMs: 5, ...limits },
      nowMs: Date.now,
      onFailure: (error) => failures.push(error),
    })
    await spool.open()
    const end = (seq: number, text = 'x'.repeat(100), until: 'written' | 'synced' = 'written') =>
      spool.append({ frame: frame({ seq, text }), until })
    return { spool, faults, failures, end }
  }

  /** Everything on disk, file by file. */
  const onDisk = () =>
    readdirSync(folder)
      .sort()
      .map((name) => readFrames(readFileSync(join(folder, name))).frames)
  const seqsOnDisk = () =>
    onDisk().flatMap((frames) => frames.flatMap(({ kind, seq }) => (kind === 'end' ? [seq] : [])))

  it('has written a frame when `append` resolves, in a file only its owner can read', async () => {
    const { spool, end } = await open()
    await end(1)
    expect(seqsOnDisk()).to.deep.equal([1])
    expect(onDisk()[0]?.[0]).to.include({ kind: 'head', seq: 0, id: writer })
    if (process.platform !== 'win32') {
      expect(statSync(join(folder, readdirSync(folder)[0] as string)).mode & 0o777).to.equal(0o600)
    }
    void spool.committed(1)
    expect(await spool.close()).to.equal(true)
    expect(readdirSync(folder)).to.deep.equal([])
  })

  it('shares a sync between all who wait for one', async () => {
    const { spool, faults, end } = await open()
    const before = faults.syncs
    await Promise.all(Array.from({ length: 100 }, (_, index) => end(index + 1, 'x', 'synced')))
    expect(faults.syncs - before).to.be.at.most(3)
    await spool.close()
  })

  it('writes on when the system takes a few bytes at a time', async () => {
    const { spool, faults, end } = await open()
    faults.write = 'short'
    await Promise.all([end(1), end(2), end(3)])
    expect(seqsOnDisk()).to.deep.equal([1, 2, 3])
    await spool.close()
  })

  it('drops files whose rows are committed, in order, and carries open begins over', async () => {
    const { spool, end } = await open({ segmentBytes: 1000 })
    const begun = frame({ kind: 'begin', seq: 0, text: '{"begun":1}' })
    await spool.append({ frame: begun, until: 'written' })
    for (let seq = 1; seq <= 30; seq += 1) await end(seq)
    expect(readdirSync(folder).length).to.be.greaterThan(3)
    void spool.committed(29)
    await until('the old files to go', () => readdirSync(folder).length <= 2)
    expect(seqsOnDisk()).to.include(30)
    expect(onDisk()[0]?.map(({ id }) => id)).to.include(begun.id)
    await spool.append({ frame: { ...begun, kind: 'end', seq: 31 }, until: 'written' })
    void spool.committed(31)
    expect(await spool.close()).to.equal(true)
    expect(readdirSync(folder)).to.deep.equal([])
  })

  it('does not carry more begins over than rows it writes, however many calls are open', async () => {
    const { spool, end } = await open({ segmentBytes: 1000 })
    const begun = Array.from({ length: 200 }, () => frame({ kind: 'begin', seq: 0, text: '{"begun":1}' }))
    for (const one of begun) await spool.append({ frame: one, until: 'written' })
    const begins = spool.bytes
    for (let seq = 1; seq <= 100; seq += 1) await end(seq)
    // A file for each row would carry them over a hundred times; files that are no longer needed go when they can.
    expect(spool.bytes).to.be.lessThan(10 * begins)
    void spool.committed(100)
    spool.turn()
    await until('the old files to go', () => readdirSync(folder).length === 1)
    expect(onDisk()[0]?.map(({ id }) => id)).to.include.members(begun.map(({ id }) => id))
    await spool.close()
  })

  it('reads rows back in order, also across files', async () => {
    const { spool, end } = await open({ segmentBytes: 1000 })
    for (let seq = 1; seq <= 20; seq += 1) await end(seq)
    const seqs: number[] = []
    let place: Place = { segment: 0, offset: 0 }
    for (let read = await spool.read(place); read !== null; read = await spool.read(place)) {
      for (const { kind, seq } of read.frames) if (kind === 'end') seqs.push(seq)
      place = read.next
    }
    expect(seqs).to.deep.equal(Array.from({ length: 20 }, (_, index) => index + 1))
    await spool.close()
  })

  for (const fault of ['ENOSPC', 'EROFS', 'EIO']) {
    it(`tells whoever asks that the disk refuses (${fault}), and writes everything when it works again`, async () => {
      const { spool, faults, failures, end } = await open()
      await end(1)
      faults.write = fault
      const refusals = await Promise.allSettled([end(2), end(3)])
      expect(
        refusals.map((one) => (one.status === 'rejected' ? one.reason.code : 'fulfilled')),
      ).to.deep.equal([fault, fault])
      expect(spool.isFailing).to.equal(true)
      const late = await end(4).catch((error: NodeJS.ErrnoException) => error.code)
      expect(late).to.equal(fault)
      faults.write = null
      await until('the spool to work again', () => !spool.isFailing)
      await end(5)
      expect([...new Set(seqsOnDisk())]).to.deep.equal([1, 2, 3, 4, 5])
      expect(failures.map((error) => (error === null ? 'works' : 'fails'))).to.deep.equal(['fails', 'works'])
      await spool.close()
    })
  }

  it('leaves no torn frame between good ones when the disk fills up in the middle of a write', async () => {
    const { spool, faults, end } = await open()
    await end(1, 'x', 'synced')
    faults.room = 60
    await end(2).catch(() => undefined)
    faults.room = null
    await until('the spool to work again', () => !spool.isFailing)
    await end(3)
    for (const name of readdirSync(folder)) {
      expect(readFrames(readFileSync(join(folder, name)))).to.include({ damagedBytes: 0, tornBytes: 0 })
    }
    expect(seqsOnDisk()).to.deep.equal([1, 2, 3])
    await spool.close()
  })

  it('trusts nothing that a failing sync has covered: it is written again to another file', async () => {
    const { spool, faults, end } = await open({ syncEveryMs: 1 })
    await end(1, 'x', 'synced')
    faults.sync = 'EIO'
    await end(2)
    const refused = await end(3, 'x', 'synced').catch((error: NodeJS.ErrnoException) => error.code)
    expect(refused).to.equal('EIO')
    faults.sync = null
    await until('the spool to work again', () => !spool.isFailing)
    const files = onDisk().map((frames) => frames.flatMap(({ kind, seq }) => (kind === 'end' ? [seq] : [])))
    expect(files.at(-1)).to.include.members([2, 3])
    await spool.close()
  })

  it('keeps no frame in memory for a row that is committed while the disk refuses', async () => {
    const { spool, faults, end } = await open({ retryMinMs: 60_000 })
    faults.write = 'ENOSPC'
    for (let seq = 1; seq <= 100; seq += 1) await end(seq).catch(() => undefined)
    expect(spool.pendingFrames).to.equal(100)
    expect(spool.isFailing).to.equal(true)
    void spool.committed(99)
    expect(spool.pendingFrames).to.equal(1)
    faults.write = null
    expect(await spool.close()).to.equal(false)
  })

  it('answers those whose rows are committed before a slow disk has written them', async () => {
    const { spool, faults, end } = await open()
    faults.hanging = []
    const ends = Array.from({ length: 400 }, (_, index) => end(index + 1))
    await until('the first write', () => faults.hanging?.length === 1)
    void spool.committed(400)
    expect(spool.pendingFrames).to.be.lessThan(400)
    for (const release of faults.hanging.splice(0)) release()
    faults.hanging = null
    await Promise.all(ends)
    await spool.close()
  })

  it('begins a new file on request, so that committed rows do not lie about', async () => {
    const { spool, end } = await open()
    await end(1)
    void spool.committed(1)
    spool.turn()
    await until('the old file to go', () => seqsOnDisk().length === 0)
    expect(onDisk()[0]?.[0]).to.include({ kind: 'head', seq: 1 })
    await spool.close()
  })

  it('counts its bytes as the disk does', async () => {
    const { spool, end } = await open({ segmentBytes: 1000 })
    for (let seq = 1; seq <= 20; seq += 1) await end(seq)
    await spool.append({ frame: { kind: 'gap', id: NO_ID, seq: 0, ms: 0, text: '{}' }, until: 'written' })
    const size = (): number =>
      readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)
    expect(spool.bytes).to.equal(size())
    void spool.committed(15)
    await until('old files to go', () => spool.bytes < 2500)
    expect(spool.bytes).to.equal(size())
    await spool.close()
  })
})
