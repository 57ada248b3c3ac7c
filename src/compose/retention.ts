/** Retention of audit rows, as a command and while a gateway runs. */
import pg from 'pg'
import type { RetiredDay } from '../audit/retention.ts'
import { mayRetire, oldDays, retireDays } from '../audit/retention.ts'
import { createRetirementRecord } from '../audit/retirement.ts'
import type { Signer } from '../audit/signing.ts'
import { reasonOf } from '../audit/store.ts'
import type { Connection } from '../db/connection.ts'
import { toClientConfig } from '../db/connection.ts'
import type { Log } from '../log.ts'

const HOUR_MS = 3_600_000
/** Days may be large: no statement has to be fast. Whoever holds a day is waited for, but not for ever. */
const LIMITS = { connectTimeoutMs: 10_000, statementTimeoutMs: 0, lockTimeoutMs: 10_000 }

/** Runs `use` on a connection of its own as the owner of the tables. */
export async function asOwner<T>(owner: Connection, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(toClientConfig(owner, 'retention', LIMITS))
  // A connection that breaks shows up in the next statement.
  client.on('error', () => undefined)
  try {
    await client.connect()
    return await use(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** What {@link openRetention} needs. */
export interface RetentionParts {
  /** `database.migrate_url`, or the only role there is. */
  readonly owner: Connection
  readonly keepDays: number
  readonly archiveFolder: string | null
  /** Signs the record of what went; null = nobody does. */
  readonly signer: Signer | null
  readonly nowMs: () => number
  readonly log: Pick<Log, 'info' | 'warn' | 'error'>
}

/** Removes old days as long as it is open, one gateway of a fleet at a time. */
export interface Retention {
  /** Now, and not waiting for the hour. Never rejects. */
  run(): Promise<void>
  /** What is under way is left as it is; the next run, of whoever, goes on from there. */
  close(): Promise<void>
}

/** Runs at once and every hour. A role that may not remove rows is told of once. */
export function openRetention(parts: RetentionParts): Retention {
  const { owner, keepDays, archiveFolder, signer, nowMs, log } = parts
  const recordRetirement = createRetirementRecord(signer, nowMs)
  let active: pg.Client | null = null
  let running: Promise<void> | null = null
  let isClosed = false
  let isTold = false
  const onRetired = ({ day, rows, archive }: RetiredDay) =>
    log.info(
      { day, rows, archive: archive?.file ?? null, sha256: archive?.sha256 ?? null },
      'audit day removed',
    )
  const retire = async (client: pg.Client): Promise<void> => {
    active = client
    if (await mayRetire(client)) {
      await retireDays({ db: client, keepDays, nowMs: nowMs(), archiveFolder, recordRetirement, onRetired })
      return
    }
    const { length } = await oldDays(client, keepDays, nowMs())
    if (length === 0 || isTold) return
    isTold = true
    log.warn(
      { days: length, keepDays },
      'audit days are older than audit.retention_days, and this role may not remove them: set database.migrate_url, or run gateway audit prune as the owner',
    )
  }
  const attempt = async (): Promise<void> => {
    try {
      if (!isClosed) await asOwner(owner, retire)
    } catch (thrown) {
      if (!isClosed) log.error({ error: describe(thrown) }, 'an old audit day could not be removed; it stays')
    } finally {
      active = null
      running = null
    }
  }
  const run = (): Promise<void> => {
    running ??= attempt()
    return running
  }
  const timer = setInterval(() => void run(), HOUR_MS).unref()
  void run()
  return {
    run,
    async close() {
      isClosed = true
      clearInterval(timer)
      await active?.end().catch(() => undefined)
      await running
    },
  }
}

/** Messages of the server name tables and locks; those of the file system the archive. Neither quotes a row. */
function describe(thrown: unknown): string {
  return thrown instanceof Error ? `${reasonOf(thrown)}: ${thrown.message}` : typeof thrown
}
