import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { limit, openLimiter, stopDatabaseClock } from './fixtures.ts'
import type { WorkerPlan, WorkerTally } from './worker.ts'

const WORKER = fileURLToPath(new URL('worker.ts', import.meta.url))

describe('limits of several processes', function () {
  this.timeout(60_000)
  let database: TestDatabase
  const children: ChildProcessWithoutNullStreams[] = []

  beforeEach(async () => {
    database = await createTestDatabase()
  })

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
    await database.drop()
  })

  interface Worker {
    go(): void
    /** Ends its calls, if they do not end by themselves. */
    stop(): void
    readonly tally: Promise<WorkerTally>
  }

  /** Ready to go: connected, everything loaded. */
  async function startWorkers(count: number, plan: Omit<WorkerPlan, 'runtime'>): Promise<readonly Worker[]> {
    return await Promise.all(
      Array.from({ length: count }, async () => {
        const text = JSON.stringify({ ...plan, runtime: database.runtime })
        const child = spawn(process.execPath, ['--import=tsx/esm', WORKER, text], { stdio: 'pipe' })
        children.push(child)
        child.stderr.pipe(process.stderr)
        const lines = createInterface(child.stdout)
        await once(lines, 'line')
        const tally = once(lines, 'line').then(([line]) => JSON.parse(String(line)) as WorkerTally)
        return { tally, go: () => void child.stdin.write('go\n'), stop: () => void child.stdin.end() }
      }),
    )
  }

  async function run(workers: readonly Worker[]): Promise<WorkerTally> {
    for (const worker of workers) worker.go()
    return sum(await Promise.all(workers.map((worker) => worker.tally)))
  }

  function sum(tallies: readonly WorkerTally[]): WorkerTally {
    const total: WorkerTally = { allowed: 0, refused: 0, errors: {}, consumed: {}, statements: 0 }
    for (const tally of tallies) {
      total.allowed += tally.allowed
      total.refused += tally.refused
      total.statements += tally.statements
      for (const name of ['errors', 'consumed'] as const) {
        for (const [what, times] of Object.entries(tally[name]))
          total[name][what] = (total[name][what] ?? 0) + times
      }
    }
    return total
  }

  it('lets exactly N of 200 concurrent callers in two processes through', async () => {
    const calls = [[limit({ limit: 2500, window_s: 3600 })]]
    const total = await run(await startWorkers(2, { callers: 100, attempts: 30, calls }))
    expect(total.errors).to.deep.equal({})
    expect(total.allowed).to.equal(2500)
    expect(total.refused).to.equal(3500)
    // Each of the 2500 points was given to exactly one of them.
    expect(Object.values(total.consumed)).to.have.length(2500)
    const { rows } = await database.pool.query('select points from rate_limits')
    expect(rows).to.deep.equal([{ points: 2500 }])
    expect(total.statements).to.be.below(6000 / 5)
  })

  it('lets exactly N through when the limits are new to both processes at the same moment', async () => {
    const calls = Array.from({ length: 40 }, (_, at) => [limit({ limit: 7, key: [at], window_s: 3600 })])
    const total = await run(await startWorkers(2, { callers: 100, attempts: 20, calls }))
    expect(total.errors).to.deep.equal({})
    expect(total.allowed).to.equal(40 * 7)
  })

  it('lets exactly N through in each window, over 100 edges', async () => {
    const clock = await stopDatabaseClock(database, '2026-03-01T00:00:00Z')
    const workers = await startWorkers(2, {
      callers: 25,
      attempts: null,
      calls: [[limit({ limit: 20, window_s: 10 })]],
    })
    for (const worker of workers) worker.go()
    const edges = 100
    for (let edge = 0; edge <= edges; edge += 1) {
      await until('the window to be used up', async () => {
        const { rows } = await database.ownerPool.query(`
          select from rate_limits, test_clock
          where points = 20 and expire = floor(extract(epoch from at) * 1000) + 10000`)
        return rows.length > 0
      })
      // The last moment of the window is still in it; the next one is not.
      if (edge < edges) await clock.advance(10)
    }
    for (const worker of workers) worker.stop()
    const total = sum(await Promise.all(workers.map((worker) => worker.tally)))
    expect(total.errors).to.deep.equal({})
    expect(total.allowed).to.equal(20 * (edges + 1))
    expect(total.refused).to.be.greaterThan(0)
    const points = Array.from({ length: 20 }, (_, at) => [String(at + 1), edges + 1])
    expect(total.consumed).to.deep.equal(Object.fromEntries(points))
  })

  it('never deadlocks on overlapping limits in any order, also while ended ones are removed', async () => {
    const random = (max: number) => Math.floor(Math.random() * max)
    const calls = Array.from({ length: 200 }, () => {
      const keys = [...new Set(Array.from({ length: 6 }, () => random(30)))]
      return keys.map((key) => limit({ key: [key], limit: 200, cost: 1 + random(3), window_s: 1 }))
    })
    const workers = await startWorkers(2, { callers: 50, attempts: 60, calls })
    let isOver = false
    let removed = 0
    const sweeping = (async () => {
      while (!isOver) {
        const { rows } = await database.pool.query('select rate_sweep(0, 10) as removed')
        removed += rows[0].removed
      }
    })()
    const total = await run(workers)
    isOver = true
    await sweeping
    expect(total.errors).to.deep.equal({})
    expect(total.allowed + total.refused).to.equal(6000)
    // What is left expires, and then goes too.
    await database.ownerPool.query('update rate_limits set expire = 1')
    const limiter = openLimiter(database.pool)
    removed += await limiter.sweep()
    await limiter.close()
    expect(removed).to.be.at.least(30)
  })
})
