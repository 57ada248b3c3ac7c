/** Rows -> PostgreSQL. Knows the statement, the days, and what to do about a row that the database refuses. */
import type { Pool } from 'pg'
import type { AuditRow } from './row.ts'
import { INSERT_ROWS, placeholder, redated, toRecord, withoutPayload } from './row.ts'

/** A row on its way. The store replaces `row` by a lesser form when the database refuses it. */
export interface Entry {
  row: AuditRow
  /** UUID of the writer that numbered it; its rows are handed over in order of `seq`. */
  readonly writer: string
  readonly seq: number
  /** JSON text of the row. */
  record: string
  form: 'full' | 'without_payload' | 'placeholder'
}

/** Counts since the start. */
export interface StoreCounters {
  /** INSERT statements sent. */
  statements: number
  /** Batches split because one of their rows was refused. */
  bisections: number
  /** Rows stored without their payload or as a placeholder. */
  degraded: number
  /** Rows stored under the database's time because their own day cannot be made. */
  redated: number
}

/** What {@link createStore} needs. */
export interface StoreOptions {
  readonly pool: Pick<Pool, 'query'>
  /** Id of this process's life as a writer (UUID). */
  readonly writerId: string
  readonly newId: (ms: number) => string
  /** Told of a row the database refuses, as it was made, before it is stored with less in it. */
  readonly onRefused?: (entry: Entry, sqlstate: string) => Promise<void>
}

/** The database as the writer sees it. Whatever it throws means "not now": the rows are fine, try again. */
export interface Store {
  readonly counters: Readonly<StoreCounters>
  /** Makes an entry; its record is ready to be sent. */
  entry(row: AuditRow, seq: number): Entry
  /** Stores all entries; `onStored` is told of each part as soon as it is committed. Safe to repeat. */
  store(entries: readonly Entry[], onStored: (entries: readonly Entry[]) => void): Promise<void>
  /** Makes the partitions of `count` days from the day of `fromMs` on. */
  createDays(fromMs: number, count: number): Promise<void>
  ping(): Promise<void>
}

/** SQLSTATE classes that blame the row: data exception, integrity violation, program limit exceeded. */
const ROW_FAULTS: ReadonlySet<string> = new Set(['22', '23', '54'])
/** `audit_create_day` will not make that day: out of its range, or a table of that name stands in the way. */
const DAY_REFUSED: ReadonlySet<string> = new Set(['22008', '42P07'])
const DAY_MS = 86_400_000

export function createStore(options: StoreOptions): Store {
  return new PostgresStore(options)
}

class PostgresStore implements Store {
  readonly counters: StoreCounters = { statements: 0, bisections: 0, degraded: 0, redated: 0 }
  readonly #options: StoreOptions

  constructor(options: StoreOptions) {
    this.#options = options
  }

  entry(row: AuditRow, seq: number): Entry {
    const writer = this.#options.writerId
    return { row, writer, seq, form: 'full', record: toRecord(row, writer, seq) }
  }

  async store(entries: readonly Entry[], onStored: (entries: readonly Entry[]) => void): Promise<void> {
    const refusal = (await this.#insertOrRefusal(entries)) ?? null
    if (refusal === null) {
      onStored(entries)
      return
    }
    const [first] = entries
    if (entries.length > 1 || first === undefined) {
      this.counters.bisections += 1
      const middle = entries.length >> 1
      await this.store(entries.slice(0, middle), onStored)
      await this.store(entries.slice(middle), onStored)
      return
    }
    if (first.form === 'full') await this.#options.onRefused?.(first, refusal.sqlState)
    this.#degrade(first, refusal)
    await this.store(entries, onStored)
  }

  async createDays(fromMs: number, count: number): Promise<void> {
    const days = Array.from({ length: count }, (_, index) => dayOf(fromMs + index * DAY_MS))
    await this.#options.pool.query('select audit_create_day(day) from unnest($1::date[]) as day', [days])
  }

  async ping(): Promise<void> {
    await this.#options.pool.query('select 1')
  }

  /** The refusal of a row, undefined when all are stored. Throws what is no row's fault. */
  async #insertOrRefusal(entries: readonly Entry[]): Promise<Refusal | undefined> {
    try {
      await this.#insert(entries)
      return undefined
    } catch (thrown) {
      if (!isMissingDay(thrown)) return toRefusal(thrown)
    }
    await this.#makeDays(entries)
    try {
      await this.#insert(entries)
      return undefined
    } catch (thrown) {
      return toRefusal(thrown)
    }
  }

