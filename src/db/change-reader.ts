import type { Pool } from 'pg'

/** Subjects that changed, e.g. key ids; `all` = unknown which: read everything again. */
export type ChangedSubjects = readonly string[] | 'all'

/** Applies changes. While it rejects, the feed does not go on and confirms nothing, and tries again. */
export type ChangeHandler = (subjects: ChangedSubjects) => Promise<void> | void

/** A handler of one topic. `isLoaded` once it has been called with `all`. */
export interface TopicHandler {
  readonly topic: string
  readonly handler: ChangeHandler
  isLoaded: boolean
}

interface ChangeRow {
  readonly seq: string
  readonly topic: string
  readonly subject: string
}

const BATCH = 1000

/**
 * Reads what has changed since the last reading, hands it to the handlers and returns the last sequence number. The first
 * reading (and one that may have missed something) calls every handler with `all`, and so does a handler's first one.
 */
export function createChangeReader(
  db: Pick<Pool, 'query'>,
  handlers: readonly TopicHandler[],
): () => Promise<bigint> {
  let applied: bigint | null = null

  async function readAll(): Promise<bigint> {
    // The end is taken first: what changes while the handlers load is read again, not missed.
    const end = await lastSeq(db)
    for (const one of handlers) one.isLoaded = false
    await loadAll(handlers)
    return end
  }

  async function readSince(since: bigint): Promise<bigint> {
    let last = since
    await loadAll(handlers)
    for (;;) {
      const rows = await changesSince(db, last)
      if (rows === 'lost') return await readAll()
      await apply(handlers, rows)
      last = BigInt(rows.at(-1)?.seq ?? last)
      applied = last
      if (rows.length < BATCH) return last
    }
  }

  return async () => {
    applied = applied === null ? await readAll() : await readSince(applied)
    return applied
  }
}

/** Has those that came since the last reading load everything. */
async function loadAll(handlers: readonly TopicHandler[]): Promise<void> {
  for (const one of handlers.filter(({ isLoaded }) => !isLoaded)) {
    await one.handler('all')
    one.isLoaded = true
  }
}

async function apply(handlers: readonly TopicHandler[], rows: readonly ChangeRow[]): Promise<void> {
  const subjects = new Map<string, Set<string>>()
  for (const { topic, subject } of rows) {
    const known = subjects.get(topic)
    if (known === undefined) subjects.set(topic, new Set([subject]))
    else known.add(subject)
  }
  for (const { topic, handler } of handlers) {
    const changed = subjects.get(topic)
    if (changed !== undefined) await handler([...changed])
  }
}

async function lastSeq(db: Pick<Pool, 'query'>): Promise<bigint> {
  const { rows } = await db.query<{ last: string }>('select coalesce(max(seq), 0) as last from changes')
  return BigInt(rows[0]?.last ?? 0)
}

/**
 * At most {@link BATCH} rows, oldest first. `lost` when the row `since` itself is no longer there: it was removed as old
 * (and so may be others that were never seen), or the database is another one than before (restored from a backup).
 */
async function changesSince(db: Pick<Pool, 'query'>, since: bigint): Promise<ChangeRow[] | 'lost'> {
  const { rows } = await db.query<ChangeRow>(
    'select seq, topic, subject from changes where seq >= $1 order by seq limit $2',
    [String(since), BATCH + 1],
  )
  // 0 stands for the empty table there was at the start.
  if (since === 0n) return rows.slice(0, BATCH)
  return rows[0]?.seq === String(since) ? rows.slice(1) : 'lost'
}
