/** The words of verification: what can be wrong, what is counted, what the checks share. */
import type { Pool } from 'pg'
import type { Anchors } from './anchor-file.ts'
import type { PublicKeys } from './signing.ts'

/** What is wrong, in words of its own. */
export type TamperKind =
  | 'edited'
  | 'deleted'
  | 'inserted'
  | 'reordered'
  | 'moved'
  | 'cut'
  | 'rewritten'
  | 'unchained'
  | 'checkpoint'
  | 'erasure'
  | 'retirement'

/** One thing that is wrong. */
export interface TamperFinding {
  readonly kind: TamperKind
  readonly writer: string
  /** Decimal text: the row, or the first of several. */
  readonly seq: string
  /** The last of several rows that follow each other. */
  readonly to?: string
  /** The row's id; null when there is no row any more. */
  readonly id: string | null
  /** Where a reordered or moved row was stored at first. */
  readonly origin?: { readonly writer: string; readonly seq: string }
  /** A sentence. */
  readonly text: string
}

/** What was counted on the way. */
export interface VerifyCounts {
  /** Rows looked at. */
  rows: number
  writers: number
  /** Checkpoints whose signature and leaf are right. */
  checkpoints: number
  /** Anchors that agree with the rows. */
  anchors: number
  /** Rows whose payload was erased, with a signed record. */
  erased: number
  /** Rows that were dropped because of their age, by the records of it. */
  retired: number
  /** Of those, rows whose record nobody signed. */
  retiredUnsigned: number
  /** Numbers that a writer itself never stored a row under. */
  holes: number
  /** Rows from before the chain. */
  unchained: number
  /** Rows that no checkpoint or anchor covers: whoever owns the database could still rewrite them unseen. */
  unproven: number
}

/** What the checks of all writers share. */
export interface VerifyContext {
  readonly db: Pick<Pool, 'query'>
  readonly writers: readonly string[]
  readonly keys: PublicKeys
  readonly anchors: Anchors | null
  /** Rows begun later have no excuse for not being chained, ms since the epoch. */
  readonly chainedSinceMs: number
  readonly counts: VerifyCounts
  find(finding: TamperFinding): void
  /** A row begun at `ms` has been looked at. */
  seen(ms: number): void
}

/** Which rows of a writer are walked. */
export interface Walk {
  readonly from: bigint
  /** null: to the end of the chain. */
  readonly to: bigint | null
  /** The last row that a checkpoint named when the walk began. */
  readonly checkpointed: bigint
}

/** How a row is named in a sentence. */
export function placeText({
  writer,
  seq,
}: {
  readonly writer: string
  readonly seq: string | bigint
}): string {
  return `row ${seq} of writer ${writer}`
}
