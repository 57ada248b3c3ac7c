/** The door of authentication: credential -> principal, or one and the same 401 whatever is wrong with it. */
import type { Pool } from 'pg'
import { GatewayError } from '../errors.ts'
import type { Rooms } from '../gateway/call.ts'
import type { Credential, Principal } from '../gateway/types.ts'
import { KEYS_TOPIC } from './key-store.ts'
import type { PresentedKey } from './key-text.ts'
import { parseKey } from './key-text.ts'
import type { Verdict } from './keyring.ts'
import { createKeyring } from './keyring.ts'
import type { ThrottledWindow } from './throttle.ts'
import { createThrottle } from './throttle.ts'

/** What the room needs of the change feed. */
export interface KeyChanges {
  onChange(topic: string, handler: (subjects: readonly string[] | 'all') => Promise<void>): void
  /** By the room's monotonic clock. */
  confirmedAt(): number
  refresh(): Promise<void>
}

/** What {@link createAuthRoom} needs. */
export interface AuthRoomOptions {
  readonly db: Pick<Pool, 'query'>
  readonly changes: KeyChanges
  readonly clock: { nowMs(): number; monotonicMs(): number }
  /** Who a request without a credential is; null = refused. Only ever set for development. */
  readonly anonymous: { readonly roles: readonly string[] } | null
  /** When the feed has confirmed nothing for this long, keys are looked up in the database, call by call. */
  readonly maxStaleMs: number
  readonly throttle: {
    readonly maxFailures: number
    readonly windowMs: number
    readonly maxAddresses: number
  }
  /** An address was throttled in a window that has ended: the one row for all of its refused attempts. Must not throw. */
  readonly onThrottledWindow: (window: ThrottledWindow) => void
}

/** The room: what the spine needs, and what streams and shutdown need. */
export interface AuthRoom {
  readonly authenticate: Rooms['auth']['authenticate']
  /** Whether someone let in before would be let in now, as far as this process knows. For streams that stay open. */
  isLive(principal: Principal): boolean
  /** Reports the throttled windows that are still open. */
  close(): void
}

/** Keys made a moment ago by another process are asked for at most this often, however many unknown ones come in. */
const REFRESH_EVERY_MS = 100

/** Adds its handler to the change feed, by which the keys are loaded: await `changes.refresh()` before serving. */
export function createAuthRoom(options: AuthRoomOptions): AuthRoom {
  const { clock } = options
  const keyring = createKeyring(options.db)
  const throttle = createThrottle({
    ...options.throttle,
    nowMs: clock.nowMs,
    onWindow: options.onThrottledWindow,
  })
  const refresh = createSpacedRefresh(options)
  const anonymous = options.anonymous === null ? null : toAnonymous(options.anonymous.roles)
  options.changes.onChange(KEYS_TOPIC, (ids) => keyring.load(ids))

  function isStale(): boolean {
    return clock.monotonicMs() - options.changes.confirmedAt() > options.maxStaleMs
  }

  function authenticate(credential: Credential | null, clientIp: string): Principal | Promise<Principal> {
    if (credential === null && anonymous !== null) return anonymous
    const presented = present(credential, clientIp)
    const verdict = keyring.verify(presented, clock.nowMs())
    if (verdict.kind === 'valid' && !isStale()) return verdict.principal
    // From an address that keeps failing, nothing that costs more than a look into memory, unless memory knows the key.
    if (verdict.kind !== 'valid' && throttle.retryAfterSeconds(clientIp) !== null) {
      throw refusal(clientIp, describe(verdict, presented))
    }
    return confirm(presented, verdict, clientIp)
  }

  function present(credential: Credential | null, clientIp: string): PresentedKey {
    if (credential === null) throw refusal(clientIp, 'no credential')
    const presented = parseKey(credential.secret)
    if (presented === null) throw refusal(clientIp, 'credential is not of the form of a key')
    return presented
  }

  /** Asks the database where memory cannot know: it may be behind, or has not heard of a new key or secret yet. */
  async function confirm(presented: PresentedKey, known: Verdict, clientIp: string): Promise<Principal> {
    const verdict = await latest(presented, known).catch((cause: unknown) => {
      throw new GatewayError('auth_unavailable', { cause, detail: 'keys cannot be read from the database' })
    })
    if (verdict.kind === 'valid') return verdict.principal
    throw refusal(clientIp, describe(verdict, presented))
  }

  async function latest(presented: PresentedKey, known: Verdict): Promise<Verdict> {
    if (isStale()) return await keyring.verifyInDatabase(presented, clock.nowMs)
    // Ended keys stay ended: there is nothing to ask.
    if (known.kind === 'revoked' || known.kind === 'expired') return known
    await refresh()
    return keyring.verify(presented, clock.nowMs())
  }

  /** What the caller is told is the same for every problem. The throttle counts here, and takes over at its limit. */
  function refusal(clientIp: string, problem: string): GatewayError {
    const retryAfterSeconds = throttle.retryAfterSeconds(clientIp)
    if (retryAfterSeconds !== null) {
      throttle.recordRefusal(clientIp)
      return new GatewayError('address_throttled', { detail: problem, data: { retryAfterSeconds } })
    }
    throttle.recordFailure(clientIp)
    return new GatewayError('unauthenticated', { detail: problem })
  }

  return {
    // A valid key from a throttled address is let in: behind one address there may be a whole company.
    authenticate,
    isLive(principal) {
      if (principal.apiKeyId === null) return anonymous !== null
      return keyring.isLive(principal.apiKeyId, clock.nowMs())
    },
    close: () => throttle.close(),
  }
}

/** Refreshes at most every {@link REFRESH_EVERY_MS}; who comes in between waits for the next one and shares it. */
function createSpacedRefresh({ clock, changes }: AuthRoomOptions): () => Promise<void> {
  let startedAt = Number.NEGATIVE_INFINITY
  let next: Promise<void> | null = null
  return () => {
    next ??= wait(startedAt + REFRESH_EVERY_MS - clock.monotonicMs()).then(async () => {
      next = null
      startedAt = clock.monotonicMs()
      await changes.refresh()
    })
    return next
  }
}

async function wait(ms: number): Promise<void> {
  if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms))
}

function describe(verdict: Verdict, presented: PresentedKey): string {
  switch (verdict.kind) {
    case 'unknown':
      return `no key ${presented.id}`
    case 'wrong_secret':
      return `wrong secret for key ${presented.id}`
    case 'revoked':
      return `key ${presented.id} is revoked`
    case 'expired':
      return `key ${presented.id} has expired`
    case 'valid':
      return `key ${presented.id} is valid`
    default:
      throw new Error(`unknown verdict ${JSON.stringify(verdict satisfies never)}`)
  }
}

function toAnonymous(roles: readonly string[]): Principal {
  return Object.freeze({
    id: 'anonymous',
    kind: 'anonymous',
    roles: [...roles],
    tenant: null,
    teams: [],
    scopes: [],
    claims: {},
    authMethod: 'none',
    apiKeyId: null,
  })
}
