/**
 * `npm run bench:audit [-- --parts rows,latency,recovery,outage --rounds 3 --seconds 4 --outage-rows 24000]`: what the audit
 * log costs. Ratios within one run mean something, absolute numbers depend on the box. About two minutes.
 */
import { parseArgs } from 'node:util'
import type { TestDatabase } from '../../test/support/postgres.ts'
import { createTestDatabase, stopSharedServer } from '../../test/support/postgres.ts'
import { measureLatency } from './audit-latency.ts'
import { measureRows } from './audit-rows.ts'
import { measureOutage, measureRecovery } from './audit-spool.ts'

/** Numbers of the command line. */
export interface AuditBenchOptions {
  readonly rounds: number
  readonly seconds: number
  readonly outageRows: number
}

/** Each prints what it has measured. Add the next one here. */
const PARTS: Readonly<Record<string, (database: TestDatabase, options: AuditBenchOptions) => Promise<void>>> =
  {
    rows: measureRows,
    latency: measureLatency,
    recovery: measureRecovery,
    outage: measureOutage,
  }

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      parts: { type: 'string', default: Object.keys(PARTS).join(',') },
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '4' },
      'outage-rows': { type: 'string', default: '24000' },
    },
  })
  const options = {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    outageRows: Number(values['outage-rows']),
  }
  try {
    for (const name of values.parts.split(',')) {
      const measure = PARTS[name]
      if (measure === undefined)
        throw new Error(`no part is called ${name}: ${Object.keys(PARTS).join(', ')}`)
      const database = await createTestDatabase()
      try {
        await measure(database, options)
      } finally {
        await database.drop()
      }
    }
  } finally {
    await stopSharedServer()
  }
}

await main()
