/** Rows -> PostgreSQL. Knows the statement, the days, the chain, and what to do about a row that the database refuses. */
import type { Pool } from 'pg'
import type { Leaf } from './chain.ts'
import type { CheckpointLimits, Sealed, SealedLink } from './heads.ts'
import { ChainHeads } from './heads.ts'
import { entryMaker } from './record.ts'
import type { AuditRow, Chained, Degradation } from './row.ts'
import {
  INSERT_CHECKPOINTS,
  INSERT_ROWS,
  INSERT_ROWS_AND_CHECKPOINTS,
  placeholder,
  redated,
  sealBehind,
  toRowsParameter,
  withoutPayload,
} from './row.ts'
import type { Checkpoint, Signer } from './signing.ts'
import { INSERT_KEY } from './signing.ts'

/** A row on its way. The store replaces it by a lesser form when the database refuses it. */
export interface Entry {
  readonly row: AuditRow
  /** Whose row it is: this process's life as a writer, or one whose rows it has taken over. */
  readonly writer: string
  readonly seq: number
  /** JSON text of the row: what the spool keeps and, with its seal, the database gets. */
  readonly record: string
  /** The same as bytes. */
  readonly bytes: Buffer
  readonly form: 'full' | 'without_payload' | 'placeholder'
  /** The row as the chain covers it: made once, and all that is kept of it besides its bytes. */
  chained(): Chained
  replace(row: AuditRow, form: Entry['form']): void
}

/** Counts since the start. */
export interface StoreCounters {
  /** INSERT statements sent. */
  statements: number
  /** Batches split because one of their rows was refused. */
  bisections: number
  /** Rows stored without their payload or as a placeholder. */
  degraded: number
  /** Rows stored under the database's time because their own day cannot be made, or under another id. */
  redated: number
}

/** What {@link createStore} needs. */
export interface StoreOptions {
  readonly pool: Pick<Pool, 'query'>
  /** Id of this process's life as a writer (UUID). */
  readonly writerId: string
  readonly newId: (ms: number) => string
  readonly clock: { nowMs(): number }
  /** Signs checkpoints; null: none are made. */
  readonly signer?: Signer | null
  /** Told of every checkpoint that is committed. Must neither throw nor wait. */
  readonly onCheckpoint?: (checkpoint: Checkpoint) => void
  readonly checkpoints?: CheckpointLimits
  /** Told of a row the database refuses, as it was made, before it is stored with less in it. */
  readonly onRefused?: (entry: Entry, sqlstate: string) => Promise<void>
}

/** Enough that signing costs nothing, seldom enough that what is not covered yet is the work of seconds. */
const CHECKPOINT_LIMITS: CheckpointLimits = { rows: 1000, ms: 5000 }

/** The database as the writer sees it. Whatever it throws means "not now": the rows are fine, try again. */
export interface Store {
  readonly counters: Readonly<StoreCounters>
  /** Makes an entry. `writer`: when the row is not this process's own. */
  entry(row: AuditRow, seq: number, writer?: string): Entry
  /**
   * Chains and stores all entries, those of one writer in order of `seq`; `onStored` is told of each part as soon as it is
   * committed. Safe to repeat, also by another process.
   */
  store(entries: readonly Entry[], onStored: (entries: readonly Entry[]) => void): Promise<void>
  /** Makes the partitions of `count` days from the day of `fromMs` on. */
  createDays(fromMs: number, count: number): Promise<void>
  ping(): Promise<void>
  /** Nothing more will be stored. With `checkpoint`, which needs the database, what has none gets one. */
  close(checkpoint: boolean): Promise<void>
}

const UNIQUE_VIOLATION = '23505'
/** SQLSTATE classes that blame the row: data exception, integrity violation, program limit exceeded. */
const ROW_FAULTS: ReadonlySet<string> = new Set(['22', '23', '54'])
/** `audit_create_day` will not make that day: out of its range, or a table of that name stands in the way. */
const DAY_REFUSED: ReadonlySet<string> = new Set(['22008', '42P07'])
const DAY_MS = 86_400_000

/** One for each process: it knows where the chains stand. */
export function createStore(options: StoreOptions): Store {
  return new PostgresStore(options)
}

class PostgresStore implements Store {
  readonly counters: StoreCounters = { statements: 0, bisections: 0, degraded: 0, redated: 0 }
  readonly #options: StoreOptions
  readonly #heads: ChainHeads
  readonly #entryOf = entryMaker()
  readonly #timer: NodeJS.Timeout | null
  #hasPublished = false
  /** One thing after the other: every row stands on the one before it. */
  #turn: Promise<void> = Promise.resolve()

  constructor(options: StoreOptions) {
    this.#options = options
    const { signer = null, checkpoints: limits = CHECKPOINT_LIMITS } = options
    this.#heads = new ChainHeads(options.pool, signer, limits)
    // What fails here is made up for by the next row or the next time.
    const checkpoint = (): void => void this.#inTurn(() => this.#storePending(false)).catch(() => undefined)
    this.#timer = signer === null ? null : setInterval(checkpoint, limits.ms).unref()
  }

  entry(row: AuditRow, seq: number, writer = this.#options.writerId): Entry {
    return this.#entryOf(row, seq, writer)
  }

