/**
 * How a gateway learns what others have changed (keys, later kill switches and policies).
 *
 * The table `changes` is the truth and is read once a second; NOTIFY only makes it read sooner. Sequence numbers become
 * visible in order (see `record_change` in migration 1), so "everything after the last one I saw" misses nothing.
 */
import type { Client, Pool } from 'pg'
import { createChangeListener } from './change-listener.ts'
import type { ChangeHandler, TopicHandler } from './change-reader.ts'
import { createChangeReader } from './change-reader.ts'
import { createProcessReport } from './process-report.ts'

/** What {@link createChangeFeed} needs. */
export interface ChangeFeedOptions {
  /** Runtime role; used for the regular reading. */
  readonly db: Pick<Pool, 'query'>
  /** A client that is not connected yet, for LISTEN; called again after each loss. */
  readonly openClient: () => Client
  /** Unique id of this process, and a name for people (host and pid). */
  readonly process: { readonly id: string; readonly name: string }
  /** Sequence of the policies that serve, for the others to see; absent or null = none. */
  readonly policySequence?: () => number | null
  /** Monotonic, ms. The scale of {@link ChangeFeed.confirmedAt}. */
  readonly monotonicMs: () => number
  /** Told when reading starts to fail and when it works again. */
  readonly onHealth?: (state: { readonly ok: boolean; readonly error: unknown }) => void
  readonly pollMs?: number
}

/** A running feed. */
export interface ChangeFeed {
  /**
   * Adds a handler of a topic. All handlers run one after the other, in the order they were added; the next reading calls
   * a new one with `all`. Before {@link ChangeFeed.refresh} has resolved once after this, it may not have been called.
   */
  onChange(topic: string, handler: ChangeHandler): void
  /** Moment (by `monotonicMs`) up to which every change is known to have been applied; -Infinity before the first time. */
  confirmedAt(): number
  /** Resolves when a reading that began after this call has been applied. Rejects when it failed. */
  refresh(): Promise<void>
  close(): Promise<void>
}

const POLL_MS = 1000

/** Starts reading as soon as the caller has yielded. */
export function createChangeFeed(options: ChangeFeedOptions): ChangeFeed {
  const handlers: TopicHandler[] = []
  const read = createChangeReader(options.db, handlers)
  const report = createProcessReport(options)
  let confirmed = Number.NEGATIVE_INFINITY
  let isHealthy = true

  async function attempt(): Promise<void> {
    const from = options.monotonicMs()
    try {
      const applied = await read()
      confirmed = from
      await report.send(applied)
      tell(true, null)
    } catch (error) {
      tell(false, error)
      throw error
    }
  }

  function tell(ok: boolean, error: unknown): void {
    if (ok !== isHealthy) options.onHealth?.({ ok, error })
    isHealthy = ok
  }

  const beat = createBeat(attempt, options.pollMs ?? POLL_MS)
  const listener = createChangeListener(options.openClient, beat.nudge)
  return {
    onChange: (topic, handler) => void handlers.push({ topic, handler, isLoaded: false }),
    confirmedAt: () => confirmed,
    refresh: beat.run,
    async close() {
      await listener.close()
      await beat.close()
      await report.close()
    },
  }
}

interface Beat {
  /** Runs now, or right after the run that is under way; all who ask during one share the next. */
  run(): Promise<void>
  /** The same, for those who do not care how it ends. */
  nudge(): void
  /** Resolves when nothing is running any more. */
  close(): Promise<void>
}

/** Repeats `work`, one run at a time, `pauseMs` after the end of the one before. */
function createBeat(work: () => Promise<void>, pauseMs: number): Beat {
  let running: Promise<void> | null = null
  let queued: Promise<void> | null = null
  let timer: NodeJS.Timeout | null = null
  let isClosed = false

  function start(): Promise<void> {
    if (isClosed) return Promise.reject(new Error('the change feed is closed'))
    clearImmediate(first)
    if (timer !== null) clearTimeout(timer)
    running = work().finally(() => {
      running = null
      if (!isClosed) timer = setTimeout(nudge, pauseMs).unref()
    })
    return running
  }

  function run(): Promise<void> {
    if (queued !== null) return queued
    if (running === null) return start()
    queued = running.catch(ignore).then(() => {
      queued = null
      return start()
    })
    return queued
  }

  function nudge(): void {
    run().catch(ignore)
  }

  const first = setImmediate(nudge)
  return {
    run,
    nudge,
    async close() {
      isClosed = true
      clearImmediate(first)
      if (timer !== null) clearTimeout(timer)
      await (queued ?? running)?.catch(ignore)
    },
  }
}

function ignore(): void {
  // The work has told of its failure itself, and is repeated.
}
