/** What has happened to a row whose leaf is wrong: was it edited, or does it belong somewhere else? */
import type { Pool } from 'pg'
import type { Leaf, PayloadDigests } from './chain.ts'
import { NO_LEAF, toLeaf, toRowText } from './chain.ts'
import type { ChainedRow } from './chain-reader.ts'
import { placeBefore, placesAround } from './chain-reader.ts'

/** Rows of a writer that are missing, and the leaf before them. */
export interface Missing {
  readonly from: bigint
  readonly to: bigint
  readonly before: Leaf
}

/** Where the row was stored when it was chained; null: nowhere that was looked, so it was edited. */
export interface Origin {
  readonly writer: string
  readonly seq: bigint
}

/** How far around it other places are tried. */
const REACH = 48
const MAX_WRITERS = 200

/** Looks where else the row fits: among its neighbours, in the holes found so far, in the chains of other writers. */
export async function findOrigin(
  db: Pick<Pool, 'query'>,
  row: ChainedRow,
  digests: PayloadDigests,
  known: { readonly missing: readonly Missing[]; readonly writers: readonly string[] },
): Promise<Origin | null> {
  const fitsAt: FitsAt = (writer, seq) => {
    const text = toRowText({ ...row, writer, seq: String(seq) }, digests)
    return (before) => toLeaf(before, text) === row.leaf
  }
  return (
    fitsMissing(row, known.missing, fitsAt) ??
    (await fitsNeighbours(db, row, fitsAt)) ??
    (await fitsOthers(db, row, known.writers, fitsAt))
  )
}

/** Whether the row's leaf is right for that place, behind a certain leaf. */
type FitsAt = (writer: string, seq: bigint) => (before: Leaf) => boolean

function fitsMissing(row: ChainedRow, missing: readonly Missing[], fitsAt: FitsAt): Origin | null {
  for (const { from, to, before } of missing) {
    for (let seq = from; seq <= to && seq < from + BigInt(REACH); seq += 1n) {
      if (fitsAt(row.writer, seq)(before)) return { writer: row.writer, seq }
    }
  }
  return null
}

async function fitsNeighbours(
  db: Pick<Pool, 'query'>,
  row: ChainedRow,
  fitsAt: FitsAt,
): Promise<Origin | null> {
  const own = BigInt(row.seq)
  const places = await placesAround(db, row.writer, own, REACH)
  const leaves = [NO_LEAF, ...places.flatMap(({ leaf }) => leaf ?? [])]
  for (let seq = own - BigInt(REACH); seq <= own + BigInt(REACH); seq += 1n) {
    // Where it stands now it does not fit, unless the row before it stands elsewhere; then it is not the one to name.
    if (seq === own || seq < 1n) continue
    const fits = fitsAt(row.writer, seq)
    if (leaves.some(fits)) return { writer: row.writer, seq }
  }
  return null
}

async function fitsOthers(
  db: Pick<Pool, 'query'>,
  row: ChainedRow,
  writers: readonly string[],
  fitsAt: FitsAt,
): Promise<Origin | null> {
  const seq = BigInt(row.seq)
  for (const writer of writers.filter((other) => other !== row.writer).slice(0, MAX_WRITERS)) {
    const place = await placeBefore(db, writer, seq)
    if (fitsAt(writer, seq)(place?.leaf ?? NO_LEAF)) return { writer, seq }
  }
  return null
}
