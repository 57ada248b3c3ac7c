/** Walks the chain of one writer. */
import type { Leaf, PayloadDigests } from './chain.ts'
import { digestPayload, NO_LEAF, PAYLOAD_COLUMNS, toLeaf, toRowText } from './chain.ts'
import type { ChainedRow } from './chain-reader.ts'
import { placeBefore, readErasures, readRows } from './chain-reader.ts'
import type { Covered } from './retired-span.ts'
import { coverRetired } from './retired-span.ts'
import { SignedTrack } from './signed-track.ts'
import type { Erasure } from './signing.ts'
import { checkErasure } from './signing.ts'
import type { Missing } from './suspicion.ts'
import { findOrigin } from './suspicion.ts'
import type { TamperFinding, TamperKind, VerifyContext, Walk } from './tamper.ts'
import { placeText } from './tamper.ts'

/** Rows whose origin is looked for; it takes some statements each. */
const MAX_SUSPECTS = 20
const MAX_MISSING = 64

/** One walk. */
export class WriterCheck {
  readonly #context: VerifyContext
  readonly #writer: string
  readonly #walk: Walk
  readonly #signed: SignedTrack
  /** The last row that stands where it belongs. */
  #previous: { readonly seq: bigint; readonly leaf: Leaf } = { seq: 0n, leaf: NO_LEAF }
  /** Highest number met. */
  #reached = 0n
  #isChained = false
  /** Leaves that the next intact row may stand on, while what was found last is not behind us. */
  #suspects: Leaf[] = []
  readonly #missing: Missing[] = []
  #explained = 0

  constructor(context: VerifyContext, writer: string, walk: Walk) {
    this.#context = context
    this.#writer = writer
    this.#walk = walk
    this.#signed = new SignedTrack(context, writer, walk)
  }

