/**
 * Puts changed policies in force while calls go on. All or nothing: a folder that changes while it is read is read again,
 * a policy that does not check, cannot be stored or cannot be loaded leaves the last good one serving and says so.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { CompiledPolicy } from './build.ts'
import { PolicyBuildError } from './build-error.ts'
import type { PolicyRoom } from './engine.ts'
import { PolicyFault } from './host-fault.ts'
import { fingerprintFolder } from './reload-folder.ts'

/** How a reload ended. `unchanged`: what the folder holds is what serves. */
export type ReloadResult = 'replaced' | 'unchanged' | 'failed'

/** Policies that are waiting for somebody to mend them. Safe for everybody who may see readiness. */
export interface PendingPolicy {
  /** One line: where and what. */
  readonly error: string
  /** When the folder and what serves came apart, RFC 3339. */
  readonly failed_since: string
}

/** What {@link createPolicyReload} needs. */
export interface PolicyReloadOptions {
  readonly folder: string
  /** The folder as it was before the serving policy was read from it; see `reload-folder.ts`. */
  readonly seen: string
  /** Builds the folder. Rejects with PolicyBuildError for what authors can mend. */
  readonly build: (signal: AbortSignal) => Promise<CompiledPolicy>
  /** Keeps sources and dictionary for the audit log, before a call can be decided by them. */
  readonly store: (policy: CompiledPolicy) => Promise<void>
  readonly room: Pick<PolicyRoom, 'revision' | 'replace'>
  /** Told how each reload ended. Must not throw. */
  readonly onResult: (result: ReloadResult) => void
  readonly log: ReloadLog
  /** Wall clock, ms since the epoch. */
  readonly nowMs: () => number
  readonly pace?: Partial<ReloadPace>
}

/** Times, ms. */
export interface ReloadPace {
  /** Between two looks at the folder. Large folders are looked at less often. */
  readonly pollMs: number
  /** A folder that has changed must have been quiet for so long before it is read. */
  readonly quietMs: number
  /** After a failure that no author has to mend (the database was away), it is tried again. */
  readonly retryMs: number
}

/** As much of a logger as this file needs. */
export interface ReloadLog {
  info(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** A running watch on a policies folder. */
export interface PolicyReload {
  /** Reads the folder now, whether it has changed or not. Never rejects. */
  reload(): Promise<ReloadResult>
  /** null when the policies in the folder are the ones that serve. */
  pending(): PendingPolicy | null
  /** Ends the watch and a build under way. */
  close(): Promise<void>
}

const PACE: ReloadPace = { pollMs: 1000, quietMs: 200, retryMs: 10_000 }
/** A folder that never comes to rest is not read for ever. */
const MAX_ROUNDS = 25
const MAX_ERROR_CHARACTERS = 300
const MAX_LOGGED_CHARACTERS = 8000
/** Looking takes at most about a twentieth of the time. */
const REST_FACTOR = 20

/** Starts to watch. */
export function createPolicyReload(options: PolicyReloadOptions): PolicyReload {
  const { folder, room, log } = options
  const pace = { ...PACE, ...options.pace }
  const closing = new AbortController()
  let { seen } = options
  let pending: PendingPolicy | null = null
  let retryAt = Number.POSITIVE_INFINITY
  let tail: Promise<unknown> = Promise.resolve()
  let timer: NodeJS.Timeout | null = null

  async function attempt(): Promise<ReloadResult> {
    try {
      const result = await putInForce(await readAtRest())
      pending = null
      retryAt = Number.POSITIVE_INFINITY
      return result
    } catch (error) {
      if (!closing.signal.aborted) fail(error)
      return 'failed'
    }
  }

  /** What was built counts only if the folder is afterwards as it was before: no policy is made of two states of it. */
  async function readAtRest(): Promise<CompiledPolicy> {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const before = await quiet()
      const built = await options.build(closing.signal).catch(toFailure)
      seen = before
      if ((await fingerprintFolder(folder)) !== before) continue
      if (built instanceof Failure) throw built.cause
      return built
    }
    throw new RestlessFolder()
  }

  async function quiet(): Promise<string> {
    let last = await fingerprintFolder(folder)
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      await sleep(pace.quietMs, undefined, { ref: false, signal: closing.signal })
      const next = await fingerprintFolder(folder)
      if (next === last) return next
      last = next
    }
    throw new RestlessFolder()
  }

  async function putInForce(policy: CompiledPolicy): Promise<ReloadResult> {
    const before = room.revision
    if (policy.digest === before.digest && policy.revision === before.revision) {
      if (pending !== null) log.info(labels(before), 'the policies are again those that serve')
      return 'unchanged'
    }
    await options.store(policy)
    await room.replace(policy)
    log.info({ ...labels(policy), before: before.revision }, 'new policies are in force')
    return 'replaced'
  }

  function fail(error: unknown): void {
    pending = { error: tell(error), failed_since: pending?.failed_since ?? iso(options.nowMs()) }
    retryAt = needsAuthor(error) ? Number.POSITIVE_INFINITY : performance.now() + pace.retryMs
    log.error(
      { ...labels(room.revision), ...pending, problems: problemsOf(error) },
      'the changed policies cannot be put in force: the last good ones stay',
    )
  }

  function reload(): Promise<ReloadResult> {
    const done = tail.then(async () => {
      const result = await attempt()
      if (!closing.signal.aborted) options.onResult(result)
      return result
    })
    tail = done
    return done
  }

  async function look(): Promise<void> {
    const from = performance.now()
    const now = await fingerprintFolder(folder)
    const tookMs = performance.now() - from
    if (now !== seen || performance.now() >= retryAt) await reload()
    schedule(pace.pollMs + tookMs * REST_FACTOR)
  }

  function schedule(ms: number): void {
    if (closing.signal.aborted) return
    timer = setTimeout(() => void look(), ms).unref()
  }

  schedule(pace.pollMs)
  return {
    reload,
    pending: () => pending,
    async close() {
      closing.abort(new Error('the gateway stops'))
      if (timer !== null) clearTimeout(timer)
      await tail
    },
  }
}

class Failure {
  readonly cause: unknown
  constructor(cause: unknown) {
    this.cause = cause
  }
}

class RestlessFolder extends Error {
  constructor() {
    super('the policies folder keeps changing; nothing is read from it until it is quiet')
    this.name = 'RestlessFolder'
  }
}

function toFailure(cause: unknown): Failure {
  return new Failure(cause)
}

/** Trying again is of no use until the folder has changed. Files that could not be read may be readable later. */
function needsAuthor(error: unknown): boolean {
  if (error instanceof PolicyFault) return true
  return error instanceof PolicyBuildError && error.errors.some(({ code }) => code !== 'source_error')
}

/** The text for readiness. What other faults say (addresses, paths) is for the log alone. */
function tell(error: unknown): string {
  const isOurs =
    error instanceof PolicyBuildError || error instanceof PolicyFault || error instanceof RestlessFolder
  const text = isOurs ? error.message : 'they could not be built, stored or loaded; the log says why'
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