  /** Should a row ever not be as rows are, the attempt is recorded all the same. */
  #seal(entry: Entry, before: Leaf): SealedLink {
    try {
      return sealEntry(entry, before)
    } catch (thrown) {
      if (entry.form === 'full') this.counters.degraded += 1
      const why = `the row could not be prepared: ${reasonOf(thrown)}`
      entry.replace(placeholder(entry.row, { why }), 'placeholder')
      return sealEntry(entry, before)
    }
  }

  store(entries: readonly Entry[], onStored: (entries: readonly Entry[]) => void): Promise<void> {
    return this.#inTurn(() => this.#store(entries, onStored))
  }

  async close(checkpoint: boolean): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    if (checkpoint) await this.#inTurn(() => this.#storePending(true))
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(run)
    this.#turn = done.catch(() => undefined)
    return done
  }

  async #store(entries: readonly Entry[], onStored: (entries: readonly Entry[]) => void): Promise<void> {
    const refusal = (await this.#insertOrRefusal(entries)) ?? null
    if (refusal === null) {
      onStored(entries)
      return
    }
    const [first] = entries
    if (entries.length > 1 || first === undefined) {
      this.counters.bisections += 1
      const middle = entries.length >> 1
      await this.#store(entries.slice(0, middle), onStored)
      await this.#store(entries.slice(middle), onStored)
      return
    }
    if (first.form === 'full' && refusal.sqlState !== UNIQUE_VIOLATION)
      await this.#options.onRefused?.(first, refusal.sqlState)
    this.#degrade(first, refusal)
    await this.#store(entries, onStored)
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
      if (isMissingDay(thrown)) await this.#makeDays(entries)
      // Some are stored already, by a statement of which no answer came, perhaps another process's: look again.
      else if (sqlState(thrown) === UNIQUE_VIOLATION) this.#heads.forget(entries)
      else return toRefusal(thrown)
    }
    try {
      await this.#insert(entries)
      return undefined
    } catch (thrown) {
      return toRefusal(thrown)
    }
  }

  async #insert(entries: readonly Entry[]): Promise<void> {
    const sealed = await this.#heads.seal(entries, this.#options.clock.nowMs(), (entry, before) =>
      this.#seal(entry, before),
    )
    if (sealed.fresh.length > 0) await this.#send(sealed)
    this.#keep(sealed)
  }

  async #send({ records, checkpoints }: Sealed<Entry>): Promise<void> {
    const rows = toRowsParameter(records)
    if (checkpoints.length > 0) await this.#publishKey()
    this.counters.statements += 1
    if (checkpoints.length === 0) {
      await this.#options.pool.query({ name: 'audit_insert', text: INSERT_ROWS, values: [rows] })
      return
    }
    await this.#options.pool.query({
      name: 'audit_insert_checkpoints',
      text: INSERT_ROWS_AND_CHECKPOINTS,
      values: [rows, toCheckpointRecords(checkpoints)],
    })
  }

  #keep(sealed: Pick<Sealed<Entry>, 'heads' | 'inside' | 'checkpoints'>): void {
    this.#heads.keep(sealed)
    for (const checkpoint of sealed.checkpoints) this.#options.onCheckpoint?.(checkpoint)
  }

  async #storePending(all: boolean): Promise<void> {
    const checkpoints = this.#heads.pending(this.#options.clock.nowMs(), all)
    if (checkpoints.length === 0) return
    await this.#publishKey()
    await this.#options.pool.query(INSERT_CHECKPOINTS, [toCheckpointRecords(checkpoints)])
    this.#keep({ heads: new Map(), inside: new Set(), checkpoints })
  }

  /** Whoever verifies later, after the key has been replaced, finds its public half here. */
  async #publishKey(): Promise<void> {
    const { signer = null } = this.#options
    if (this.#hasPublished || signer === null) return
    await this.#options.pool.query(INSERT_KEY, [signer.keyId, signer.publicKey])
    this.#hasPublished = true
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
      entry.replace(redated(entry.row, this.#options.newId(ms), ms), entry.form)
    }
  }

  /** Throws the refusal itself when there is nothing left to take away: then it is not about this row. */
  #degrade(entry: Entry, refusal: Refusal): void {
    const degradation = { why: 'refused by the database', sqlstate: refusal.sqlState }
    if (refusal.sqlState === UNIQUE_VIOLATION) {
      this.#reidentify(entry)
      return
    }
    if (entry.form === 'placeholder') throw refusal.thrown
    if (entry.form === 'full') this.counters.degraded += 1
    const lesser = entry.form === 'full' ? withoutPayloadOrNull(entry.row, degradation) : null
    if (lesser === null) entry.replace(placeholder(entry.row, degradation), 'placeholder')
    else entry.replace(lesser, 'without_payload')
  }

  /** Another row has its id and its moment. */
  #reidentify(entry: Entry): void {
    const ms = Date.parse(entry.row.ts)
    this.counters.redated += 1
    entry.replace(redated(entry.row, this.#options.newId(ms), ms, 'its id was taken'), entry.form)
  }
}

/** null: there is no telling what to leave out. */
function withoutPayloadOrNull(row: AuditRow, degradation: Degradation): AuditRow | null {
  try {
    return withoutPayload(row, degradation)
  } catch {
    return null
  }
}

function sealEntry(entry: Entry, before: Leaf): SealedLink {
  const seal = sealBehind(before, entry.chained())
  return { leaf: seal.leaf, record: { bytes: entry.bytes, seal } }
}

function toCheckpointRecords(checkpoints: readonly Checkpoint[]): string {
  return JSON.stringify(
    checkpoints.map(({ leaf, keyId, ...rest }) => ({ ...rest, leaf: `\\x${leaf}`, key_id: keyId })),
  )
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