  async run(): Promise<void> {
    const { db } = this.#context
    const before = await placeBefore(db, this.#writer, this.#walk.from)
    if (before !== null) {
      this.#previous = { seq: before.seq, leaf: before.leaf ?? NO_LEAF }
      this.#isChained = before.leaf !== null
      this.#reached = before.seq
    }
    for await (const page of readRows(db, this.#writer, this.#walk)) {
      const [first, last] = [page[0], page.at(-1)]
      if (first === undefined || last === undefined) continue
      // Read after the rows: a row that was found erased has its record by now.
      const erasures = await readErasures(db, this.#writer, BigInt(first.seq), BigInt(last.seq))
      for (const row of page) await this.#row(row, erasures.get(row.id) ?? null)
    }
    await this.#signed.end(this.#reached)
  }

  async #row(row: ChainedRow, erasure: Erasure | null): Promise<void> {
    this.#context.seen(row.ts)
    const seq = BigInt(row.seq)
    const digests = this.#digests(row, erasure)
    const isRight = row.leaf === null ? this.#unchained(row, digests) : await this.#chained(row, seq, digests)
    if (seq > this.#reached) this.#reached = seq
    await this.#signed.row(row, isRight)
  }

  /** Digests as the leaf covers them: those of the payload that stands there, or that stood there before it was erased. */
  #digests(row: ChainedRow, erasure: Erasure | null): PayloadDigests {
    if (erasure === null) return digestPayload(row, row.salt)
    const state = checkErasure(erasure, this.#context.keys)
    const isOwn = erasure.writer === row.writer && erasure.seq === row.seq
    if (state !== 'valid' || !isOwn) {
      this.#find('erasure', row, `The record of the erasure of ${placeText(row)} is not as it was signed.`)
      return digestPayload(row, row.salt)
    }
    this.#context.counts.erased += 1
    const left = digestPayload(row, null)
    if (row.salt !== null || PAYLOAD_COLUMNS.some((name) => left[name] !== erasure.after[name])) {
      this.#find('edited', row, `The payload of ${placeText(row)} was changed after it had been erased.`)
    }
    return erasure.before ?? left
  }

  #unchained(row: ChainedRow, digests: PayloadDigests): boolean {
    if (this.#isChained) {
      this.#find('edited', row, `${rowText(row)} has lost its leaf: it was edited.`)
      const leaf = toLeaf(this.#previous.leaf, toRowText(row, digests))
      this.#suspects.push(leaf)
      this.#previous = { seq: BigInt(row.seq), leaf }
      return false
    }
    this.#context.counts.unchained += 1
    this.#previous = { seq: BigInt(row.seq), leaf: NO_LEAF }
    if (row.ts < this.#context.chainedSinceMs) return true
    this.#find(
      'unchained',
      row,
      `${rowText(row)} has no leaf, although rows were chained when it was stored.`,
    )
    return false
  }

  async #chained(row: ChainedRow, seq: bigint, digests: PayloadDigests): Promise<boolean> {
    this.#isChained = true
    const text = toRowText(row, digests)
    const gap = seq - this.#previous.seq - 1n
    if (toLeaf(this.#previous.leaf, text) === row.leaf && gap >= 0n) {
      this.#context.counts.holes += Number(gap)
      this.#goOn(row)
      return true
    }
    // It is intact; what stood before it was told already.
    if (this.#suspects.some((leaf) => toLeaf(leaf, text) === row.leaf)) {
      this.#goOn(row)
      return true
    }
    if (gap > 0n && (await this.#followsRetired(row, text))) return true
    // The next row may stand on any of these: on this row, on what it should be, on what stood before it.
    this.#suspects.push(this.#previous.leaf, row.leaf ?? NO_LEAF, toLeaf(this.#previous.leaf, text))
    return await this.#suspect(row, { gap, digests })
  }

  /** The row stands where it belongs. */
  #goOn(row: ChainedRow): void {
    this.#previous = { seq: BigInt(row.seq), leaf: row.leaf ?? NO_LEAF }
    this.#suspects = []
  }

  /** Whether rows that were dropped because of their age explain what is missing before the row. */
  async #followsRetired(row: ChainedRow, text: string): Promise<boolean> {
    const from = this.#previous.seq + 1n
    const covered = await coverRetired(this.#context, this.#writer, from, BigInt(row.seq) - 1n)
    if (covered.last === null || toLeaf(covered.last.lastLeaf ?? NO_LEAF, text) !== row.leaf) return false
    this.#context.counts.holes += Number(BigInt(row.seq) - BigInt(covered.last.toSeq) - 1n)
    this.#tellUncovered(covered)
    this.#signed.skip(from, BigInt(row.seq) - 1n)
    this.#goOn(row)
    return true
  }

  #tellUncovered({ holes }: Covered): void {
    for (const { from, to } of holes) this.#delete(from, to)
  }

  /** Names what is wrong with a row that does not fit. Whether the row itself may be right. */
  async #suspect(
    row: ChainedRow,
    { gap, digests }: { gap: bigint; digests: PayloadDigests },
  ): Promise<boolean> {
    const origin = await this.#originOf(row, digests)
    if (origin !== null) {
      const kind = origin.writer === row.writer ? 'reordered' : 'moved'
      const text = `${rowText(row)} was stored as ${placeText(origin)}.`
      this.#find(kind, row, text, { origin: { writer: origin.writer, seq: String(origin.seq) } })
      return false
    }
    if (gap < 0n) {
      this.#find('inserted', row, `${rowText(row)} was not stored by a gateway: its number is another row's.`)
      return false
    }
    if (gap > 0n) this.#delete(this.#previous.seq + 1n, BigInt(row.seq) - 1n)
    else this.#find('edited', row, `${rowText(row)} is not as it was stored: it was edited.`)
    this.#previous = { seq: BigInt(row.seq), leaf: row.leaf ?? NO_LEAF }
    return gap > 0n
  }

  async #originOf(row: ChainedRow, digests: PayloadDigests): ReturnType<typeof findOrigin> {
    this.#explained += 1
    if (this.#explained > MAX_SUSPECTS) return null
    const { db, writers } = this.#context
    return await findOrigin(db, row, digests, { missing: this.#missing, writers })
  }

  #delete(from: bigint, to: bigint): void {
    if (this.#missing.length < MAX_MISSING) this.#missing.push({ from, to, before: this.#previous.leaf })
    this.#signed.skip(from, to)
    const [what, them] =
      from === to
        ? [`Row ${from}`, 'is missing: the next one stands on it']
        : [`Rows ${from} to ${to}`, 'are missing: the next one stands on them']
    this.#context.find({
      ...{ kind: 'deleted', writer: this.#writer, seq: String(from), to: String(to), id: null },
      text: `${what} of writer ${this.#writer} ${them}.`,
    })
  }

  #find(kind: TamperKind, row: ChainedRow, text: string, more: Pick<TamperFinding, 'origin'> = {}): void {
    this.#signed.broken()
    this.#context.find({ kind, writer: row.writer, seq: row.seq, id: row.id, text, ...more })
  }
}

/** As at the beginning of a sentence. */
function rowText(row: ChainedRow): string {
  return `Row ${row.seq} of writer ${row.writer} (id ${row.id})`
}
