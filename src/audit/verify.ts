/**
 * The door of verification: walks the chains of all writers and names what was edited, deleted, reordered, moved or cut
 * off. Memory is bounded: rows are read in pages, of findings the first are kept and the rest is counted.
 */
import type { Pool } from 'pg'
import type { Anchors } from './anchor-file.ts'
import { lastCheckpoint, readChainStart, readPublicKeys, readSpan, readWriters } from './chain-reader.ts'
import type { PublicKeys } from './signing.ts'
import { parsePublicKeys } from './signing.ts'
import type { TamperFinding, VerifyContext, VerifyCounts } from './tamper.ts'
import { placeText } from './tamper.ts'
import { WriterCheck } from './verify-writer.ts'

/** The outcome. */
export interface VerifyReport extends Readonly<VerifyCounts> {
  readonly ok: boolean
  /** Moments of the oldest and newest row looked at; null when there was none. */
  readonly first: Date | null
  readonly last: Date | null
  /** Where the public keys came from: whoever owns the database can replace those in it. */
  readonly keys: 'given' | 'database' | 'none'
  /** In the order in which they were found; at most {@link MAX_FINDINGS}. */
  readonly findings: readonly TamperFinding[]
  readonly moreFindings: number
}

/** What {@link verifyLog} takes. */
export interface VerifyOptions {
  readonly db: Pick<Pool, 'query'>
  readonly since: Date | null
  readonly until: Date | null
  /** Checkpoints that were kept outside the database. */
  readonly anchors: Anchors | null
  /** Keys got from elsewhere; null: those that stand in the database. */
  readonly publicKeys: PublicKeys | null
  readonly onProgress?: (counts: Readonly<VerifyCounts>) => void
}

/** Findings that are kept. */
export const MAX_FINDINGS = 100
/** A gateway of the version before may go on for so long on the new schema. */
const UPGRADE_MS = 86_400_000
const PROGRESS_ROWS = 1000

/** Verifies everything in the given time. What is wrong is a finding; only a database that fails rejects. */
export async function verifyLog(options: VerifyOptions): Promise<VerifyReport> {
  const { db, anchors, publicKeys } = options
  const keys = publicKeys ?? (await keysOf(db))
  const stored = await readWriters(db)
  const writers = [...new Set([...stored, ...(anchors?.writers ?? [])])].sort()
  const findings: TamperFinding[] = []
  const span = { first: Number.POSITIVE_INFINITY, last: Number.NEGATIVE_INFINITY }
  let more = 0
  const counts = emptyCounts()
  const context: VerifyContext = {
    ...{ db, writers, keys, anchors, counts },
    chainedSinceMs: (await readChainStart(db)) + UPGRADE_MS,
    find(finding) {
      if (findings.length < MAX_FINDINGS) findings.push(finding)
      else more += 1
    },
    seen(ms) {
      counts.rows += 1
      span.first = Math.min(span.first, ms)
      span.last = Math.max(span.last, ms)
      if (counts.rows % PROGRESS_ROWS === 0) options.onProgress?.(counts)
    },
  }
  for (const writer of writers) await verifyWriter(writer, context, options)
  return {
    ...counts,
    ok: findings.length === 0,
    first: Number.isFinite(span.first) ? new Date(span.first) : null,
    last: Number.isFinite(span.last) ? new Date(span.last) : null,
    keys: publicKeys !== null ? 'given' : keys.size > 0 ? 'database' : 'none',
    findings: withoutEchoes(findings),
    moreFindings: more,
  }
}

async function verifyWriter(writer: string, context: VerifyContext, options: VerifyOptions): Promise<void> {
  const { db, since, until, anchors } = options
  const isWhole = since === null && until === null
  const anchored = anchors?.span(writer) ?? null
  const inTime = isWhole ? null : await readSpan(db, writer, since, until)
  if (!isWhole && inTime === null && anchored === null) return
  const from = isWhole ? 1n : least(inTime?.from ?? null, anchored?.first ?? null)
  const to = isWhole || until === null ? null : greatest(inTime?.to ?? null, anchored?.last ?? null)
  context.counts.writers += 1
  // Read before the rows: what is stored from now on has rows as well.
  const checkpointed = await lastCheckpoint(db, writer)
  await new WriterCheck(context, writer, { from, to, checkpointed }).run()
}

async function keysOf(db: Pick<Pool, 'query'>): Promise<PublicKeys> {
  const pems = await readPublicKeys(db)
  return new Map(pems.flatMap((pem) => [...parseOrNone(pem)]))
}

/** Whoever may add keys may add what is none: it must not stand in the way. */
function parseOrNone(pem: string): PublicKeys {
  try {
    return parsePublicKeys(pem)
  } catch {
    return new Map()
  }
}

function emptyCounts(): VerifyCounts {
  return {
    ...{ rows: 0, writers: 0, checkpoints: 0, anchors: 0, erased: 0, retired: 0, retiredUnsigned: 0 },
    ...{ holes: 0, unchained: 0, unproven: 0 },
  }
}

/** A row that was found elsewhere need not be told as missing, too. */
function withoutEchoes(findings: readonly TamperFinding[]): readonly TamperFinding[] {
  const found = new Set(findings.flatMap(({ origin }) => (origin === undefined ? [] : placeText(origin))))
  return findings.filter((finding) => {
    const isOne = finding.to === undefined || finding.to === finding.seq
    return !(finding.kind === 'deleted' && isOne && found.has(placeText(finding)))
  })
}

function least(left: bigint | null, right: bigint | null): bigint {
  if (left === null || right === null) return left ?? right ?? 1n
  return left < right ? left : right
}

function greatest(left: bigint | null, right: bigint | null): bigint | null {
  if (left === null || right === null) return left ?? right
  return left > right ? left : right
}
