/**
 * Where the chain of each writer stands. A head is read from the database when a writer is met for the first time and
 * whenever there is doubt, so chains survive restarts, repeated batches and the adoption of another process's rows.
 */
import type { Pool } from 'pg'
import type { Leaf } from './chain.ts'
import { NO_LEAF } from './chain.ts'
import type { SealedRecord } from './row.ts'
import type { Checkpoint, Signer, Unsigned } from './signing.ts'
import { signCheckpoint } from './signing.ts'

/** A row that is to be chained. */
export interface Link {
  readonly writer: string
  readonly seq: number
}

/** A row behind the leaf before it. */
export interface SealedLink {
  readonly leaf: Leaf
  readonly record: SealedRecord
}

/** When checkpoints are made. */
export interface CheckpointLimits {
  /** At the latest after so many rows of one writer. */
  readonly rows: number
  /** At the latest so long after a row. */
  readonly ms: number
}

interface Head {
  readonly seq: number
  readonly leaf: Leaf
  /** Rows since the last checkpoint. */
  readonly rows: number
  /** When the first of them was stored; of no meaning when there is none. */
  readonly sinceMs: number
}

/** What was found of one writer. */
interface Loaded {
  readonly head: Head
  /** Leaves of the rows asked about that are stored already. */
  readonly stored: ReadonlyMap<number, Leaf>
  /** There are later rows than those asked about, so this head is not where the chain ends. */
  readonly isInside: boolean
}

/** Rows with their leaves, to be sent in one statement. */
export interface Sealed<T extends Link> {
  /** Those that are not stored yet. */
  readonly fresh: readonly T[]
  readonly records: readonly SealedRecord[]
  readonly checkpoints: readonly Checkpoint[]
  readonly heads: ReadonlyMap<string, Head>
  /** Writers with rows behind these: the next batch has to look again where their chain stands. */
  readonly inside: ReadonlySet<string>
}

/** The heads of all writers this process stores rows of. Not for concurrent use: one batch after the other. */
export class ChainHeads {
  readonly #db: Pick<Pool, 'query'>
  readonly #signer: Signer | null
  readonly #limits: CheckpointLimits
  readonly #heads = new Map<string, Head>()

  constructor(db: Pick<Pool, 'query'>, signer: Signer | null, limits: CheckpointLimits) {
    this.#db = db
    this.#signer = signer
    this.#limits = limits
  }

  /** Chains the rows, which are in order of `seq` per writer. Changes nothing before {@link keep}. */
  async seal<T extends Link>(
    links: readonly T[],
    nowMs: number,
    sealLink: (link: T, before: Leaf) => SealedLink,
  ): Promise<Sealed<T>> {
    const heads = new Map<string, Head>()
    const stored = new Map<string, ReadonlyMap<number, Leaf>>()
    const inside = new Set<string>()
    for (const [writer, own] of byWriter(links)) {
      const { head, stored: known, isInside } = await this.#headBefore(writer, own, nowMs)
      heads.set(writer, head)
      if (isInside) inside.add(writer)
      stored.set(writer, known)
    }
    const fresh: T[] = []
    const records: SealedRecord[] = []
    for (const link of links) {
      const head = heads.get(link.writer) ?? startOf(nowMs)
      const known = stored.get(link.writer)?.get(link.seq)
      if (known !== undefined) continue
      const { record, leaf } = sealLink(link, head.leaf)
      fresh.push(link)
      records.push(record)
      heads.set(link.writer, {
        seq: link.seq,
        leaf,
        rows: head.rows + 1,
        sinceMs: head.rows === 0 ? nowMs : head.sinceMs,
      })
    }
    return { fresh, records, checkpoints: this.#checkpoint(heads, this.#limits, nowMs), heads, inside }
  }

  /** The rows are committed. */
  keep({ heads, inside, checkpoints }: Pick<Sealed<Link>, 'heads' | 'inside' | 'checkpoints'>): void {
    for (const [writer, head] of heads) this.#heads.set(writer, head)
    for (const writer of inside) this.#heads.delete(writer)
    for (const { writer, seq } of checkpoints) {
      const head = this.#heads.get(writer)
      if (head !== undefined && String(head.seq) === seq) this.#heads.set(writer, { ...head, rows: 0 })
    }
  }

  /** What is known of these writers may be wrong. */
  forget(links: readonly Link[]): void {
    for (const { writer } of links) this.#heads.delete(writer)
  }

  /** Checkpoints of rows that have none yet; with `all` of the youngest rows, too. */
  pending(nowMs: number, all: boolean): readonly Checkpoint[] {
    return this.#checkpoint(this.#heads, all ? { rows: 1, ms: 0 } : this.#limits, nowMs)
  }

  #checkpoint(
    heads: ReadonlyMap<string, Head>,
    { rows: maxRows, ms }: CheckpointLimits,
    nowMs: number,
  ): readonly Checkpoint[] {
    const signer = this.#signer
    if (signer === null) return []
    return [...heads]
      .filter(([, head]) => head.rows >= maxRows || (head.rows > 0 && Math.abs(nowMs - head.sinceMs) >= ms))
      .map(([writer, { seq, leaf, rows }]) => {
        const ts = new Date(nowMs).toISOString()
        const checkpoint: Unsigned<Checkpoint> = { writer, seq: String(seq), leaf, rows, ts }
        return signCheckpoint(checkpoint, signer)
      })
  }

  async #headBefore(writer: string, own: readonly Link[], nowMs: number): Promise<Loaded> {
    const first = own[0]?.seq ?? 0
    const known = this.#heads.get(writer)
    if (known !== undefined && known.seq < first) return { head: known, stored: new Map(), isInside: false }
    return await this.#load(writer, { first, last: own.at(-1)?.seq ?? first }, nowMs)
  }

  async #load(writer: string, span: { first: number; last: number }, nowMs: number): Promise<Loaded> {
    const { rows } = await this.#db.query<{ seq: string; leaf: Leaf | null }>(
      `(select seq, encode(leaf, 'hex') as leaf from audit_events where writer = $1 and seq < $2 order by seq desc limit 1)
       union all
       (select seq, encode(leaf, 'hex') from audit_events where writer = $1 and seq between $2 and $3 order by seq)`,
      [writer, span.first, span.last],
    )
    const last = rows.at(-1)
    if (last === undefined) return { head: startOf(nowMs), stored: new Map(), isInside: false }
    const { rows: counts } = await this.#db.query<{ rows: number; is_inside: boolean }>(
      `select (select count(*) from audit_events where writer = $1 and leaf is not null and seq <= $2
         and seq > coalesce((select max(seq) from audit_checkpoints where writer = $1 and seq <= $2), -1))::float8 as rows,
       exists (select from audit_events where writer = $1 and seq > $2) as is_inside`,
      [writer, last.seq],
    )
    const { rows: uncovered = 0, is_inside: isInside = false } = counts[0] ?? {}
    return {
      head: { seq: Number(last.seq), leaf: last.leaf ?? NO_LEAF, rows: uncovered, sinceMs: nowMs },
      stored: new Map(rows.map(({ seq, leaf }) => [Number(seq), leaf ?? NO_LEAF])),
      isInside,
    }
  }
}

function byWriter<T extends Link>(links: readonly T[]): ReadonlyMap<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const link of links) {
    const group = groups.get(link.writer)
    if (group === undefined) groups.set(link.writer, [link])
    else group.push(link)
  }
  return groups
}

function startOf(nowMs: number): Head {
  return { seq: 0, leaf: NO_LEAF, rows: 0, sinceMs: nowMs }
}
