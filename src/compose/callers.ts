/** What is decided about callers besides the policy: credentials, kill switches, limits. */
import { countKeys } from '../auth/key-store.ts'
import type { AuthRoom } from '../auth/room.ts'
import { createAuthRoom } from '../auth/room.ts'
import type { Config } from '../config/types.ts'
import type { ChangeFeed } from '../db/change-feed.ts'
import type { Pools } from '../db/pools.ts'
import { UsageError } from '../errors.ts'
import type { Rooms } from '../gateway/call.ts'
import { recordThrottledWindow } from '../gateway/throttled.ts'
import type { KillRoom } from '../kill/room.ts'
import { createKillRoom } from '../kill/room.ts'
import { createPrincipalCaps } from '../rate/caps.ts'
import { createRateGate } from '../rate/gate.ts'
import { createLimiter } from '../rate/room.ts'
import type { Building, Ground, Recording } from './building.ts'

const MAX_THROTTLED_ADDRESSES = 100_000

/** Credentials to principals. */
export function openAuth(
  { config, own }: Building,
  ground: Ground,
  pools: Pools,
  feed: ChangeFeed,
  recording: Recording,
): AuthRoom {
  const { throttle, maxStaleS, anonymous } = config.auth
  const pending = new Set<Promise<void>>()
  const room = createAuthRoom({
    db: pools.keys,
    changes: feed,
    clock: ground.clock,
    anonymous: anonymous ? { roles: ['admin'] } : null,
    maxStaleMs: maxStaleS * 1000,
    throttle: {
      maxFailures: throttle.maxFailures,
      windowMs: throttle.windowS * 1000,
      maxAddresses: MAX_THROTTLED_ADDRESSES,
    },
    onThrottledWindow: (window) => {
      const row = recordThrottledWindow(recording, window).finally(() => pending.delete(row))
      pending.add(row)
    },
  })
  return own(room, async (opened) => {
    opened.close()
    await Promise.all(pending)
  })
}

/** Kill switches. */
export function openKills(config: Config, ground: Ground, pools: Pools, feed: ChangeFeed): KillRoom {
  return createKillRoom({
    db: pools.keys,
    changes: feed,
    monotonicMs: ground.clock.monotonicMs,
    maxStaleMs: config.auth.maxStaleS * 1000,
  })
}

/** Without a key nobody could be let in, and a gateway that lets everybody in by mistake must not start. */
export async function refuseWithoutCredentials(config: Config, pools: Pools): Promise<void> {
  if (config.auth.anonymous || (await countKeys(pools.general)) > 0) return
  throw new UsageError(
    'config',
    'There is no API key yet, so nobody could use the gateway. Make one with `gateway keys create --name NAME --role ROLE`, or start with --dev on a loopback address.',
  )
}

/** Limits are counted in the database for all gateways; the caps on one principal in the memory of each. */
export function openRate({ config, options, own }: Building, { clock }: Ground, pools: Pools): Rooms['rate'] {
  const limiter = own(createLimiter({ pool: pools.limits, clock, log: options.log }), (opened) =>
    opened.close(),
  )
  // Opens the first connection before the first call needs it.
  void limiter.sweep()
  const { principalMaxInFlight, principalMaxDenialsPerMinute } = config.limits
  const caps = createPrincipalCaps({
    limits: {
      maxInFlight: principalMaxInFlight ?? Number.POSITIVE_INFINITY,
      maxDenialsPerMinute: principalMaxDenialsPerMinute ?? Number.POSITIVE_INFINITY,
    },
    monotonicMs: clock.monotonicMs,
  })
  return createRateGate(limiter, caps)
}
