/**
 * The spool of a process that has died: what it holds is closed (a `begin` without an `end` becomes a row `interrupted`, a
 * hole is declared) and stored under the dead writer's own id and numbers. Every step may be repeated by whoever comes next.
 */
import { basename, join } from 'node:path'
import type { Pool } from 'pg'
import type { AuditLog } from './limits.ts'
import { readBack } from './record.ts'
import type { AuditRow, Gap } from './row.ts'
import { fromBegun, gapRow, toRecord } from './row.ts'
import type { SpoolFs } from './spool-files.ts'
import { readWhole, segmentName, segmentNumber, syncFolder, writeAll } from './spool-files.ts'
import type { Frame } from './spool-frame.ts'
import { readFrames, toBytes } from './spool-frame.ts'
import type { Store } from './store.ts'

/** What recovery needs. */
export interface RecoveryOptions {
  readonly fs: SpoolFs
  /** The folder of all spools. */
  readonly root: string
  readonly pool: Pick<Pool, 'query'>
  readonly store: Pick<Store, 'store'>
  readonly newId: (ms: number) => string
  readonly nowMs: () => number
  readonly log: AuditLog
  readonly batchRows: number
  readonly batchLength: number
}

/** What was found and done. */
export interface Recovered {
  readonly writer: string
  /** Rows stored, with those of calls that were interrupted. */
  readonly rows: number
  readonly interrupted: number
  /** Rows that were numbered and cannot be read. */
  readonly missing: number
}

/** What a spool says when read from its first file to its last. */
interface Contents {
  writer: string | null
  /** Number of the last row known of. */
  lastSeq: number
  /** Of a spool that was closed already. */
  isClosed: boolean
  readonly begun: Map<string, Frame>
  /** Misses that no row declares yet. */
  gap: Gap | null
  readonly holes: Hole[]
  readonly damaged: Set<number>
  lastMs: number
  bytes: number
}

interface Hole {
  readonly firstSeq: number
  readonly lastSeq: number
  readonly fromMs: number
  readonly toMs: number
}

/** Empties an adopted folder into the database and removes it. Rejects when the database or the disk does not answer. */
export async function recover(folder: string, options: RecoveryOptions): Promise<Recovered> {
  const contents = await readContents(folder, options.fs)
  if (contents.writer === null) {
    // Its process died before the first file was made, or whoever emptied it before the folder was gone.
    if (contents.bytes < SMALLEST_HEAD) await options.fs.rm(folder, { force: true, recursive: true })
    else await setAside(folder, options)
    return { writer: '', rows: 0, interrupted: 0, missing: 0 }
  }
  const { writer } = contents
  const committed = await lastStored(options.pool, writer)
  const closed = contents.isClosed
    ? { interrupted: 0, missing: 0 }
    : await closeSpool(folder, { ...contents, writer }, committed, options)
  const rows = await storeRows(folder, writer, committed, contents.damaged, options)
  // In order: the last file says that the spool is closed.
  for (const number of await segmentsOf(options.fs, folder)) {
    await options.fs.rm(join(folder, segmentName(number)), { force: true })
  }
  await options.fs.rm(folder, { force: true, recursive: true })
  return { writer, rows, ...closed }
}

/** Bytes of the first frame of a spool that was opened. */
const SMALLEST_HEAD = 40

/** Number of the writer's last row in the database; 0 when it has none. Rows of a writer are stored in order. */
async function lastStored(pool: Pick<Pool, 'query'>, writer: string): Promise<number> {
  const { rows } = await pool.query<{ seq: string | null }>(
    'select max(seq) as seq from audit_events where writer = $1',
    [writer],
  )
  return Number(rows[0]?.seq ?? 0)
}

async function segmentsOf(fs: SpoolFs, folder: string): Promise<readonly number[]> {
  const names = await fs.readdir(folder)
  return names.flatMap((name) => segmentNumber(name) ?? []).sort((a, b) => a - b)
}

