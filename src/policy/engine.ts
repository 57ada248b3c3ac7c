/**
 * The door of the policy room: decides calls on the policy that is in force. Whatever goes wrong is a denial that says why.
 *
 * One instance per process, synchronous: its budgets (`host.ts`) bound how long one caller can hold up the others.
 */
import { createHmac } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Call, Evaluation, PolicyRevision, Target, TargetVerdict } from '../gateway/types.ts'
import type { StoredText } from '../json/stored-text.ts'
import { storedJson } from '../json/stored-text.ts'
import type { CompiledPolicy } from './build.ts'
import type { Decision, Verdict } from './decision.ts'
import { MalformedDecision, parseDecision, parseListed, parseVerdicts } from './decision.ts'
import type { Dictionary } from './dictionary.ts'
import type { HostLimits, HostRun, PolicyHost, ProbeListener } from './host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from './host.ts'
import { PolicyFault, toPolicyFault } from './host-fault.ts'
import type { PolicyInput } from './input.ts'
import { nameAsSeen, toPolicyInput } from './input.ts'
import type { ListMemory } from './list-memory.ts'
import { createListMemory } from './list-memory.ts'
import type { Projection } from './list-reads.ts'
import { createProjection, listReadsOf } from './list-reads.ts'
import type { ListJudgeOptions, ListQuestion } from './list-verdicts.ts'
import { judgeList } from './list-verdicts.ts'
import { isMaskRule, NO_MASKS } from './mask.ts'
import { LISTED } from './product-module.ts'
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
  /** Most characters of remembered verdicts on elements of lists (`list-memory.ts`); 0 = none are. */
  readonly maxRemembered: number
  readonly trace: TraceBounds
}

/** 256 KiB of input, about 50 ms, 16 MiB; traces of 64 KiB; some 50,000 remembered verdicts. */
export const DEFAULT_POLICY_LIMITS: PolicyLimits = {
  ...DEFAULT_HOST_LIMITS,
  maxInputBytes: 262_144,
  maxTargets: 256,
  maxRemembered: 1 << 24,
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
  /** false = nobody asks for traces: those of its evaluations are empty. Default true. */
  readonly keepsTraces?: boolean
  /** Told of every event of every evaluation, for coverage. */
  readonly onProbe?: ProbeListener | undefined
}

/** `Rooms.policy` of the spine: one policy, as long as it is open. */
export interface PolicyRoom {
  /** Evaluates `data.gateway.decision`. Never throws: trouble is a denial with `failure` set. */
  decide(call: Call): Evaluation
  /** The verdicts of `data.gateway.visible`, all of one revision, in the order given. Never rejects: trouble is a denial. */
  visible(call: Call, targets: readonly Target[]): Promise<readonly TargetVerdict[]>
  readonly revision: PolicyRevision
  /** Whether it has `mask` rules: then nobody knows what to mask in a call that it was not asked about. */
  readonly hasMasks: boolean
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
  readonly decidedBy: Evaluation['policy']
  readonly hasMasks: boolean
  readonly dictionary: Dictionary
  /** Whether it can be asked about all targets of a list at once. */
  readonly answersAtOnce: boolean
  /** null = nothing is remembered. */
  readonly memory: ListMemory | null
  readonly projection: Projection
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
  const { revision: label, digest, opa, dictionary } = policy
  const revision = { revision: label, digest, opa }
  const decidedBy = Object.freeze({ ...revision, entrypoint: DECISION })
  const hasMasks = dictionary.rules.some(({ path }) => isMaskRule(path))
  // Whoever is told of every event wants every evaluation to be made, and traced.
  const isTold = onProbe !== undefined
  const reads = listReadsOf(host)
  const memory = isTold ? null : createListMemory(reads, limits.maxRemembered)
  const answersAtOnce = !isTold && host.entrypoints.includes(LISTED.as)
  const projection = createProjection(reads)
  return { host, trace, revision, decidedBy, dictionary, hasMasks, memory, projection, answersAtOnce }
}

type Failure = NonNullable<Evaluation['failure']>

