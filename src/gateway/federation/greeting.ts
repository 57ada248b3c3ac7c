/** `initialize` and `server/discover` of the merged mount: what all upstreams that a caller may see offer together. */
import type { CallSignal } from '../../call-signal.ts'
import { GatewayError } from '../../errors.ts'
import type { Rooms } from '../call.ts'
import type { Call, CallPart, Message, UpstreamAnswer } from '../types.ts'
import type { Asking } from './asking.ts'
import { orAborted, ownAnswer, quietSink } from './asking.ts'
import { openingOf, toSessionId, withSessions } from './opening.ts'
import type { Profile } from './profile.ts'
import { mergedCapabilities, mergedInstructions, parseProfile } from './profile.ts'
import type { UpstreamSessions } from './sessions.ts'

/** What the merged mount says of itself. */
export interface Greeting {
  /** Answers `initialize`, with a session id of the merged mount. */
  initialize(call: Call, signal: CallSignal): Promise<UpstreamAnswer>
  /**
   * Answers `server/discover`.
   * @throws GatewayError `unsupported_version` when an upstream knows sessions only: a client that can do both then opens one
   */
  discover(call: Call, signal: CallSignal): Promise<UpstreamAnswer>
}

/** What it is made with. */
export interface GreetingOptions {
  readonly rooms: Pick<Rooms, 'upstreams'>
  readonly sessions: UpstreamSessions
  readonly asking: Asking
  /** Version of the gateway. */
  readonly version: string
}

const MODERN_VERSION = '2026-07-28'
const LEGACY_VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26']

/** Makes it. It remembers what each upstream last said of itself. */
export function createGreeting({ rooms, sessions, asking, version }: GreetingOptions): Greeting {
  /** Upstream -> what it last said of itself. One that is away now is taken to come back with the same. */
  const remembered = new Map<string, Profile>()
  const serverInfo = { name: 'mcp-policy-gateway', version }

  /** What the upstreams of these parts offer, as far as it is known. */
  function known(parts: readonly CallPart[]): ReadonlyMap<string, Profile> {
    return new Map(
      parts.flatMap(({ call: { head } }) => {
        const profile = remembered.get(head.mount)
        return profile === undefined ? [] : [[head.mount, profile] as const]
      }),
    )
  }

  function offered(parts: readonly CallPart[]) {
    const profiles = known(parts)
    const instructions = mergedInstructions(profiles)
    return {
      // An upstream that nobody has heard of yet may come with anything: tools are what clients ask for.
      capabilities: mergedCapabilities(
        profiles.size < parts.length ? [...profiles.values(), TOOLS] : [...profiles.values()],
      ),
      serverInfo,
      ...(instructions === null ? {} : { instructions }),
    }
  }

  return {
    async initialize(call, signal) {
      const message = call.message as Message
      const opening = openingOf(message, call.id)
      const parts = shared(call)
      await asking.askAll(parts, signal, async (part, within) => {
        const { profile } = await orAborted(sessions.open(opening, part.call), within)
        if (profile !== null) remembered.set(part.call.head.mount, profile)
      })
      const refusals = parts.map(({ refusal }) => refusal)
      const [first] = refusals
      if (first && refusals.every((refusal) => refusal?.kind === 'unsupported_version')) throw first
      const { protocolVersion } = opening
      const result = { protocolVersion, ...offered(parts) }
      const sessionId = toSessionId(withSessions(opening, sessions.shareable(opening)))
      return ownAnswer(message.idText, JSON.stringify(result), { sessionId })
    },

    async discover(call, signal) {
      const message = call.message as Message
      const parts = shared(call)
      await asking.askAll(parts, signal, async ({ call: own }, within) => {
        const answer = await asking.ask(own, quietSink(rooms, own), within)
        own.upstream = answer.report
        const profile = parseProfile(answer)
        if (profile === null) throw new GatewayError('unsupported_version', SESSIONS_ONLY)
        remembered.set(own.head.mount, profile)
      })
      const legacy = parts.find(({ refusal }) => refusal?.kind === 'unsupported_version')
      if (legacy?.refusal) throw legacy.refusal
      const cached = { resultType: 'complete', ttlMs: 0, cacheScope: 'private' }
      const result = { ...cached, supportedVersions: [MODERN_VERSION], ...offered(parts) }
      return ownAnswer(message.idText, JSON.stringify(result))
    },
  }
}

const TOOLS = { capabilities: { tools: {} } }

const SESSIONS_ONLY = {
  detail: 'it knows the revisions with sessions only',
  data: { supported: LEGACY_VERSIONS, requested: MODERN_VERSION },
}

/** The parts that were not refused. */
function shared(call: Call): readonly CallPart[] {
  return (call.parts ?? []).filter(({ refusal }) => refusal === null)
}
