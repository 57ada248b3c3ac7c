/** Ledger against table: what was promised must be there, once, and what is missing must be declared. */
import type pg from 'pg'
import type { Ledger } from './load.ts'

/** What was found; a violation is anything that breaks a promise. */
export interface Findings {
  /** Answers that were read to their end. */
  readonly acknowledged: number
  readonly rows: number
  /** Acknowledged calls without a row. */
  readonly lost: number
  /** Rows beyond the first of one request. */
  readonly doubled: number
  readonly interrupted: number
  readonly writers: number
  /** Numbers of writers that no row has and no gap declares. */
  readonly undeclared: number
  readonly violations: readonly string[]
}

/** What the table is held against. */
export interface Evidence {
  readonly ledger: Ledger
  /** tools/call requests the upstream has seen. */
  readonly upstreamCalls: number
  /** Spools that were not emptied. */
  readonly leftSpools: number
}

interface Row {
  readonly request_id: string
  readonly outcome: string
  readonly writer: string
  readonly seq: string
  readonly asked: boolean
  readonly seqs: readonly [number, number] | null
}

export async function judge(client: pg.Client, evidence: Evidence): Promise<Findings> {
  const { ledger, upstreamCalls, leftSpools } = evidence
  const { rows } = await client.query<Row>(
    `select request_id, outcome, writer, seq, decision ? 'upstream' or outcome = 'interrupted' as asked,
     decision->'gap'->'seqs' as seqs from audit_events order by writer, seq`,
  )
  const outcomes = new Map(rows.map(({ request_id, outcome }) => [request_id, outcome]))
  const lost = [...ledger.allowed, ...ledger.denied, ...ledger.unavailable].filter((id) => !outcomes.has(id))
  const wrong = [
    ...[...ledger.allowed].filter((id) => outcomes.has(id) && outcomes.get(id) !== 'allowed'),
    ...[...ledger.denied].filter((id) => outcomes.has(id) && outcomes.get(id) !== 'denied_authz'),
  ]
  const undeclared = undeclaredNumbers(rows)
  const asked = rows.filter((row) => row.asked).length
  const checks: readonly (readonly [boolean, string])[] = [
    [lost.length > 0, `${lost.length} acknowledged calls without a row: ${lost.slice(0, 3).join(', ')}`],
    [
      wrong.length > 0,
      `${wrong.length} rows tell another outcome than the caller saw: ${wrong.slice(0, 3).join(', ')}`,
    ],
    [rows.length > outcomes.size, `${rows.length - outcomes.size} doubled rows`],
    [undeclared > 0, `${undeclared} numbers of writers that no row has and no gap declares`],
    [upstreamCalls > asked, `${upstreamCalls} calls reached the upstream, ${asked} rows say so`],
    [leftSpools > 0, `${leftSpools} spools were not emptied`],
    [ledger.allowed.size === 0, 'no call was served: nothing has been shown'],
  ]
  return {
    acknowledged: ledger.allowed.size + ledger.denied.size + ledger.unavailable.size,
    rows: rows.length,
    lost: lost.length,
    doubled: rows.length - outcomes.size,
    interrupted: rows.filter(({ outcome }) => outcome === 'interrupted').length,
    writers: new Set(rows.map(({ writer }) => writer)).size,
    undeclared,
    violations: checks.flatMap(([isBroken, text]) => (isBroken ? [text] : [])),
  }
}

/** Rows come sorted by writer and number. */
function undeclaredNumbers(rows: readonly Row[]): number {
  const declared = rows.flatMap(({ writer, seqs }) => (seqs === null ? [] : [{ writer, seqs }]))
  const isDeclared = (writer: string, seq: number): boolean =>
    declared.some((gap) => gap.writer === writer && gap.seqs[0] <= seq && seq <= gap.seqs[1])
  let count = 0
  let writer = ''
  let next = 1
  for (const row of rows) {
    if (row.writer !== writer) next = 1
    writer = row.writer
    const seq = Number(row.seq)
    // A number that comes twice is no better than one that is missing.
    if (seq < next) count += 1
    for (; next < seq; next += 1) if (!isDeclared(writer, next)) count += 1
    next = seq + 1
  }
  return count
}
