/**
 * The door of the policy room: decides calls on the policy that is in force. Whatever goes wrong is a denial that says why.
 *
 * One instance per process, synchronous: its budgets (`host.ts`) bound how long one caller can hold up the others.
 */
import { createHmac } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Call, Evaluation, PolicyRevision, Target, TargetVerdict } from '../gateway/types.ts'
import { storedJson } from '../json/stored-text.ts'
import type { CompiledPolicy } from './build.ts'
import type { Decision, Verdict } from './decision.ts'
import { MalformedDecision, parseDecision, parseVerdicts } from './decision.ts'
import type { Dictionary } from './dictionary.ts'
import type { HostLimits, HostRun, PolicyHost, ProbeListener } from './host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from './host.ts'
import { PolicyFault, toPolicyFault } from './host-fault.ts'
import type { PolicyInput } from './input.ts'
import { nameAsSeen, targetBytes, toPolicyInput } from './input.ts'
import { isMaskRule, NO_MASKS } from './mask.ts'
import type { TraceReader } from './trace.ts'
import { createTraceReader } from './trace.ts'
import type { RenderedTrace, TraceBounds } from './trace-render.ts'
import { DEFAULT_TRACE_BOUNDS } from './trace-render.ts'

/** Budgets of the room. */
export interface PolicyLimits extends HostLimits {
  /** Largest input, in bytes; a larger one is a denial. */
  readonly maxInputBytes: number
  /** Most targets of one evaluation of a list. */
  readonly maxTargets: number
  readonly trace: TraceBounds
}

/** 256 KiB of input, about 50 ms, 16 MiB; traces of 64 KiB. */
export const DEFAULT_POLICY_LIMITS: PolicyLimits = {
  ...DEFAULT_HOST_LIMITS,
  maxInputBytes: 262_144,
  maxTargets: 128,
  trace: DEFAULT_TRACE_BOUNDS,
}

/** Where the room tells what no row tells. */
export interface PolicyLog {
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** What {@link createPolicyRoom} needs. */
export interface PolicyRoomOptions {
  readonly policy: CompiledPolicy
  /** Key of the inputs' digests (HMAC-SHA-256). */
  readonly inputMacKey: Buffer
  /** Wall clock, nanoseconds since the epoch. */
  readonly now: () => bigint
  /** Monotonic clock, milliseconds. */
  readonly monotonicMs: () => number
  /** What differs from {@link DEFAULT_POLICY_LIMITS}. */
  readonly limits?: Partial<PolicyLimits>
  readonly log: PolicyLog
  /** Told of every event of every evaluation, for coverage. */
  readonly onProbe?: ProbeListener | undefined
}

/** `Rooms.policy` of the spine, and the exchange of the policy in force. */
export interface PolicyRoom {
  /** Evaluates `data.gateway.decision`. Never throws: trouble is a denial with `failure` set. */
  decide(call: Call): Evaluation
  /** Evaluates `data.gateway.visible`, all on one revision, in the order given. Never rejects: trouble is a denial. */
  visible(call: Call, targets: readonly Target[]): Promise<readonly TargetVerdict[]>
  readonly revision: PolicyRevision
  /** Whether it has `mask` rules: then nobody knows what to mask in a call that it was not asked about. */
  readonly hasMasks: boolean
  /**
   * Puts another policy in force, between two evaluations. Rejects with a PolicyFault when it cannot be loaded; the one in
   * force then stays.
   */
  replace(policy: CompiledPolicy): Promise<void>
  /** From now on everything is denied. */
  close(): void
}

const DECISION = 'gateway/decision'
const VISIBLE = 'gateway/visible'
const EMPTY_TRACE = { text: storedJson({ v: 1, truncated: false, dropped: 0, rules: [] }), values: '' }
const BROKEN_TRACE = { text: storedJson({ v: 1, truncated: true, dropped: 1, rules: [] }), values: '' }

/** A policy that is loaded. */
interface Loaded {
  readonly host: PolicyHost
  readonly trace: TraceReader
  readonly revision: PolicyRevision
  readonly hasMasks: boolean
  readonly dictionary: Dictionary
}

/**
 * Loads a policy and makes the room.
 * @throws PolicyFault when the policy cannot be loaded
 */
export async function createPolicyRoom(options: PolicyRoomOptions): Promise<PolicyRoom> {
  const limits = { ...DEFAULT_POLICY_LIMITS, ...options.limits }
  return new Room(options, limits, await load(options.policy, limits, options.onProbe))
}

async function load(
  policy: CompiledPolicy,
  limits: PolicyLimits,
  onProbe: ProbeListener | undefined,
): Promise<Loaded> {
  const trace = createTraceReader(policy.dictionary, policy.data)
  const dataText = JSON.stringify(policy.data)
  const host = await createHost({
    wasm: policy.wasm,
    dataText,
    knowsProbe: trace.knows,
    hidesProbe: trace.hides,
    onProbe,
    limits,
  })
  const missing = [DECISION, VISIBLE].filter((entrypoint) => !host.entrypoints.includes(entrypoint))
  if (missing.length > 0) {
    throw new PolicyFault('error', `the policy module has no entrypoint ${missing.join(', ')}`)
  }
  const { revision, digest, opa } = policy
  const { dictionary } = policy
  const hasMasks = dictionary.rules.some(({ path }) => isMaskRule(path))
  return { host, trace, revision: { revision, digest, opa }, dictionary, hasMasks }
}

type Failure = NonNullable<Evaluation['failure']>

class Room implements PolicyRoom {
  private readonly options: PolicyRoomOptions
  private readonly limits: PolicyLimits
  private loaded: Loaded
  private closed = false
  private readonly warned = new WeakSet<Loaded>()
  /** Exchanges happen one after the other, in the order they were asked for. */
  private exchange: Promise<void> = Promise.resolve()

