/** Frames read from the spool -> the next rows to send, what is missing between them, and where the rest begins. Pure. */
import type { Spilled, Waiting } from './backlog.ts'
import { readBack } from './record.ts'
import type { Gap } from './row.ts'
import type { PlacedFrame } from './spool-frame.ts'
import type { Place, SpoolReading } from './spool-segments.ts'

/** What {@link takeBack} goes by. */
export interface TakeBackOptions {
  readonly liveRows: number
  readonly liveLength: number
  readonly writer: string
  readonly nowMs: number
}

/** What it found. */
export interface TakenBack {
  readonly rows: readonly Waiting[]
  readonly missing: readonly Gap[]
  readonly rest: Omit<Spilled, 'count'>
}

/** `read` null: the spool ends before the run does. Rows beyond the run are left for the next time. */
export function takeBack(spilled: Spilled, read: SpoolReading | null, options: TakeBackOptions): TakenBack {
  const { liveRows, liveLength, writer, nowMs } = options
  const endSeq = spilled.seq + spilled.count
  const rows: Waiting[] = []
  const missing: Gap[] = []
  let length = 0
  let { seq, sinceMs, place } = spilled
  const lose = (before: number, untilMs: number): void => {
    if (before <= seq) return
    const seqs = [seq, before - 1] as const
    missing.push({ why: 'spool_damaged', count: before - seq, fromMs: sinceMs, toMs: untilMs, seqs })
    seq = before
  }
  if (read === null) {
    lose(endSeq, nowMs)
    return { rows, missing, rest: { place, seq, sinceMs } }
  }
  for (const frame of read.frames) {
    const isRow = frame.kind === 'end' && frame.seq >= seq
    if (isRow) lose(Math.min(frame.seq, endSeq), frame.ms)
    if (seq >= endSeq || rows.length >= liveRows || length >= liveLength) {
      return { rows, missing, rest: { place, seq, sinceMs } }
    }
    place = { segment: read.next.segment, offset: frame.end }
    if (!isRow) continue
    rows.push(toWaiting(frame, writer, place))
    length += frame.text.length
    sinceMs = frame.ms
    seq = frame.seq + 1
  }
  return { rows, missing, rest: { place: read.next, seq, sinceMs } }
}

function toWaiting(frame: PlacedFrame, writer: string, place: Place): Waiting {
  const entry = readBack(frame.text, frame.seq, writer)
  return { entry, length: frame.text.length, acceptedMs: frame.ms, place, settle: null, isCommitted: false }
}
