/**
 * One day of rows -> a file: gzip, one row as JSON a line, in the order in which each writer stored them. Numbers keep their
 * digits, so a row can be put back, and its hash computed, from the line alone.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { link, mkdir, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import type { ClientBase } from 'pg'

/** A finished archive. */
export interface Archive {
  /** Absolute path. */
  readonly file: string
  /** Of the file, hex. */
  readonly sha256: string
  /** Of the file. */
  readonly bytes: number
  readonly rows: number
}

/** Which rows, and where they go. */
export interface ArchivePlan {
  /** Name of the day's table, quoted for SQL. */
  readonly table: string
  /** `YYYY-MM-DD`. */
  readonly day: string
  /** Made when missing, for its owner only. */
  readonly folder: string
}

/** Rows of one FETCH. */
const FETCH_ROWS = 200

/**
 * Writes the day's rows and reads the file back. A file that stands there already is never written over: an equal one is
 * used, beside another one a number is put. `db` must be in a transaction that sees one state of the table.
 * @throws Error when the file cannot be written or does not say what the table said
 */
export async function archiveDay(db: Pick<ClientBase, 'query'>, plan: ArchivePlan): Promise<Archive> {
  await mkdir(plan.folder, { recursive: true, mode: 0o700 })
  const draft = join(plan.folder, `.audit-${plan.day}-${process.pid}-${Date.now()}.tmp`)
  const handle = await open(draft, 'wx', 0o600)
  try {
    const written = await writeRows(db, plan.table, handle)
    await verifyFile(draft, written)
    const file = await settle(plan, draft, written.sha256)
    return { file, sha256: written.sha256, bytes: written.bytes, rows: written.rows }
  } finally {
    await handle.close()
    await unlink(draft)
  }
}

interface Written {
  readonly rows: number
  readonly bytes: number
  /** Of the file. */
  readonly sha256: string
  /** Of the lines. */
  readonly linesSha256: string
}

async function writeRows(db: Pick<ClientBase, 'query'>, table: string, handle: FileHandle): Promise<Written> {
  const lines = createHash('sha256')
  const file = createHash('sha256')
  const count = { rows: 0, bytes: 0 }
  await db.query(
    `declare archived_rows no scroll cursor for select to_json(one)::text as line from ${table} one order by writer, seq, ts, id`,
  )
  await pipeline(
    Readable.from(
      rowLines(db, (line) => {
        count.rows += 1
        lines.update(line)
      }),
    ),
    createGzip({ level: 6 }),
    async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        count.bytes += chunk.length
        file.update(chunk)
        await handle.writeFile(chunk)
      }
    },
  )
  await db.query('close archived_rows')
  await handle.sync()
  return { ...count, sha256: file.digest('hex'), linesSha256: lines.digest('hex') }
}

async function* rowLines(
  db: Pick<ClientBase, 'query'>,
  onLine: (line: string) => void,
): AsyncGenerator<string> {
  for (;;) {
    const { rows } = await db.query<{ line: string }>(`fetch ${FETCH_ROWS} from archived_rows`)
    if (rows.length === 0) return
    for (const row of rows) {
      const line = `${row.line}\n`
      onLine(line)
      yield line
    }
  }
}

/** What the disk gives back must be what the database gave. */
async function verifyFile(file: string, written: Written): Promise<void> {
  const lines = createHash('sha256')
  const raw = createHash('sha256')
  await pipeline(
    createReadStream(file),
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        raw.update(chunk)
        yield chunk
      }
    },
    createGunzip(),
    async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) lines.update(chunk)
    },
  )
  if (raw.digest('hex') !== written.sha256 || lines.digest('hex') !== written.linesSha256) {
    throw new Error(`the archive ${file} does not read back as it was written`)
  }
}

/** Gives the finished file its name, for good. */
async function settle({ folder, day }: ArchivePlan, draft: string, sha256: string): Promise<string> {
  for (let number = 1; ; number += 1) {
    const file = join(folder, `audit-${day}${number === 1 ? '' : `.${number}`}.ndjson.gz`)
    try {
      await link(draft, file)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      if ((await digestOf(file)) !== sha256) continue
    }
    await syncFolder(folder)
    return file
  }
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}