  constructor(options: PolicyRoomOptions, limits: PolicyLimits, loaded: Loaded) {
    this.options = options
    this.limits = limits
    this.loaded = loaded
  }

  get revision(): PolicyRevision {
    return this.loaded.revision
  }

  get hasMasks(): boolean {
    return this.loaded.hasMasks
  }

  decide(call: Call): Evaluation {
    const { loaded } = this
    const nowNs = this.options.now()
    let input: PolicyInput | null = null
    let run: HostRun | null = null
    let startedMs = this.options.monotonicMs()
    try {
      this.refuseWhenClosed()
      input = toPolicyInput(call, { phase: 'call' }, { nowNs, maxBytes: this.limits.maxInputBytes })
      if (input.fault !== null) throw input.fault
      startedMs = this.options.monotonicMs()
      run = this.run(loaded, DECISION, input, nowNs, true)
      const decision = parseDecision(resultOf(run))
      this.warnOfMasks(loaded, decision)
      return this.evaluation(loaded, { nowNs, input, run, startedMs, decision, failure: null })
    } catch (thrown) {
      const failure = toFailure(thrown)
      return this.evaluation(loaded, { nowNs, input, run, startedMs, decision: null, failure })
    }
  }

  async visible(call: Call, targets: readonly Target[]): Promise<readonly TargetVerdict[]> {
    const { loaded } = this
    const nowNs = this.options.now()
    const verdicts: TargetVerdict[] = []
    for (const chunk of this.chunks(targets)) {
      if (verdicts.length > 0) await setImmediate() // a long list must not hold up other calls
      verdicts.push(...this.judge(loaded, call, chunk, nowNs))
    }
    return verdicts
  }

  replace(policy: CompiledPolicy): Promise<void> {
    const replaced = this.exchange.then(async () => {
      this.loaded = await load(policy, this.limits, this.options.onProbe)
    })
    this.exchange = replaced.catch(() => undefined)
    return replaced
  }

  close(): void {
    this.closed = true
  }

  /** Once per policy: each row says it for itself. */
  private warnOfMasks(loaded: Loaded, { maskFailure }: Decision): void {
    if (maskFailure === null || this.warned.has(loaded)) return
    this.warned.add(loaded)
    const fields = { revision: loaded.revision.revision, detail: maskFailure }
    this.options.log.warn(fields, 'a mask of the policy is malformed: rows go without payloads')
  }

  private refuseWhenClosed(): void {
    if (this.closed) throw new PolicyFault('error', 'the policy room is closed')
  }

  private run(
    loaded: Loaded,
    entrypoint: string,
    input: PolicyInput,
    nowNs: bigint,
    record: boolean,
  ): HostRun {
    return loaded.host.evaluate({ entrypoint, input: input.bytes, nowNs, record })
  }

