import type { Pool } from 'pg'
import { GatewayError } from '../../src/errors.ts'
import type { Calendar, Limit } from '../../src/gateway/limit-types.ts'
import type { Limiter, LimiterLimits } from '../../src/rate/room.ts'
import { createLimiter } from '../../src/rate/room.ts'
import type { TestDatabase } from '../support/postgres.ts'

/** A limiter on this database and what it has logged. */
export interface TestLimiter extends Limiter {
  readonly logged: { readonly level: string; readonly fields: Readonly<Record<string, unknown>> }[]
}

const CLOCK = { nowMs: Date.now, monotonicMs: () => performance.now() }

export function openLimiter(pool: Pick<Pool, 'query'>, limits: Partial<LimiterLimits> = {}): TestLimiter {
  const logged: { level: string; fields: Readonly<Record<string, unknown>> }[] = []
  const logger = (level: string) => (fields: Readonly<Record<string, unknown>>) =>
    void logged.push({ level, fields })
  const log = { info: logger('info'), warn: logger('warn'), error: logger('error') }
  // A busy machine is no outage: tests of outages set a deadline of their own.
  const patient = { deadlineMs: 20_000, ...limits }
  return { ...createLimiter({ pool, clock: CLOCK, log, limits: patient }), logged }
}

/** A limit of ten points a minute, unless told otherwise. */
export function limit({ calendar, window_s = 60, ...settings }: LimitSettings = {}): Limit {
  const base = { name: 'per-test', key: ['alice'], limit: 10, ...settings }
  return calendar === undefined ? { ...base, window_s } : { ...base, calendar }
}

export interface LimitSettings extends Partial<Omit<Limit, 'window_s' | 'calendar'>> {
  readonly window_s?: number
  readonly calendar?: Calendar
}

/** The database's clock of all windows, standing still until it is moved. */
export interface DatabaseClock {
  set(iso: string): Promise<void>
  advance(seconds: number): Promise<void>
}

/** Puts a clock that tests move in the place of the database's own. */
export async function stopDatabaseClock(database: TestDatabase, iso: string): Promise<DatabaseClock> {
  await database.ownerPool.query(`
    create table test_clock (at timestamptz not null);
    create or replace function rate_now() returns timestamptz language sql volatile as 'select at from public.test_clock'`)
  await database.ownerPool.query('insert into test_clock values ($1)', [iso])
  return {
    async set(to) {
      await database.ownerPool.query('update test_clock set at = $1', [to])
    },
    async advance(seconds) {
      await database.ownerPool.query(`update test_clock set at = at + $1 * interval '1 second'`, [seconds])
    },
  }
}

/** The GatewayError that a promise rejects with. */
export async function refusalOf(promise: Promise<unknown>): Promise<GatewayError> {
  const thrown = await promise.then(
    () => new Error('it was fulfilled'),
    (error: unknown) => error,
  )
  if (thrown instanceof GatewayError) return thrown
  throw thrown
}
