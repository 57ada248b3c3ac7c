/** Checkpoints kept outside the database, read back for comparison: a file of lines as `audit.anchors` writes them. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { UsageError } from '../errors.ts'
import type { Checkpoint } from './signing.ts'

/** What was read, by writer and row. */
export interface Anchors {
  readonly writers: readonly string[]
  at(writer: string, seq: bigint): Checkpoint | null
  /** Anchors of a writer after a row, in order. */
  after(writer: string, seq: bigint): readonly Checkpoint[]
  span(writer: string): { readonly first: bigint; readonly last: bigint } | null
}

/** About 250 MB. */
const MAX_ANCHORS = 500_000
const MAX_LINE = 65_536

/**
 * Reads a file of anchors; lines of a log may stand between them, and around them: a line counts when it has a member
 * `audit_checkpoint`. Only anchors made between the two moments are kept. Throws UsageError `usage` when the file cannot
 * be read, holds no anchor, a damaged one, or too many at once.
 */
export async function readAnchorFile(
  file: string,
  { since, until }: { readonly since: Date | null; readonly until: Date | null },
): Promise<Anchors> {
  const found = new Map<string, Map<bigint, Checkpoint>>()
  let count = 0
  let lineNumber = 0
  for await (const line of linesOf(file)) {
    lineNumber += 1
    const checkpoint = parseAnchor(line, file, lineNumber)
    if (checkpoint === null) continue
    count += 1
    const at = Date.parse(checkpoint.ts)
    if ((since !== null && at < since.getTime()) || (until !== null && at >= until.getTime())) continue
    const own = found.get(checkpoint.writer) ?? new Map<bigint, Checkpoint>()
    own.set(BigInt(checkpoint.seq), checkpoint)
    found.set(checkpoint.writer, own)
    if (own.size > MAX_ANCHORS || found.size > MAX_ANCHORS) {
      throw new UsageError(
        'usage',
        `${file} holds more anchors than fit into memory: narrow it with --since.`,
      )
    }
  }
  if (count === 0) throw new UsageError('usage', `${file} holds no anchor (a line with "audit_checkpoint").`)
  return toAnchors(found)
}

async function* linesOf(file: string): AsyncGenerator<string> {
  try {
    yield* createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Number.POSITIVE_INFINITY })
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
    throw new UsageError('usage', `cannot read ${file} (${code}).`, { cause })
  }
}

function parseAnchor(line: string, file: string, lineNumber: number): Checkpoint | null {
  if (!line.includes('"audit_checkpoint"')) return null
  const damaged = (): UsageError =>
    new UsageError(
      'usage',
      `${file}:${lineNumber} is damaged: it is not an anchor as the gateway writes them.`,
    )
  if (line.length > MAX_LINE) throw damaged()
  let value: unknown
  try {
    value = (JSON.parse(line) as { audit_checkpoint?: unknown }).audit_checkpoint
  } catch {
    throw damaged()
  }
  if (typeof value !== 'object' || value === null) throw damaged()
  const { writer, seq, leaf, rows, ts, key_id: keyId, signature } = value as Record<string, unknown>
  const isText = (part: unknown): part is string => typeof part === 'string'
  if (!(isText(writer) && isText(seq) && isText(leaf) && isText(ts) && isText(keyId) && isText(signature)))
    throw damaged()
  const isShaped = /^[0-9a-f-]{36}$/.test(writer) && /^\d{1,19}$/.test(seq) && /^[0-9a-f]{64}$/.test(leaf)
  if (!isShaped || typeof rows !== 'number' || Number.isNaN(Date.parse(ts))) throw damaged()
  return { writer, seq, leaf, rows, ts, keyId, signature }
}

function toAnchors(found: ReadonlyMap<string, ReadonlyMap<bigint, Checkpoint>>): Anchors {
  const ordered = new Map(
    [...found].map(([writer, own]) => [
      writer,
      [...own.keys()].sort((left, right) => (left < right ? -1 : 1)),
    ]),
  )
  return {
    writers: [...found.keys()],
    at: (writer, seq) => found.get(writer)?.get(seq) ?? null,
    after(writer, seq) {
      const later = (ordered.get(writer) ?? []).filter((one) => one > seq)
      return later.flatMap((one) => found.get(writer)?.get(one) ?? [])
    },
    span(writer) {
      const seqs = ordered.get(writer) ?? []
      const [first] = seqs
      const last = seqs.at(-1)
      return first === undefined || last === undefined ? null : { first, last }
    },
  }
}

/** One line of an anchor. */
export function toAnchorLine({ writer, seq, leaf, rows, ts, keyId, signature }: Checkpoint): string {
  return JSON.stringify({ audit_checkpoint: { writer, seq, leaf, rows, ts, key_id: keyId, signature } })
}
