/** The file system as the spool uses it, so that a test can let it fail; and the names of what lies there. */
import { mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises'

/** An open file. Short writes are told, not hidden. */
export interface SpoolFile {
  write(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesWritten: number }>
  read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>
  datasync(): Promise<void>
  sync(): Promise<void>
  truncate(length: number): Promise<void>
  close(): Promise<void>
  stat(): Promise<{ readonly size: number }>
}

/** What is needed of `node:fs/promises`. */
export interface SpoolFs {
  open(path: string, flags: string, mode?: number): Promise<SpoolFile>
  mkdir(path: string, options: { readonly mode: number; readonly recursive?: boolean }): Promise<unknown>
  readdir(path: string): Promise<string[]>
  rename(from: string, to: string): Promise<void>
  rm(path: string, options: { readonly force: boolean; readonly recursive?: boolean }): Promise<void>
  rmdir(path: string): Promise<void>
}

/** The real one. */
export const SPOOL_FS: SpoolFs = { open, mkdir, readdir, rename, rm, rmdir }

/** Folder of one writer: the first 12 hex digits of its id. Short, because a socket's path is bounded. */
export const WRITER_FOLDER = /^[0-9a-f]{12}$/
const SEGMENT = /^(\d{10})\.spool$/

/** Name of the n-th file of a spool. */
export function segmentName(number: number): string {
  return `${String(number).padStart(10, '0')}.spool`
}

/** Number of a file of a spool; null when the name is none. */
export function segmentNumber(name: string): number | null {
  const match = SEGMENT.exec(name)
  return match === null ? null : Number(match[1])
}

/** Reads `length` bytes from `from` on, fewer when the file ends before. */
export async function readPart(fs: SpoolFs, path: string, from: number, length: number): Promise<Buffer> {
  const file = await fs.open(path, 'r')
  try {
    const bytes = Buffer.allocUnsafe(length)
    let at = 0
    while (at < length) {
      const { bytesRead } = await file.read(bytes, at, length - at, from + at)
      if (bytesRead === 0) break
      at += bytesRead
    }
    return bytes.subarray(0, at)
  } finally {
    await file.close()
  }
}

/** Reads a whole file. */
export async function readWhole(fs: SpoolFs, path: string): Promise<Buffer> {
  const file = await fs.open(path, 'r')
  const { size } = await file.stat().finally(() => file.close())
  return await readPart(fs, path, 0, size)
}

/** Writes all bytes at a position, however many pieces it takes. */
export async function writeAll(file: SpoolFile, bytes: Buffer, position: number): Promise<void> {
  let at = 0
  while (at < bytes.length) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at)
    if (bytesWritten === 0) throw Object.assign(new Error('nothing was written'), { code: 'ENOSPC' })
    at += bytesWritten
  }
}

/** Makes the names in a folder survive a crash of the machine, where the system can. */
export async function syncFolder(fs: SpoolFs, folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await fs.open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}
