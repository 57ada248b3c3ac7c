/**
 * Puts changed policies in force while calls go on. All or nothing: a folder that changes while it is read is read again,
 * a policy that does not check, cannot be stored or cannot be loaded leaves the last good one serving and says so.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { CompiledPolicy } from './build.ts'
import { PolicyBuildError } from './build-error.ts'
import { BundleRefused } from './bundle-error.ts'
import { PolicyFault } from './host-fault.ts'
import type { ReloadableRoom } from './reload-room.ts'

/** How a reload ended. `unchanged`: what was read is what serves. */
export type ReloadResult = 'replaced' | 'unchanged' | 'failed'

/** Policies that are waiting for somebody to mend them. Safe for everybody who may see readiness. */
export interface PendingPolicy {
  /** One line: where and what. */
  readonly error: string
  /** When the folder and what serves came apart, RFC 3339. */
  readonly failed_since: string
}

/** The release that a policy came as. */
export interface PolicyRelease {
  readonly sequence: number
  /** `sha256:<hex>` of the bundle's manifest. */
  readonly digest: string
  readonly isVerified: boolean
}

/** A policy that may be put in force. */
export interface ReadPolicy {
  readonly policy: CompiledPolicy
  /** null = it was read from a folder. */
  readonly release: PolicyRelease | null
  /** Why this is not the newest there is; null = it is. */
  readonly refused: Error | null
}

/** What {@link createPolicyReload} needs. */
export interface PolicyReloadOptions {
  /** What the policies look like from outside, without reading them; see `reload-folder.ts`. Never rejects. */
  readonly look: () => Promise<string>
  /** What `look` said before the serving policy was read. */
  readonly seen: string
  /** The release that serves. */
  readonly release: PolicyRelease | null
  /** Reads the policies. Rejects with PolicyBuildError or BundleRefused for what their authors can mend. */
  readonly read: (signal: AbortSignal) => Promise<ReadPolicy>
  /** Keeps sources and dictionary for the audit log, before a call can be decided by them. */
  readonly store: (policy: CompiledPolicy) => Promise<void>
  /** Told which release is in force now, before `onResult`; may be called again for the same. */
  readonly accept: (read: ReadPolicy) => Promise<void>
  readonly room: Pick<ReloadableRoom, 'revision' | 'replace'>
  /** Told how each reload ended. Must not throw. */
  readonly onResult: (result: ReloadResult) => void
  readonly log: ReloadLog
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly pace?: Partial<ReloadPace>
}

/** Times, ms. */
export interface ReloadPace {
  /** Between two looks. Large folders are looked at less often. */
  readonly pollMs: number
  /** What has changed must have been quiet for so long before it is read. */
  readonly quietMs: number
  /** After a failure that no author has to mend (the database was away), it is tried again. */
  readonly retryMs: number
}

