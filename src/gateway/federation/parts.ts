/** A call that concerns every upstream: which of them the caller may have a share of, each decided on its own. */
import { setImmediate } from 'node:timers/promises'
import { GatewayError, toGatewayError } from '../../errors.ts'
import type { Rooms } from '../call.ts'
import type { KillList } from '../killed.ts'
import { refuseKilled } from '../killed.ts'
import { undecided } from '../open-call.ts'
import { asksForAnything, authorizeSubscriptions, filterOf } from '../subscriptions.ts'
import { target, targetOf } from '../targets.ts'
import type { Call, CallPart, Evaluation, Message, ServerFacts } from '../types.ts'
import { chargeLimits, refuseUnlessAllowed } from '../verdict.ts'
import { listenMessages, withoutNamed } from './listen-filter.ts'
import { MERGED } from './names.ts'

type PartRooms = Pick<Rooms, 'kills' | 'policy' | 'upstreams'>

/** Upstreams that are decided in one turn: other calls have theirs in between. */
const PARTS_AT_ONCE = 32

/**
 * Decides all parts and notes them in the call, with one evaluation that stands for them.
 * @throws GatewayError when no upstream has a share: what the first one was refused with
 */
export async function authorizeParts(rooms: PartRooms, call: Call): Promise<void> {
  const message = call.message as Message
  call.target = targetOf(message, MERGED)
  const kills = await rooms.kills.current()
  const messages = listenMessages(message)
  const parts: CallPart[] = []
  for (const facts of rooms.upstreams.all()) {
    if (parts.length % PARTS_AT_ONCE === PARTS_AT_ONCE - 1) await setImmediate()
    const part = partOf(call, facts, messages?.get(facts.name) ?? withoutNamed(message))
    parts.push(part)
    await decidePart(rooms, kills, part)
  }
  call.parts = parts
  call.evaluation = evaluationOf(parts)
  // What it names elsewhere is left out, as at one upstream.
  const isHeard = (part: CallPart): boolean =>
    part.refusal === null && asksForAnything(filterOf(part.call.message as Message))
  if (messages !== null && messages.size > 0 && !parts.some(isHeard))
    throw new GatewayError('policy_denied', { detail: 'nothing of what was subscribed to is allowed' })
  if (!parts.some(({ refusal }) => refusal === null))
    throw parts[0]?.refusal ?? new GatewayError('unknown_upstream')
}

/** The call as it is at this upstream, undecided. */
export function partOf(call: Call, facts: ServerFacts, message: Message): CallPart {
  const own: Call = {
    ...call,
    head: { ...call.head, mount: facts.name },
    server: facts,
    message,
    target: target('server', facts.name),
    ...undecided(),
  }
  return { call: own, refusal: null }
}

/** Kill switch and policy, as at the upstream's own mount; the reason why not is noted in the part. */
export async function decidePart(
  rooms: Pick<Rooms, 'policy'>,
  kills: KillList,
  part: CallPart,
): Promise<void> {
  part.refusal = null
  try {
    refuseKilled(kills.ofServer(part.call.head.mount))
    part.call.evaluation = rooms.policy.decide(part.call)
    refuseUnlessAllowed(part.call.evaluation)
    await authorizeSubscriptions(rooms, part.call)
  } catch (thrown) {
    part.refusal = toGatewayError(thrown)
  }
}

/**
 * Charges the limits of all parts. Where some do not fit, the parts that asked for them have no share, and the limits of the
 * others are charged: one upstream's limit is not another's.
 * @throws GatewayError `rate_limited` when no part is left, `limiter_unavailable`
 */
export async function chargeParts(rate: Rooms['rate'], call: Call): Promise<void> {
  try {
    await chargeLimits(rate, call)
  } catch (thrown) {
    const refused = refusedLimits(call)
    if (!(thrown instanceof GatewayError && thrown.kind === 'rate_limited')) throw thrown
    const parts = call.parts ?? []
    for (const part of parts) {
      const asked = part.call.evaluation?.limits.some((limit) => refused.has(JSON.stringify(limit))) ?? false
      if (part.refusal === null && asked) part.refusal = thrown
    }
    if (!parts.some(({ refusal }) => refusal === null)) throw thrown
    call.evaluation = evaluationOf(parts)
    await chargeLimits(rate, call)
  }
}

/** The report names limits in the order of the evaluation. */
function refusedLimits({ rate, evaluation }: Call): ReadonlySet<string> {
  const limits = evaluation?.limits ?? []
  const refused = limits.filter(
    (_, at) => rate?.limits[at]?.refused === true && rate.limits[at].mode === 'enforce',
  )
  return new Set(refused.map((limit) => JSON.stringify(limit)))
}

/**
 * What the row shows as the evaluation: the first one that allowed (else the first), with the limits of all that allowed and
 * the masks of all. The input of each other part is its input with another server.
 */
function evaluationOf(parts: readonly CallPart[]): Evaluation | null {
  const evaluations = parts.flatMap(({ call }) => call.evaluation ?? [])
  const allowed = parts.flatMap(({ call, refusal }) => (refusal === null ? (call.evaluation ?? []) : []))
  const shown = allowed[0] ?? evaluations[0]
  if (shown === undefined) return null
  return {
    ...shown,
    // What an evaluation makes when it is asked is no member of its own.
    nowNs: shown.nowNs,
    inputMac: shown.inputMac,
    traceText: () => shown.traceText(),
    traceParts: () => shown.traceParts(),
    limits: unlike(allowed.flatMap(({ limits }) => limits)),
    masks: unlike(evaluations.flatMap(({ masks }) => masks)),
    maskFailure: evaluations.find(({ maskFailure }) => maskFailure !== null)?.maskFailure ?? null,
    evalUs: evaluations.reduce((sum, { evalUs }) => sum + evalUs, 0),
    fuel: evaluations.reduce((sum, { fuel }) => sum + fuel, 0),
  }
}

/** A limit that counts by principal comes from every part, and is charged once. */
function unlike<T>(values: readonly T[]): readonly T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()]
}