async function readContents(folder: string, fs: SpoolFs): Promise<Contents> {
  const contents: Contents = {
    writer: null,
    lastSeq: 0,
    isClosed: false,
    begun: new Map(),
    gap: null,
    holes: [],
    damaged: new Set(),
    lastMs: 0,
    bytes: 0,
  }
  for (const number of await segmentsOf(fs, folder)) {
    const bytes = await readWhole(fs, join(folder, segmentName(number)))
    const { frames, damagedBytes } = readFrames(bytes)
    contents.bytes += bytes.length
    if (damagedBytes > 0) contents.damaged.add(number)
    for (const frame of frames) {
      take(contents, frame)
      contents.lastMs = Math.max(contents.lastMs, frame.ms)
    }
  }
  return contents
}

function take(contents: Contents, frame: Frame): void {
  switch (frame.kind) {
    case 'head':
      // The rows before the first file have been committed; those before a later one should have been seen.
      if (contents.writer !== null) noteHole(contents, frame, frame.seq)
      contents.writer = frame.id
      contents.lastSeq = Math.max(contents.lastSeq, frame.seq)
      contents.isClosed ||= frame.text === CLOSED
      return
    case 'begin':
      contents.begun.set(frame.id, frame)
      return
    case 'end':
      contents.writer ??= writerOf(frame)
      noteHole(contents, frame, frame.seq - 1)
      contents.begun.delete(frame.id)
      contents.lastSeq = Math.max(contents.lastSeq, frame.seq)
      if (contents.gap !== null && rowOf(frame).outcome === 'gap') contents.gap = null
      return
    case 'gap':
      contents.gap = JSON.parse(frame.text) as Gap
      return
    default:
      frame.kind satisfies never
  }
}

function noteHole(contents: Contents, frame: Frame, before: number): void {
  if (before <= contents.lastSeq) return
  const { lastMs } = contents
  contents.holes.push({
    firstSeq: contents.lastSeq + 1,
    lastSeq: before,
    fromMs: lastMs || frame.ms,
    toMs: frame.ms,
  })
}

function rowOf(frame: Frame): { readonly outcome?: string; readonly writer?: string } {
  return JSON.parse(frame.text) as { outcome?: string; writer?: string }
}

function writerOf(frame: Frame): string | null {
  return rowOf(frame).writer ?? null
}

const CLOSED = '{"v":1,"closed":true}'

/** Adds a last file with the rows that the dead process could not write any more. */
async function closeSpool(
  folder: string,
  contents: Contents & { readonly writer: string },
  committed: number,
  options: RecoveryOptions,
): Promise<{ readonly interrupted: number; readonly missing: number }> {
  const { fs, newId } = options
  const nowMs = options.nowMs()
  const { writer, begun, gap, holes } = contents
  const stored = await storedIds(options.pool, [...begun.values()])
  const rows: AuditRow[] = []
  for (const { id, text } of begun.values()) {
    if (!stored.has(id)) rows.push(fromBegun(text))
  }
  const interrupted = rows.length
  let missing = 0
  if (gap !== null) rows.push(gapRow(newId(nowMs), nowMs, gap))
  for (const hole of holes) {
    if (hole.lastSeq <= committed) continue
    const firstSeq = Math.max(hole.firstSeq, committed + 1)
    const { fromMs, toMs, lastSeq } = hole
    missing += lastSeq - firstSeq + 1
    const lost = {
      why: 'spool_damaged',
      count: lastSeq - firstSeq + 1,
      fromMs,
      toMs,
      seqs: [firstSeq, lastSeq],
    } as const
    rows.push(gapRow(newId(nowMs), nowMs, lost))
  }
  const first = Math.max(contents.lastSeq, committed) + 1
  const frames = rows.map((row, index) => {
    const seq = first + index
    return toBytes({ kind: 'end', seq, ms: nowMs, id: row.id, text: toRecord(row, writer, seq) })
  })
  const head = toBytes({ kind: 'head', seq: first - 1, ms: nowMs, id: writer, text: CLOSED })
  const last = (await segmentsOf(fs, folder)).at(-1) ?? 0
  await writeWhole(fs, folder, segmentName(last + 1), Buffer.concat([head, ...frames]))
  return { interrupted, missing }
}

