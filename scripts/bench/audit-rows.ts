/** Rows per second: the gateway's own inserts against COPY into the same table, interleaved, rows with a trace of 6.5 KB. */
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { from as copyFrom } from 'pg-copy-streams'
import { toAuditRow } from '../../src/audit/event.ts'
import { AUDIT_LIMITS } from '../../src/audit/limits.ts'
import { toBatches } from '../../src/audit/recovery.ts'
import { createStore } from '../../src/audit/store.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import { allowed, DENY_TRACE, evaluation, newId } from '../../test/audit/fixtures.ts'
import type { TestDatabase } from '../../test/support/postgres.ts'
import type { AuditBenchOptions } from './audit.ts'
import { median } from './parts.ts'

const ROWS = 4000
/** Rows of one COPY, the best of those tried. */
const BATCH = 200
const TRACE_BYTES = 6500

/** An allowed call with a trace as long as asked for. */
export function tracedEvent(traceBytes = TRACE_BYTES): AuditEvent {
  const size = JSON.stringify(DENY_TRACE.rules).length
  const rules = Array.from(
    { length: Math.max(1, Math.round(traceBytes / size)) },
    () => DENY_TRACE.rules,
  ).flat()
  const trace = { v: 1, truncated: false, dropped: 0, rules }
  return allowed({ startedMs: Date.now(), evaluation: evaluation({ allow: true, deniedBy: [], trace }) })
}

export async function measureRows(database: TestDatabase, { rounds }: AuditBenchOptions): Promise<void> {
  const store = createStore({
    pool: database.pool,
    writerId: randomUUID(),
    newId,
    clock: { nowMs: Date.now },
  })
  await store.createDays(Date.now(), 1)
  const rates = { insert: [] as number[], copy: [] as number[] }
  for (let round = 0; round <= rounds; round += 1) {
    const insert = await rateOf(() => insertRows(store, makeEntries(store)))
    const copy = await rateOf(() => copyRows(database, makeEntries(store)))
    // The first round warms up.
    if (round === 0) continue
    rates.insert.push(insert)
    rates.copy.push(copy)
  }
  const [insert, copy] = [median(rates.insert), median(rates.copy)]
  console.log(`rows/s, ${ROWS} rows of about ${makeEntries(store, 1)[0]?.record.length} characters`)
  console.log(`  COPY             ${copy.toFixed(0).padStart(6)}/s`)
  console.log(`  audit inserts    ${insert.toFixed(0).padStart(6)}/s   ${(insert / copy).toFixed(2)} of COPY`)
}

type Store = ReturnType<typeof createStore>
type Entry = ReturnType<Store['entry']>

function makeEntries(store: Store, count = ROWS): Entry[] {
  return Array.from({ length: count }, (_, index) => store.entry(toAuditRow(tracedEvent()), index + 1))
}

async function rateOf(run: () => () => Promise<void>): Promise<number> {
  const write = run()
  const from = performance.now()
  await write()
  return ROWS / ((performance.now() - from) / 1000)
}

function insertRows(store: Store, entries: readonly Entry[]): () => Promise<void> {
  return async () => {
    const batches = toBatches(entries, AUDIT_LIMITS, ({ record }) => record.length)
    for (const batch of batches) await store.store(batch, () => undefined)
  }
}

function copyRows(database: TestDatabase, entries: readonly Entry[]): () => Promise<void> {
  const records = entries.map(({ record }) => JSON.parse(record) as Record<string, unknown>)
  // `v` is the form of the record, no column.
  const names = Object.keys(records[0] ?? {}).filter((name) => name !== 'v')
  const lines = records.map((record) => `${names.map((name) => copyText(record[name])).join('\t')}\n`)
  return async () => {
    const client = await database.pool.connect()
    try {
      for (let at = 0; at < lines.length; at += BATCH) {
        const stream = client.query(copyFrom(`copy audit_events (${names.join(', ')}) from stdin`))
        await pipeline(Readable.from([lines.slice(at, at + BATCH).join('')]), stream)
      }
    } finally {
      client.release()
    }
  }
}

/** PostgreSQL's text format of COPY. */
function copyText(value: unknown): string {
  if (value === null || value === undefined) return '\\N'
  if (Array.isArray(value)) return `{${value.join(',')}}`
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\t', '\\t').replaceAll('\r', '\\r')
}
