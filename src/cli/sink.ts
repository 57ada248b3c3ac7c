/** Where long output goes: a stream that may be slow, or a file that is there whole or not at all. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { access, open, rename, rm } from 'node:fs/promises'
import { finished, pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { UsageError } from '../errors.ts'

/** Takes text piece by piece. */
export interface Sink {
  /** Resolves when more can be taken. Rejects when it cannot be written. */
  write(text: string): Promise<void>
  /** Everything is written: a file gets its name now. */
  finish(): Promise<void>
  /** The rest will not come. Returns where what was written is kept; null = nowhere. */
  abandon(): Promise<string | null>
}

/** Resolves when the stream takes more; rejects when it has ended. */
export async function drained(stream: NodeJS.WritableStream): Promise<void> {
  if ((stream as { writableNeedDrain?: boolean }).writableNeedDrain !== true) return
  const gone = new AbortController()
  try {
    await Promise.race([
      once(stream, 'drain', { signal: gone.signal }),
      once(stream, 'close', { signal: gone.signal }).then(() => {
        throw Object.assign(new Error('the reader has gone'), { code: 'EPIPE' })
      }),
    ])
  } finally {
    gone.abort()
  }
}

/** A stream that is not ours to end, such as stdout. */
export function streamSink(stream: NodeJS.WritableStream): Sink {
  return {
    async write(text) {
      await new Promise<void>((resolve, reject) => {
        stream.write(text, (error) => (error ? reject(error) : resolve()))
      })
    },
    finish: async () => undefined,
    abandon: async () => null,
  }
}

/**
 * A file that appears under its name when it is complete; `.gz` packs it. Throws UsageError `exists` when it is there
 * already (unless `force`), `usage` when it cannot be written.
 */
export async function fileSink(file: string, force: boolean): Promise<Sink> {
  if (!force && (await exists(file))) {
    throw new UsageError('exists', `${file} is there already: choose another name, or add --force.`)
  }
  const part = `${file}.${randomBytes(4).toString('hex')}.part`
  const handle = await open(part, 'wx', 0o600).catch((cause: unknown) => {
    throw unwritable(file, cause)
  })
  const target = handle.createWriteStream({ flush: true })
  const packed = file.endsWith('.gz') ? createGzip() : null
  const entry = packed ?? target
  const done = packed === null ? finished(target) : pipeline(packed, target)
  // Told to whoever writes or ends next.
  done.catch(() => undefined)
  let isEmpty = true
  return {
    async write(text) {
      if (text !== '') isEmpty = false
      const room = entry.write(text) ? null : once(entry, 'drain')
      // A stream that breaks never drains.
      room?.catch(() => undefined)
      if (room !== null)
        await Promise.race([room, done]).catch((cause) => Promise.reject(unwritable(file, cause)))
    },
    async finish() {
      entry.end()
      try {
        await done
        await rename(part, file)
      } catch (cause) {
        throw unwritable(file, cause)
      }
    },
    async abandon() {
      entry.end()
      await done.catch(() => undefined)
      if (!isEmpty) return part
      await rm(part, { force: true })
      return null
    },
  }
}

function unwritable(file: string, cause: unknown): UsageError {
  const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
  return new UsageError('usage', `${file} cannot be written (${reason}).`, { cause })
}

async function exists(file: string): Promise<boolean> {
  try {
    await access(file)
    return true
  } catch {
    return false
  }
}