/** The ids among these that the database has already. */
async function storedIds(pool: Pick<Pool, 'query'>, begun: readonly Frame[]): Promise<ReadonlySet<string>> {
  if (begun.length === 0) return new Set()
  const times = begun.map(({ text }) => (JSON.parse(text) as AuditRow).ts)
  const { rows } = await pool.query<{ id: string }>(
    'select id from audit_events where ts = any($1::timestamptz[]) and id = any($2::uuid[])',
    [times, begun.map(({ id }) => id)],
  )
  return new Set(rows.map(({ id }) => id))
}

async function writeWhole(fs: SpoolFs, folder: string, name: string, bytes: Buffer): Promise<void> {
  const temporary = join(folder, `${name}.new`)
  await fs.rm(temporary, { force: true })
  const file = await fs.open(temporary, 'wx', 0o600)
  try {
    await writeAll(file, bytes, 0)
    await file.datasync()
  } finally {
    await file.close()
  }
  await fs.rename(temporary, join(folder, name))
  await syncFolder(fs, folder)
}

/** Stores the rows behind `committed`, file by file; a file goes when its rows are stored. */
async function storeRows(
  folder: string,
  writer: string,
  committed: number,
  damaged: ReadonlySet<number>,
  options: RecoveryOptions,
): Promise<number> {
  let last = committed
  let count = 0
  for (const number of await segmentsOf(options.fs, folder)) {
    const path = join(folder, segmentName(number))
    const rows: Frame[] = []
    for (const frame of readFrames(await readWhole(options.fs, path)).frames) {
      if (frame.kind !== 'end' || frame.seq <= last) continue
      rows.push(frame)
      last = frame.seq
    }
    for (const batch of toBatches(rows, options, ({ text }) => text.length)) {
      const entries = batch.map(({ text, seq }) => readBack(text, seq, writer))
      await options.store.store(entries, () => undefined)
    }
    count += rows.length
    if (damaged.has(number)) await keepDamaged(path, writer, options)
  }
  return count
}

/** Parts of at most so many rows and characters; one row may have more. */
export function* toBatches<T>(
  rows: readonly T[],
  { batchRows, batchLength }: Pick<RecoveryOptions, 'batchRows' | 'batchLength'>,
  lengthOf: (row: T) => number,
): Generator<readonly T[]> {
  let batch: T[] = []
  let length = 0
  for (const row of rows) {
    if (batch.length >= batchRows || (batch.length > 0 && length + lengthOf(row) > batchLength)) {
      yield batch
      batch = []
      length = 0
    }
    batch.push(row)
    length += lengthOf(row)
  }
  if (batch.length > 0) yield batch
}

async function keepDamaged(path: string, writer: string, { fs, root, log }: RecoveryOptions): Promise<void> {
  const kept = join(root, 'damaged', `${writer}-${basename(path)}`)
  await fs.mkdir(join(root, 'damaged'), { mode: 0o700, recursive: true })
  await fs.rename(path, kept)
  log.error({ file: kept }, 'a file of an audit spool is damaged; what could be read is stored')
}

/** Nothing in it can be read: a person has to look. */
async function setAside(folder: string, { fs, root, log }: RecoveryOptions): Promise<void> {
  const kept = join(root, 'damaged', basename(folder))
  await fs.mkdir(join(root, 'damaged'), { mode: 0o700, recursive: true })
  await fs.rename(folder, kept)
  log.error({ folder: kept }, 'nothing in an audit spool can be read')
}
