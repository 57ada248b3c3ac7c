/** Compares one writer's rows with what was signed about them: checkpoints in the database, anchors outside of it. */
import type { ChainedRow } from './chain-reader.ts'
import { readCheckpoints } from './chain-reader.ts'
import { coverRetired } from './retired-span.ts'
import type { Checkpoint } from './signing.ts'
import { checkCheckpoint } from './signing.ts'
import type { TamperKind, VerifyContext, Walk } from './tamper.ts'

/** Goes along with a walk, row by row. */
export class SignedTrack {
  readonly #context: VerifyContext
  readonly #writer: string
  /** Checkpoints up to here have their rows, or had them. */
  readonly #until: bigint
  #queue: readonly Checkpoint[] = []
  /** Of the checkpoint read last. */
  #read: bigint
  #hasAll = false
  /** Rows since the last right checkpoint; null when it is not known where that stands. */
  #since: number | null
  /** Rows that nothing covers so far. */
  #uncovered = 0
  /** Spans whose rows are known to be gone. */
  #gone: { readonly from: bigint; readonly to: bigint }[] = []

  constructor(context: VerifyContext, writer: string, { from, to, checkpointed }: Walk) {
    this.#context = context
    this.#writer = writer
    this.#until = to !== null && to < checkpointed ? to : checkpointed
    this.#read = from - 1n
    this.#since = from <= 1n ? 0 : null
  }

  /** The rows of a span are gone, and that has been told or explained. */
  skip(from: bigint, to: bigint): void {
    this.#gone.push({ from, to })
    this.#since = null
  }

  /** Something was wrong: how many rows there were since the last checkpoint says nothing any more. */
  broken(): void {
    this.#since = null
  }

  /** @param isRight nothing was found to be wrong with the row itself */
  async row(row: ChainedRow, isRight: boolean): Promise<void> {
    const seq = BigInt(row.seq)
    this.#uncovered += 1
    if (this.#since !== null && row.leaf !== null) this.#since += 1
    let next = await this.#peek()
    for (; next !== null && BigInt(next.seq) < seq; next = await this.#peek()) {
      this.#queue = this.#queue.slice(1)
      this.#withoutRow(next)
    }
    const checkpoint = next !== null && BigInt(next.seq) === seq ? next : null
    if (checkpoint !== null) {
      this.#queue = this.#queue.slice(1)
      this.#compare(checkpoint, row, isRight)
    }
    this.#anchor(seq, row, { hasCheckpoint: checkpoint !== null, isRight })
  }

  /** After the last row: what was signed beyond it was cut off. */
  async end(reached: bigint): Promise<void> {
    this.#context.counts.unproven += this.#uncovered
    let last: Checkpoint | null = null
    for (let next = await this.#peek(); next !== null; next = await this.#peek()) {
      this.#queue = this.#queue.slice(1)
      if (this.#isSigned(next) && BigInt(next.seq) > reached) last = next
    }
    const anchor =
      this.#context.anchors?.after(this.#writer, reached).findLast((one) => this.#isSigned(one)) ?? null
    const isAnchor = anchor !== null && (last === null || BigInt(anchor.seq) > BigInt(last.seq))
    const beyond = isAnchor ? anchor : last
    if (beyond !== null) await this.#cut(reached + 1n, beyond, isAnchor ? 'anchor' : 'checkpoint')
  }

  async #cut(from: bigint, beyond: Checkpoint, source: 'anchor' | 'checkpoint'): Promise<void> {
    const to = BigInt(beyond.seq)
    const { last, holes } = await coverRetired(this.#context, this.#writer, from, to)
    if (last !== null && holes.length === 0 && BigInt(last.toSeq) === to && last.lastLeaf === beyond.leaf)
      return
    const rows = from === to ? `Row ${from} is` : `Rows ${from} to ${to} are`
    this.#find(
      'cut',
      from,
      `${rows} missing at the end of writer ${this.#writer}: the ${source} of ${beyond.ts} names row ${to}.`,
      to,
    )
  }

  async #peek(): Promise<Checkpoint | null> {
    if (this.#queue.length === 0 && !this.#hasAll) {
      this.#queue = await readCheckpoints(this.#context.db, this.#writer, this.#read, this.#until)
      const last = this.#queue.at(-1)
      if (last === undefined) this.#hasAll = true
      else this.#read = BigInt(last.seq)
    }
    return this.#queue[0] ?? null
  }

  #withoutRow(checkpoint: Checkpoint): void {
    const seq = BigInt(checkpoint.seq)
    if (!this.#isSigned(checkpoint)) return
    if (this.#gone.some(({ from, to }) => from <= seq && seq <= to)) return
    this.#find(
      'deleted',
      seq,
      `Row ${seq} of writer ${this.#writer} is missing: the checkpoint of ${checkpoint.ts} names it.`,
    )
  }

  #compare(checkpoint: Checkpoint, row: ChainedRow, isRight: boolean): void {
    if (!this.#isSigned(checkpoint)) {
      this.#since = null
      return
    }
    if (checkpoint.leaf !== row.leaf) {
      if (isRight) this.#rewritten(row, `the checkpoint of ${checkpoint.ts}`)
      this.#since = null
      return
    }
    this.#context.counts.checkpoints += 1
    this.#uncovered = 0
    if (this.#since !== null && this.#since > checkpoint.rows) {
      const seq = BigInt(checkpoint.seq)
      this.#find(
        'checkpoint',
        seq,
        `A checkpoint before that of row ${seq} of writer ${this.#writer} is missing.`,
      )
    }
    this.#since = 0
    this.#gone = []
  }

  #anchor(
    seq: bigint,
    row: ChainedRow,
    { hasCheckpoint, isRight }: { hasCheckpoint: boolean; isRight: boolean },
  ): void {
    const anchor = this.#context.anchors?.at(this.#writer, seq) ?? null
    if (anchor === null || !this.#isSigned(anchor)) return
    if (anchor.leaf !== row.leaf) {
      if (isRight) this.#rewritten(row, `the anchor of ${anchor.ts}`)
      return
    }
    this.#context.counts.anchors += 1
    this.#uncovered = 0
    if (hasCheckpoint) return
    this.#find(
      'checkpoint',
      seq,
      `The checkpoint of row ${seq} of writer ${this.#writer} is missing: it was anchored at ${anchor.ts}.`,
    )
  }

  /** Whether the signature is right; when it is not, that is told. */
  #isSigned(checkpoint: Checkpoint): boolean {
    const state = checkCheckpoint(checkpoint, this.#context.keys)
    if (state === 'valid') return true
    const of = `The checkpoint of row ${checkpoint.seq} of writer ${this.#writer}`
    const why =
      state === 'unknown_key'
        ? `was signed with key ${checkpoint.keyId}, which is not among the keys`
        : 'is not as it was signed'
    this.#find('checkpoint', BigInt(checkpoint.seq), `${of} ${why}.`)
    return false
  }

  #rewritten(row: ChainedRow, source: string): void {
    const text = `Row ${row.seq} of writer ${row.writer} (id ${row.id}), or one before it, was rewritten together with the chain: it is not what ${source} signed.`
    this.#context.find({ kind: 'rewritten', writer: row.writer, seq: row.seq, id: row.id, text })
  }

  #find(kind: TamperKind, seq: bigint, text: string, to?: bigint): void {
    const more = to === undefined ? {} : { to: String(to) }
    this.#context.find({ kind, writer: this.#writer, seq: String(seq), id: null, text, ...more })
  }
}