  async #insert(entries: readonly Entry[]): Promise<void> {
    this.counters.statements += 1
    const records = `[${entries.map((entry) => entry.record).join(',')}]`
    await this.#options.pool.query({ name: 'audit_insert', text: INSERT_ROWS, values: [records] })
  }

  async #makeDays(entries: readonly Entry[]): Promise<void> {
    for (const day of new Set(entries.map((entry) => entry.row.ts.slice(0, 10)))) {
      try {
        await this.#options.pool.query('select audit_create_day($1::date)', [day])
      } catch (thrown) {
        if (!DAY_REFUSED.has(sqlState(thrown) ?? '')) throw thrown
        await this.#redate(entries.filter((entry) => entry.row.ts.startsWith(day)))
      }
    }
  }

  /** A clock that is years off must not cost the row: it is stored under the database's time, and says so. */
  async #redate(entries: readonly Entry[]): Promise<void> {
    const { rows } = await this.#options.pool.query<{ ms: number }>(
      'select floor(extract(epoch from now()) * 1000)::float8 as ms',
    )
    const ms = rows[0]?.ms ?? 0
    await this.createDays(ms, 1)
    for (const entry of entries) {
      this.counters.redated += 1
      this.#replace(entry, redated(entry.row, this.#options.newId(ms), ms), entry.form)
    }
  }

  /** Throws the refusal itself when there is nothing left to take away: then it is not about this row. */
  #degrade(entry: Entry, refusal: Refusal): void {
    const degradation = { why: 'refused by the database', sqlstate: refusal.sqlState }
    if (entry.form === 'placeholder') throw refusal.thrown
    if (entry.form === 'full') this.counters.degraded += 1
    if (entry.form === 'full') {
      this.#replace(entry, withoutPayload(entry.row, degradation), 'without_payload')
    } else {
      this.#replace(entry, placeholder(entry.row, degradation), 'placeholder')
    }
  }

  #replace(entry: Entry, row: AuditRow, form: Entry['form']): void {
    entry.row = row
    entry.form = form
    entry.record = toRecord(row, entry.writer, entry.seq)
  }
}

interface Refusal {
  readonly sqlState: string
  readonly thrown: unknown
}

function toRefusal(thrown: unknown): Refusal {
  const state = sqlState(thrown)
  if (state === null || !ROW_FAULTS.has(state.slice(0, 2))) throw thrown
  return { sqlState: state, thrown }
}

/** A CHECK gives the same SQLSTATE but names its constraint. The message depends on the server's language. */
function isMissingDay(thrown: unknown): boolean {
  return sqlState(thrown) === '23514' && (thrown as { constraint?: unknown }).constraint === undefined
}

/** The SQLSTATE of a refusal by the server; null for everything else (connection lost, time-out). */
export function sqlState(thrown: unknown): string | null {
  const code = thrown instanceof Error ? (thrown as Error & { code?: unknown }).code : null
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null
}

/** Code or class of an error: enough to act on, and no text that could quote a row. */
export function reasonOf(thrown: unknown): string {
  if (thrown === null) return 'no answer in time'
  if (!(thrown instanceof Error)) return typeof thrown
  const { code } = thrown as Error & { code?: unknown }
  return typeof code === 'string' ? code : thrown.name
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
