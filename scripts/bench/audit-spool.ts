/** What the spool costs when things go wrong: time to take over what a dead process left, memory while the database is away. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { AuditRoomOptions } from '../../src/audit/limits.ts'
import type { AuditWriter } from '../../src/audit/writer.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import { newId } from '../../test/audit/fixtures.ts'
import type { TestDatabase } from '../../test/support/postgres.ts'
import type { AuditBenchOptions } from './audit.ts'
import { tracedEvent } from './audit-rows.ts'

const RECOVERED = 10_000
const AT_ONCE = 20
const GIB = 1024 ** 3

export async function measureRecovery(database: TestDatabase): Promise<void> {
  await withSpool(async (dir) => {
    const dying = await openRoom(dir, AWAY, { closeDeadlineMs: 1 })
    await record(dying, RECOVERED)
    const { waiting } = await dying.close()
    const from = performance.now()
    const next = await openRoom(dir, database.pool)
    await next.flush(300_000)
    const ms = performance.now() - from
    await next.close()
    const perTenThousand = (ms / waiting) * 10_000
    console.log(
      `recovery: ${waiting} spooled rows in ${ms.toFixed(0)} ms, ${perTenThousand.toFixed(0)} ms for 10,000`,
    )
  })
}

export async function measureOutage(
  database: TestDatabase,
  { outageRows }: AuditBenchOptions,
): Promise<void> {
  await withSpool(async (dir) => {
    const { pool, set } = switchable(database)
    const room = await openRoom(dir, pool)
    set(true)
    const samples: number[] = []
    const share = Math.ceil(outageRows / 10)
    for (let part = 0; part < 10; part += 1) {
      await record(room, share)
      samples.push(memoryMib())
    }
    const { pendingRows, spoolDiskBytes } = room.gauges()
    console.log(
      `outage: ${pendingRows} rows (${(pendingRows / 200 / 60) | 0} min at 200/s) wait in ${mib(spoolDiskBytes)} MiB on disk`,
    )
    console.log(`  memory after each tenth, MiB: ${samples.map((sample) => sample.toFixed(0)).join(' ')}`)
    set(false)
    const from = performance.now()
    await room.flush(600_000)
    const seconds = (performance.now() - from) / 1000
    console.log(
      `  stored in ${seconds.toFixed(1)} s, ${(pendingRows / seconds).toFixed(0)} rows/s; then ${memoryMib().toFixed(0)} MiB`,
    )
    await room.close()
  })
}

type Pool = AuditRoomOptions['pool']

const AWAY = {
  on: () => AWAY,
  off: () => AWAY,
  query: async () => {
    throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
  },
} as unknown as Pool

function switchable(database: TestDatabase): { readonly pool: Pool; set(away: boolean): void } {
  let isAway = false
  const query = (...args: [never]) =>
    isAway ? (AWAY.query as (...all: [never]) => unknown)(...args) : database.pool.query(...args)
  const pool = { on: () => pool, off: () => pool, query } as unknown as Pool
  return {
    pool,
    set(away) {
      isAway = away
    },
  }
}

async function openRoom(
  dir: string,
  pool: Pool,
  limits: AuditRoomOptions['limits'] = {},
): Promise<AuditWriter> {
  const quiet = (): void => undefined
  const room = createAuditRoom({
    ...{ pool, writerId: randomUUID(), newId, clock: { nowMs: Date.now } },
    log: { info: quiet, warn: quiet, error: quiet },
    ...{ mode: 'batch', onFailure: 'deny', spool: { dir, maxBytes: 8 * GIB }, limits },
  })
  await room.start()
  return room
}

async function record(room: AuditWriter, count: number): Promise<void> {
  for (let done = 0; done < count; done += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - done) }, () => tracedEvent())
    await Promise.all(some.map((event) => room.begin(event.call).then(() => room.end(event))))
  }
}

async function withSpool(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'gateway-bench-spool-'))
  try {
    await run(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** What is in use after a collection: heap and buffers. */
function memoryMib(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  const { heapUsed, external } = process.memoryUsage()
  return (heapUsed + external) / 1024 / 1024
}

function mib(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(0)
}
