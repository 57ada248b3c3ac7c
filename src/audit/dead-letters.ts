/** Rows as they were made, in a file beside the spools, when the database refuses them. Redacted like any row. */
import { join } from 'node:path'
import type { AuditLog } from './limits.ts'
import type { SpoolFile, SpoolFs } from './spool-files.ts'
import { writeAll } from './spool-files.ts'
import type { Entry } from './store.ts'

/** Keeps what was refused. */
export interface DeadLetters {
  /** Never rejects: what cannot be kept is logged by id; the row itself is stored with less in it. */
  keep(entry: Entry, sqlstate: string): Promise<void>
  readonly count: number
  close(): Promise<void>
}

/** What {@link createDeadLetters} needs. `maxBytes`: of the file of one process. */
export interface DeadLetterOptions {
  readonly fs: SpoolFs
  readonly root: string
  readonly writer: string
  readonly maxBytes: number
  readonly log: AuditLog
}

/** Makes the file with the first letter. */
export function createDeadLetters({ fs, root, writer, maxBytes, log }: DeadLetterOptions): DeadLetters {
  const path = join(root, `dead-letters-${writer}.ndjson`)
  let file: Promise<SpoolFile> | null = null
  let size = 0
  let count = 0
  let last: Promise<void> = Promise.resolve()

  async function write({ record, row, writer: by, seq }: Entry, sqlstate: string): Promise<void> {
    count += 1
    const bytes = Buffer.from(`${JSON.stringify({ id: row.id, writer: by, seq, sqlstate, record })}\n`)
    try {
      if (size + bytes.length > maxBytes) throw Object.assign(new Error('full'), { code: 'EFBIG' })
      file ??= fs.open(path, size === 0 ? 'wx' : 'r+', 0o600)
      const opened = await file
      await writeAll(opened, bytes, size)
      await opened.datasync()
      size += bytes.length
      log.error(
        { id: row.id, sqlstate, file: path },
        'the database refused an audit row; it is kept as a dead letter',
      )
    } catch (error) {
      file = null
      const { code } = error as { code?: unknown }
      log.error(
        { id: row.id, sqlstate, error: code },
        'the database refused an audit row; it could not be kept',
      )
    }
  }

  return {
    keep(entry, sqlstate) {
      last = last.then(() => write(entry, sqlstate))
      return last
    },
    get count() {
      return count
    },
    async close() {
      await last
      await (await file)?.close()
    },
  }
}
