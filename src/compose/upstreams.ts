/** The upstreams, and how much each works on at once. */
import type { Config } from '../config/types.ts'
import type { UpstreamGate } from '../rate/caps.ts'
import { createUpstreamGate } from '../rate/caps.ts'
import type { Upstreams } from '../upstream/room.ts'
import { createUpstreams } from '../upstream/room.ts'
import { VERSION } from '../version.ts'
import type { Building, Ground } from './building.ts'

/** Makes the upstream room and begins to ask for tools. */
export function openUpstreams(
  { config, options, own }: Building,
  ground: Ground,
  onWait: (name: string, ms: number) => void,
): Upstreams {
  const upstreams = createUpstreams({
    upstreams: config.upstreams,
    schemas: options.schemas,
    limits: { maxStreamMs: config.limits.maxStreamS * 1000 },
    gateOf: (name) => openGate(config, ground, name),
    version: VERSION,
    clock: ground.clock,
    random: Math.random,
    log: options.log,
    onWait,
  })
  upstreams.warm()
  return own(upstreams, (opened) => opened.close())
}

/** Bounds what one upstream works on at once. */
function openGate({ upstreams, limits }: Config, { clock }: Ground, name: string): UpstreamGate | null {
  const { maxInFlight = null, maxWaitMs = 0 } = upstreams[name] ?? {}
  if (maxInFlight === null) return null
  const bounds = { maxConcurrent: maxInFlight, maxWaiting: limits.maxInFlight, maxWaitMs }
  return createUpstreamGate(bounds, clock.monotonicMs)
}