  /** Targets in their order, in groups that one evaluation can take. */
  private *chunks(targets: readonly Target[]): Generator<readonly Target[]> {
    const room = this.limits.maxInputBytes / 2
    let chunk: Target[] = []
    let bytes = 0
    for (const target of targets) {
      const size = targetBytes(target)
      if (chunk.length === this.limits.maxTargets || (chunk.length > 0 && bytes + size > room)) {
        yield chunk
        chunk = []
        bytes = 0
      }
      chunk.push(target)
      bytes += size
    }
    if (chunk.length > 0) yield chunk
  }

  private judge(
    loaded: Loaded,
    call: Call,
    targets: readonly Target[],
    nowNs: bigint,
  ): readonly TargetVerdict[] {
    try {
      this.refuseWhenClosed()
      const subject = { phase: 'list', targets } as const
      const input = toPolicyInput(call, subject, { nowNs, maxBytes: this.limits.maxInputBytes })
      if (input.fault !== null) throw input.fault
      const verdicts = parseVerdicts(
        resultOf(this.run(loaded, VISIBLE, input, nowNs, false)),
        targets.map(nameAsSeen),
      )
      return targets.map(({ name }, index) => ({ name, ...(verdicts[index] ?? DENIED) }))
    } catch (thrown) {
      const { kind, message } = toFailure(thrown)
      const { requestId } = call
      this.options.log.warn(
        { requestId, kind, detail: message, targets: targets.length },
        'list elements denied',
      )
      return targets.map(({ name }) => ({
        name,
        allow: false,
        allowedBy: [],
        deniedBy: [kind.replace('_', '-')],
      }))
    }
  }

  private evaluation(loaded: Loaded, made: Made): Evaluation {
    const { input, run } = made
    const decision = made.decision ?? (loaded.hasMasks ? UNKNOWN_MASKS : NOTHING)
    let rendered: RenderedTrace | null = null
    const render = (): RenderedTrace => {
      rendered ??= input === null || run === null ? EMPTY_TRACE : this.renderTrace(loaded, input, run)
      return rendered
    }
    return {
      ...decision,
      failure: made.failure,
      policy: { ...loaded.revision, entrypoint: DECISION },
      nowNs: String(made.nowNs),
      evalUs: Math.max(0, (this.options.monotonicMs() - made.startedMs) * 1000),
      fuel: run?.fuel ?? 0,
      inputText: input?.headText ?? '{}',
      inputMac: this.mac(input?.bytes ?? new Uint8Array()),
      traceText: () => render().text,
      traceParts: () => ({ values: render().values, words: loaded.trace.words }),
      traceDictionary: loaded.dictionary,
    }
  }

  private renderTrace(loaded: Loaded, input: PolicyInput, run: HostRun): RenderedTrace {
    try {
      return loaded.trace.render(run.recording(), input, this.limits.trace)
    } catch (error) {
      // The decision stands without its trace; the row says that something is missing.
      this.options.log.error({ err: error }, 'the trace of an evaluation could not be read')
      return BROKEN_TRACE
    }
  }

  private mac(bytes: Uint8Array): string {
    return createHmac('sha256', this.options.inputMacKey).update(bytes).digest('hex')
  }
}

/** What is known of an evaluation when it is over. */
interface Made {
  readonly nowNs: bigint
  readonly input: PolicyInput | null
  readonly run: HostRun | null
  readonly startedMs: number
  readonly decision: Decision | null
  readonly failure: Failure | null
}

const DENIED: Verdict = { allow: false, allowedBy: [], deniedBy: [] }
const NOTHING: Decision = { ...DENIED, limits: [], obligations: [], ...NO_MASKS }
const UNKNOWN_MASKS: Decision = { ...NOTHING, maskFailure: 'mask is not known without a decision' }

/** @throws PolicyFault when there is no value */
function resultOf(run: HostRun): unknown {
  if (run.fault !== null) throw run.fault
  if (run.result === undefined) throw new PolicyFault('error', 'the decision is undefined')
  return run.result
}

function toFailure(thrown: unknown): Failure {
  if (thrown instanceof MalformedDecision) return { kind: 'policy_malformed', message: thrown.message }
  const fault = toPolicyFault(thrown)
  return { kind: fault.kind === 'error' ? 'policy_error' : 'policy_budget', message: fault.message }
}
