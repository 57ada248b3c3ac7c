/**
 * Frames of a spool file. Pure.
 *
 *     mark u16 | body length u32 | CRC-32 of the body u32 | body: kind u8, seq u48, ms u48, id 16 bytes, text (UTF-8)
 *
 * A torn or damaged frame is recognised by its checksum; the mark is where reading is taken up again behind it.
 */
import { crc32 } from 'node:zlib'

/**
 * `head` opens a file and says whose rows it holds, `begin` = the upstream is about to be asked, `end` = a whole row,
 * `gap` = rows have been missed and not declared yet.
 */
export type FrameKind = 'head' | 'begin' | 'end' | 'gap'

/** One record of a spool. */
export interface Frame {
  readonly kind: FrameKind
  /** Of `end`: number of the row. Of `head`: number of the last row before this file. Else 0. */
  readonly seq: number
  /** Wall clock when it was made, ms since the epoch. */
  readonly ms: number
  /** UUID: of `head` the writer, of `begin` and `end` the row, of `gap` all zeros. */
  readonly id: string
  /** JSON. Of `end`: the record that the database takes. */
  readonly text: string
}

/** A frame and where it stands in its file, bytes. */
export interface PlacedFrame extends Frame {
  readonly start: number
  readonly end: number
}

/** What {@link readFrames} found. */
export interface FrameReading {
  readonly frames: readonly PlacedFrame[]
  /** Bytes between frames that belong to none: something has damaged them. */
  readonly damagedBytes: number
  /** Bytes behind the last frame: a write that was not finished. */
  readonly tornBytes: number
}

const MARK = 0xa55d
const KINDS: readonly FrameKind[] = ['head', 'begin', 'end', 'gap']
const BODY_AT = 10
const TEXT_AT = 29
const MIN_BODY = TEXT_AT

/** The id of frames that belong to no row. */
export const NO_ID = '00000000-0000-0000-0000-000000000000'

/** A frame that is to be written. */
export type NewFrame = Omit<Frame, 'text'> & { readonly text: string | Buffer }

/** Bytes of a frame. */
export function sizeOf({ text }: Pick<NewFrame, 'text'>): number {
  return BODY_AT + MIN_BODY + Buffer.byteLength(text)
}

/** Writes a frame of `size` bytes (see {@link sizeOf}) to `bytes`, which has room for it from `at` on. */
export function putFrame(bytes: Buffer, at: number, frame: NewFrame, size: number): void {
  const body = at + BODY_AT
  bytes.writeUInt16BE(MARK, at)
  bytes.writeUInt32BE(size - BODY_AT, at + 2)
  bytes.writeUInt8(KINDS.indexOf(frame.kind), body)
  bytes.writeUIntBE(frame.seq, body + 1, 6)
  bytes.writeUIntBE(Math.max(0, Math.floor(frame.ms)) % 2 ** 48 || 0, body + 7, 6)
  bytes.write(frame.id.replaceAll('-', ''), body + 13, 16, 'hex')
  if (typeof frame.text === 'string') bytes.write(frame.text, body + TEXT_AT, 'utf8')
  else frame.text.copy(bytes, body + TEXT_AT)
  bytes.writeUInt32BE(crc32(bytes.subarray(body, at + size)), at + 6)
}

/** A frame as bytes. */
export function toBytes(frame: NewFrame): Buffer {
  return allBytes([frame])
}

/** Frames as bytes, one behind the other. */
export function allBytes(frames: readonly NewFrame[]): Buffer {
  const sizes = frames.map(sizeOf)
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + size, 0))
  let at = 0
  for (const [index, frame] of frames.entries()) {
    const size = sizes[index] ?? 0
    putFrame(bytes, at, frame, size)
    at += size
  }
  return bytes
}

/** All frames of a file, or of a part of it that begins with a frame. Never throws. */
export function readFrames(bytes: Buffer): FrameReading {
  const frames: PlacedFrame[] = []
  let damagedBytes = 0
  let good = 0
  let at = 0
  while (at < bytes.length) {
    const frame = frameAt(bytes, at)
    if (frame === null) {
      at = nextMark(bytes, at + 1)
      continue
    }
    damagedBytes += frame.start - good
    frames.push(frame)
    good = frame.end
    at = frame.end
  }
  return { frames, damagedBytes, tornBytes: bytes.length - good }
}

function nextMark(bytes: Buffer, from: number): number {
  const found = bytes.indexOf(MARK_BYTES, from)
  return found === -1 ? bytes.length : found
}

const MARK_BYTES = Buffer.from([MARK >> 8, MARK & 0xff])

function frameAt(bytes: Buffer, start: number): PlacedFrame | null {
  if (start + BODY_AT + MIN_BODY > bytes.length || bytes.readUInt16BE(start) !== MARK) return null
  const length = bytes.readUInt32BE(start + 2)
  const end = start + BODY_AT + length
  if (length < MIN_BODY || end > bytes.length) return null
  const body = bytes.subarray(start + BODY_AT, end)
  const kind = KINDS[body.readUInt8(0)]
  if (kind === undefined || crc32(body) !== bytes.readUInt32BE(start + 6)) return null
  return {
    kind,
    seq: body.readUIntBE(1, 6),
    ms: body.readUIntBE(7, 6),
    id: toUuid(body.toString('hex', 13, 29)),
    text: body.toString('utf8', TEXT_AT),
    start,
    end,
  }
}

function toUuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