class Room implements PolicyRoom {
  private readonly options: PolicyRoomOptions
  private readonly limits: PolicyLimits
  private readonly loaded: Loaded
  private closed = false
  private readonly warned = new WeakSet<Loaded>()

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
      run = this.run(loaded, DECISION, input, nowNs, this.options.keepsTraces ?? true)
      const decision = parseDecision(resultOf(run))
      this.warnOfMasks(loaded, decision)
      return this.evaluation(loaded, { nowNs, input, run, startedMs, decision, failure: null })
    } catch (thrown) {
      const failure = toFailure(thrown)
      return this.evaluation(loaded, { nowNs, input, run, startedMs, decision: null, failure })
    }
  }

  visible(call: Call, targets: readonly Target[]): Promise<readonly TargetVerdict[]> {
    const { loaded } = this
    const { maxTargets, maxInputBytes } = this.limits
    const nowNs = this.options.now()
    return judgeList(call, targets, {
      ...{ memory: loaded.memory, projection: loaded.projection, maxTargets, maxInputBytes, nowNs },
      assertOpen: () => this.refuseWhenClosed(),
      ask: (question) => this.ask(loaded, question, nowNs),
      refuse: (thrown, count) => {
        const { kind, message } = toFailure(thrown)
        const fields = { requestId: call.requestId, kind, detail: message, targets: count }
        this.options.log.warn(fields, 'list elements denied')
        return kind.replace('_', '-')
      },
    })
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

  /**
   * Asks about all targets at once, where the module can be asked that. What comes of it but no verdicts is left to the
   * question that is always there: so a list is refused for what is wrong with a policy, not for how it was asked.
   */
  private async ask(
    loaded: Loaded,
    { targets, atOnce, oneByOne }: ListQuestion,
    nowNs: bigint,
  ): ReturnType<ListJudgeOptions['ask']> {
    if (loaded.answersAtOnce) {
      const { result, fault, readClock } = this.run(loaded, LISTED.as, atOnce(), nowNs, false)
      const verdicts = fault === null ? verdictsOf(result, targets.length) : null
      if (verdicts !== null) return { verdicts, readClock }
      await setImmediate() // each question has a budget of its own, with other calls in between
      this.refuseWhenClosed()
    }
    const run = this.run(loaded, VISIBLE, oneByOne(), nowNs, false)
    return { verdicts: parseVerdicts(resultOf(run), targets.map(nameAsSeen)), readClock: run.readClock }
  }

  private evaluation(loaded: Loaded, made: Made): Evaluation {
    const { input, run } = made
    const evalUs = Math.max(0, (this.options.monotonicMs() - made.startedMs) * 1000)
    return new MadeEvaluation(loaded, made, evalUs, {
      render: () => (input === null || run === null ? EMPTY_TRACE : this.renderTrace(loaded, input, run)),
      mac: () => this.mac(input?.bytes ?? new Uint8Array()),
    })
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

/** What a row asks for, made when it does: it takes longer than all the rest of an evaluation's record. */
interface Afterwards {
  render(): RenderedTrace
  mac(): string
}

class MadeEvaluation implements Evaluation {
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
  readonly limits: Evaluation['limits']
  readonly obligations: Evaluation['obligations']
  readonly masks: Evaluation['masks']
  readonly maskFailure: string | null
  readonly failure: Evaluation['failure']
  readonly policy: Evaluation['policy']
  readonly evalUs: number
  readonly fuel: number
  readonly inputText: string
  readonly traceDictionary: object
  private readonly nowNsValue: bigint
  private readonly words: string
  private readonly afterwards: Afterwards
  private rendered: RenderedTrace | null = null
  private digest: string | null = null

  constructor(loaded: Loaded, made: Made, evalUs: number, afterwards: Afterwards) {
    const decision = made.decision ?? (loaded.hasMasks ? UNKNOWN_MASKS : NOTHING)
    this.allow = decision.allow
    this.allowedBy = decision.allowedBy
    this.deniedBy = decision.deniedBy
    this.limits = decision.limits
    this.obligations = decision.obligations
    this.masks = decision.masks
    this.maskFailure = decision.maskFailure
    this.failure = made.failure
    this.policy = loaded.decidedBy
    this.evalUs = evalUs
    this.fuel = made.run?.fuel ?? 0
    this.inputText = made.input?.headText ?? '{}'
    this.traceDictionary = loaded.dictionary
    this.nowNsValue = made.nowNs
    this.words = loaded.trace.words
    this.afterwards = afterwards
  }

  get nowNs(): string {
    return String(this.nowNsValue)
  }

  get inputMac(): string {
    this.digest ??= this.afterwards.mac()
    return this.digest
  }

  traceText(): StoredText {
    return this.trace().text
  }

  traceParts(): { readonly values: string; readonly words: string } {
    return { values: this.trace().values, words: this.words }
  }

  private trace(): RenderedTrace {
    this.rendered ??= this.afterwards.render()
    return this.rendered
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

/** null = it is malformed. */
function verdictsOf(listed: unknown, targets: number): readonly Verdict[] | null {
  try {
    return parseListed(listed, targets)
  } catch {
    return null
  }
}

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