/** As much of a logger as this file needs. */
export interface ReloadLog {
  info(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** A running watch on policies. */
export interface PolicyReload {
  /** Reads them now, whether they have changed or not. Never rejects. */
  reload(): Promise<ReloadResult>
  /** null when the newest policies are the ones that serve. */
  pending(): PendingPolicy | null
  /** The release that serves; null = policies of a folder. */
  release(): PolicyRelease | null
  /** Ends the watch and a build under way. */
  close(): Promise<void>
}

const PACE: ReloadPace = { pollMs: 500, quietMs: 200, retryMs: 10_000 }
/** What never comes to rest is not read for ever. */
const MAX_ROUNDS = 25
const MAX_ERROR_CHARACTERS = 300
const MAX_LOGGED_CHARACTERS = 8000
/** Looking takes at most about a twentieth of the time. */
const REST_FACTOR = 20

const REFUSED = 'the changed policies cannot be put in force: the last good ones stay'

/** Starts to watch. */
export function createPolicyReload(options: PolicyReloadOptions): PolicyReload {
  const { look, room, log, clock } = options
  const pace = { ...PACE, ...options.pace }
  const closing = new AbortController()
  let { seen, release } = options
  let pending: PendingPolicy | null = null
  let retryAt = Number.POSITIVE_INFINITY
  let tail: Promise<unknown> = Promise.resolve()
  let queued: Promise<ReloadResult> | null = null
  let isReading = false

  async function attempt(): Promise<ReloadResult> {
    try {
      const read = await readAtRest(options, pace.quietMs, closing.signal)
      seen = read.seen
      if (read.built instanceof Failure) throw read.built.cause
      const result = await putInForce(read.built, options, { release, pending })
      release = read.built.release
      if (read.built.refused !== null) throw read.built.refused
      pending = null
      retryAt = Number.POSITIVE_INFINITY
      return result
    } catch (error) {
      if (!closing.signal.aborted) fail(error)
      return 'failed'
    }
  }

  function fail(error: unknown): void {
    const before = pending
    pending = { error: tell(error), failed_since: before?.failed_since ?? iso(clock.nowMs()) }
    retryAt = needsAuthor(error) ? Number.POSITIVE_INFINITY : clock.monotonicMs() + pace.retryMs
    if (before?.error === pending.error) return
    log.error({ ...labels(room.revision), ...pending, problems: problemsOf(error) }, REFUSED)
  }

  /** One at a time; all who ask while one is running share the next. */
  function reload(): Promise<ReloadResult> {
    if (queued !== null) return queued
    const done = tail.then(async () => {
      queued = null
      isReading = true
      const result = await attempt()
      isReading = false
      if (!closing.signal.aborted) options.onResult(result)
      return result
    })
    queued = done
    tail = done
    return done
  }

  const poll = createPoll(async () => {
    const from = clock.monotonicMs()
    const now = await look()
    const rest = (clock.monotonicMs() - from) * REST_FACTOR
    // What changes during a reading that was asked for is seen at the next look.
    if (!isReading && (now !== seen || clock.monotonicMs() >= retryAt)) await reload()
    return pace.pollMs + rest
  }, pace.pollMs)
  return {
    reload,
    pending: () => pending,
    release: () => release,
    async close() {
      closing.abort(new Error('the gateway stops'))
      await poll.close()
      await tail
    },
  }
}

/** Rejects when the policy could not be stored, loaded or remembered; what was loaded serves then, and is remembered at the next try. */
async function putInForce(
  read: ReadPolicy,
  { room, store, accept, log }: PolicyReloadOptions,
  before: { readonly release: PolicyRelease | null; readonly pending: PendingPolicy | null },
): Promise<ReloadResult> {
  const served = { ...labels(room.revision), sequence: before.release?.sequence }
  const { policy, release, refused } = read
  const isServing = policy.digest === room.revision.digest && policy.revision === room.revision.revision
  if (!isServing) {
    await store(policy)
    await room.replace(policy)
  }
  await accept(read)
  if (isServing && release?.sequence === before.release?.sequence) {
    if (before.pending !== null && refused === null)
      log.info(served, 'the policies are again those that serve')
    return 'unchanged'
  }
  log.info({ ...labels(policy), sequence: release?.sequence, before: served }, 'new policies are in force')
  return 'replaced'
}

/** Repeats `work`, after as many ms as it says each time. */
function createPoll(work: () => Promise<number>, firstMs: number): { close(): Promise<void> } {
  let isClosed = false
  let running: Promise<void> = Promise.resolve()
  let timer: NodeJS.Timeout
  const schedule = (ms: number): void => {
    if (!isClosed) timer = setTimeout(() => void run(), ms).unref()
  }
  const run = (): Promise<void> => {
    running = work().then(schedule)
    return running
  }
  schedule(firstMs)
  return {
    close() {
      isClosed = true
      clearTimeout(timer)
      return running
    },
  }
}

/** What was read when it was at rest: the policy, or why there is none. */
interface ReadAtRest {
  readonly seen: string
  readonly built: ReadPolicy | Failure
}

/**
 * What was read counts only if it is afterwards as it was before: no policy is made of two states of a folder. Throws
 * RestlessPolicies when it does not come to rest.
 */
async function readAtRest(
  { look, read }: Pick<PolicyReloadOptions, 'look' | 'read'>,
  quietMs: number,
  signal: AbortSignal,
): Promise<ReadAtRest> {
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const seen = await quiet(look, quietMs, signal)
    const built = await read(signal).catch(toFailure)
    if ((await look()) === seen) return { seen, built }
  }
  throw new RestlessPolicies()
}

/** Waits until nothing has changed for `quietMs`. */
async function quiet(
  look: PolicyReloadOptions['look'],
  quietMs: number,
  signal: AbortSignal,
): Promise<string> {
  let last = await look()
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    await sleep(quietMs, undefined, { signal })
    const next = await look()
    if (next === last) return next
    last = next
  }
  throw new RestlessPolicies()
}

class Failure {
  readonly cause: unknown
  constructor(cause: unknown) {
    this.cause = cause
  }
}

class RestlessPolicies extends Error {
  constructor() {
    super('the policies keep changing; they are not read until they are quiet')
    this.name = 'RestlessPolicies'
  }
}

function toFailure(cause: unknown): Failure {
  return new Failure(cause)
}

/** Trying again is of no use until the policies have changed. Files that could not be read may be readable later. */
function needsAuthor(error: unknown): boolean {
  if (error instanceof PolicyFault || error instanceof BundleRefused) return true
  return error instanceof PolicyBuildError && error.errors.some(({ code }) => code !== 'source_error')
}

const OURS = [PolicyBuildError, BundleRefused, PolicyFault, RestlessPolicies]

/** The text for readiness. What other faults say (addresses, paths) is for the log alone. */
function tell(error: unknown): string {
  const text =
    OURS.some((kind) => error instanceof kind) && error instanceof Error
      ? error.message
      : 'they could not be built, stored or loaded; the log says why'
  return cut(text.replace(/\p{Cc}+/gu, ' '), MAX_ERROR_CHARACTERS)
}

function problemsOf(error: unknown): string {
  if (error instanceof PolicyBuildError) return cut(error.format(), MAX_LOGGED_CHARACTERS)
  return cut(error instanceof Error ? error.message : String(error), MAX_LOGGED_CHARACTERS)
}

function cut(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters)}…`
}

function labels({ revision, digest }: { readonly revision: string; readonly digest: string }): object {
  return { policy_revision: revision, policy_digest: digest }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
