/** The `decision` column of a row, read. */
import { parseExact } from '../json/exact.ts'
import type { StoredRow } from './query.ts'
import type { DecisionFacts } from './sentence.ts'

/** What sentences speak of; empty when the column holds no object. */
export function factsOf(row: Pick<StoredRow, 'decision'>): DecisionFacts {
  const decision = parseExact(row.decision)
  return typeof decision === 'object' && decision !== null ? (decision as DecisionFacts) : {}
}
