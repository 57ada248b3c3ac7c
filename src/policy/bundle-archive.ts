/**
 * The file format of bundles: a gzipped tar of plain files, written in exactly one way. Reading accepts nothing else: what
 * was read is written again and has to give the same bytes. So links, folders, duplicates, odd header fields, hidden
 * trailing data and everything that two readers could take differently are refused by one comparison.
 */
import { promisify } from 'node:util'
import { gunzip, gzip } from 'node:zlib'
import type { ReadEntry } from 'tar'
import { Header, Parser, Pax } from 'tar'
import { BundleRefused } from './bundle-error.ts'

/** How much a bundle may hold. */
export interface ArchiveBounds {
  /** Of the file as it is stored. */
  readonly maxPackedBytes: number
  /** Of the archive inside: bounds what unpacking can take. */
  readonly maxUnpackedBytes: number
  readonly maxFiles: number
}

/** Above what a policies folder within its own bounds makes. */
export const ARCHIVE_BOUNDS: ArchiveBounds = {
  maxPackedBytes: 32 * 1024 * 1024,
  maxUnpackedBytes: 64 * 1024 * 1024,
  maxFiles: 2_100,
}

/** Content by name, with `/`, relative. */
export type ArchiveFiles = ReadonlyMap<string, Uint8Array>

const BLOCK = 512
const MAX_NAME_BYTES = 1024
/** RFC 1952: which system packed it; the only byte in which equal archives differ between systems. */
const GZIP_SYSTEM = 9
const UNKNOWN_SYSTEM = 255

const pack = promisify(gzip)
const unpack = promisify(gunzip)

/** Packs files; equal files give equal bytes, in whatever order they are handed in. */
export async function packArchive(files: ArchiveFiles): Promise<Buffer> {
  const packed = await pack(writeTar(files), { level: 9 })
  packed[GZIP_SYSTEM] = UNKNOWN_SYSTEM
  return packed
}

/** Unpacks what {@link packArchive} has made. Throws BundleRefused for everything else. */
export async function unpackArchive(
  packed: Uint8Array,
  bounds: ArchiveBounds = ARCHIVE_BOUNDS,
): Promise<ArchiveFiles> {
  if (packed.length > bounds.maxPackedBytes) throw refuse(`it is larger than ${bounds.maxPackedBytes} bytes`)
  const tar = await unzip(packed, bounds.maxUnpackedBytes)
  const files = readTar(tar, bounds)
  if (!writeTar(files).equals(tar)) {
    throw refuse('its archive is not written as `gateway policy build` writes one')
  }
  return files
}

async function unzip(packed: Uint8Array, maxOutputLength: number): Promise<Buffer> {
  try {
    return await unpack(packed, { maxOutputLength })
  } catch (cause) {
    const isBomb = cause instanceof RangeError
    throw refuse(isBomb ? `it unpacks to more than ${maxOutputLength} bytes` : 'it is no gzip file', cause)
  }
}

function readTar(tar: Buffer, bounds: ArchiveBounds): ArchiveFiles {
  const files = new Map<string, Uint8Array>()
  let problem: BundleRefused | null = null
  const parser = new Parser({
    strict: true,
    onReadEntry(entry) {
      problem ??= problemOf(entry, files, bounds)
      if (problem !== null) {
        entry.resume()
        return
      }
      const chunks: Buffer[] = []
      files.set(entry.path, Buffer.alloc(0))
      entry.on('data', (chunk: Buffer) => void chunks.push(chunk))
      entry.on('end', () => void files.set(entry.path, Buffer.concat(chunks)))
    },
  })
  parser.on('error', (cause: unknown) => {
    problem ??= refuse('it holds no tar archive', cause)
  })
  // The archive is in memory: every entry has been read when this returns.
  parser.end(tar)
  if (problem !== null) throw problem as BundleRefused
  return files
}

function problemOf(
  { type, path, size }: ReadEntry,
  files: ArchiveFiles,
  { maxFiles, maxUnpackedBytes }: ArchiveBounds,
): BundleRefused | null {
  if (type !== 'File' && type !== 'OldFile')
    return refuse(`it holds a ${type}: bundles hold plain files only`)
  if (!isSafeName(path)) return refuse('it holds a file whose name is not a relative path')
  if (files.has(path)) return refuse(`it holds ${path} twice`)
  if (files.size >= maxFiles) return refuse(`it holds more than ${maxFiles} files`)
  if (size > maxUnpackedBytes) return refuse(`${path} is larger than ${maxUnpackedBytes} bytes`)
  return null
}

/** Nothing is ever written to disk under these names; they are shown to people and compared. */
function isSafeName(name: string): boolean {
  if (name === '' || Buffer.byteLength(name) > MAX_NAME_BYTES) return false
  if (/[\p{Cc}\p{Bidi_Control}\p{Surrogate}\\]/u.test(name)) return false
  return name.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}

function writeTar(files: ArchiveFiles): Buffer {
  const parts: Uint8Array[] = []
  for (const name of [...files.keys()].sort(byBytes)) {
    const content = files.get(name) ?? new Uint8Array()
    parts.push(headerOf(name, content.length), content, padding(content.length))
  }
  parts.push(Buffer.alloc(2 * BLOCK))
  return Buffer.concat(parts)
}

/** Owner, times and rights are the same for all; a name that does not fit has an extended header (POSIX pax) of its own. */
function headerOf(path: string, size: number): Buffer {
  const facts = { path, size, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 }
  const block = Buffer.alloc(BLOCK)
  const needsPax = new Header({ ...facts, type: 'File' }).encode(block)
  if (!needsPax) return block
  return Buffer.concat([new Pax({ path }).encode(), block])
}

function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

function byBytes(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right))
}

function refuse(message: string, cause?: unknown): BundleRefused {
  return new BundleRefused('archive', `the bundle cannot be read: ${message}`, { cause })
}
