/** Runs the cases of tables on the module that serves, through the very room that decides the calls of clients. */
import type { Call } from '../../gateway/types.ts'
import { parseExact } from '../../json/exact.ts'
import type { Trace } from '../../trace/shape.ts'
import { parseTrace } from '../../trace/shape.ts'
import { toAskedCall } from '../asked-call.ts'
import type { CompiledPolicy } from '../build.ts'
import type { PolicyLimits, PolicyRoom } from '../engine.ts'
import { createPolicyRoom } from '../engine.ts'
import type { ProbeListener } from '../host.ts'
import type { ListTracer } from '../list-trace.ts'
import { createListTracer } from '../list-trace.ts'
import type { Benchmark, BenchmarkPlan } from './benchmark.ts'
import { measure } from './benchmark.ts'
import type { DataPlaces } from './data-files.ts'
import type { Verdict } from './expectation.ts'
import { mismatches } from './expectation.ts'
import { explainCase } from './explain-case.ts'
import type { RanCase, TestFailure, TestResult } from './report.ts'
import type { TestCase } from './table.ts'

/** What cases run on. */
export interface CaseRunOptions {
  readonly policy: CompiledPolicy
  readonly limits: PolicyLimits
  readonly monotonicMs: () => number
  readonly data: DataPlaces
  /** What takes longer fails. */
  readonly timeoutMs: number
  /** Told of the events of every evaluation of a case. */
  readonly onProbe?: ProbeListener | undefined
}

const NO_TRACE: Trace = { truncated: true, dropped: 0, rules: [] }

/** Runs the cases in their order. */
export async function runCases(
  cases: readonly TestCase[],
  options: CaseRunOptions,
): Promise<readonly RanCase[]> {
  const runner = new CaseRunner(options)
  return await runner.run(cases)
}

/** Measures what the decisions on the cases cost, the reading of their traces' values included. */
export async function benchmarkCases(
  cases: readonly TestCase[],
  options: CaseRunOptions,
  plan: BenchmarkPlan,
): Promise<readonly Benchmark[]> {
  const runner = new CaseRunner(options)
  return await runner.benchmark(
    cases.filter(({ skip }) => skip === null),
    plan,
  )
}

/** What the policy said, and how to read its trace. */
interface Judged {
  readonly verdict: Verdict
  trace(): Promise<Trace>
  /** JSON text of the input the rules saw. */
  readonly inputText: string
}

class CaseRunner {
  readonly #options: CaseRunOptions
  readonly #tracer: ListTracer
  #nowNs = 0n
  /** What the room told about the last list: there a verdict does not say that the evaluation failed. */
  #told: { readonly kind: string; readonly message: string } | null = null

  constructor(options: CaseRunOptions) {
    this.#options = options
    this.#tracer = createListTracer(options.policy, options.limits)
  }

  async run(cases: readonly TestCase[]): Promise<readonly RanCase[]> {
    const room = await this.#open()
    try {
      const results: RanCase[] = []
      for (const test of cases) results.push(await this.#one(room, test))
      return results
    } finally {
      room.close()
    }
  }

  async benchmark(cases: readonly TestCase[], plan: BenchmarkPlan): Promise<readonly Benchmark[]> {
    const room = await this.#open()
    try {
      const measured: Benchmark[] = []
      for (const test of cases) {
        this.#nowNs = test.nowNs
        const { place, name, labels } = test
        const cost = await measure(this.#evaluation(room, test), plan)
        measured.push({ test: { kind: 'case', place, name, labels }, ...cost })
      }
      return measured
    } finally {
      room.close()
    }
  }

  #evaluation(room: PolicyRoom, test: TestCase): () => Promise<null> | number {
    const call = toAskedCall(test.facts)
    const { target } = call
    if (test.phase !== 'list' || target === null) return () => room.decide(call).fuel
    const list = { ...call, target: null }
    return async () => {
      await room.visible(list, [target])
      return null
    }
  }

  #open(): Promise<PolicyRoom> {
    const { policy, limits, monotonicMs, onProbe } = this.#options
    return createPolicyRoom({
      policy,
      limits: { ...limits, maxRemembered: 0 }, // each case is evaluated
      monotonicMs,
      onProbe,
      now: () => this.#nowNs,
      // Nothing of a test is stored, so its input needs no digest that others cannot make.
      inputMacKey: Buffer.alloc(32),
      log: {
        warn: (fields) => {
          const { kind, detail } = fields as { readonly kind?: unknown; readonly detail?: unknown }
          this.#told = { kind: String(kind), message: String(detail) }
        },
        error: () => undefined, // a trace that cannot be read says so itself
      },
    })
  }

  async #one(room: PolicyRoom, test: TestCase): Promise<RanCase> {
    const { place, name, labels, skip } = test
    const known = { kind: 'case', place, name, labels } as const
    if (skip !== null) {
      const result: TestResult = { ...known, outcome: 'skipped', reason: skip, failure: null, ms: 0 }
      return { test, result, got: null, inputText: null }
    }
    const { monotonicMs, timeoutMs } = this.#options
    this.#nowNs = test.nowNs
    const startedMs = monotonicMs()
    const judged = await this.#judge(room, test)
    const ms = monotonicMs() - startedMs
    const { verdict: got, inputText } = judged
    const wrong = mismatches(test.expect, got)
    const late = ms > timeoutMs ? [lateNote(ms, timeoutMs)] : []
    if (wrong.length === 0 && late.length === 0) {
      const result: TestResult = { ...known, outcome: 'passed', reason: null, failure: null, ms }
      return { test, result, got, inputText }
    }
    const failure = await this.#explain(test, judged, wrong)
    const told = { ...failure, notes: [...late, ...failure.notes] }
    return { test, result: { ...known, outcome: 'failed', reason: null, failure: told, ms }, got, inputText }
  }

  async #judge(room: PolicyRoom, test: TestCase): Promise<Judged> {
    const call = toAskedCall(test.facts)
    if (test.phase === 'list') return await this.#judgeElement(room, call, test)
    const evaluation = room.decide(call)
    return {
      verdict: evaluation,
      trace: () => Promise.resolve(readTrace(evaluation.traceText())),
      inputText: withArguments(evaluation.inputText, test.facts.argumentsText),
    }
  }

  async #judgeElement(room: PolicyRoom, asked: Call, test: TestCase): Promise<Judged> {
    const { target } = asked
    if (target === null) throw new Error('a list case without a target')
    const call = { ...asked, target: null }
    this.#told = null
    const [element] = await room.visible(call, [target])
    if (element === undefined) throw new Error('the room gave no verdict')
    const failure = this.#told as { readonly kind: string; readonly message: string } | null
    return {
      verdict: { ...element, failure: failure as Verdict['failure'] },
      trace: async () => readTrace(await this.#tracer.traceText(call, target, test.nowNs)),
      inputText: this.#tracer.inputText(call, target, test.nowNs),
    }
  }

  async #explain(test: TestCase, judged: Judged, wrong: TestFailure['mismatches']): Promise<TestFailure> {
    const { policy, data } = this.#options
    const trace = await judged.trace()
    const { verdict, inputText } = judged
    const { expect, origins } = test
    const facts = { trace, policy, expect, mismatches: wrong, got: verdict, inputText, origins, data }
    const explained = explainCase(facts)
    return { mismatches: wrong, got: verdict, ...explained }
  }
}

/** What is said of a test that took too long. */
export function lateNote(ms: number, timeoutMs: number): string {
  return `it took ${Math.ceil(ms)} ms, longer than --timeout allows (${timeoutMs} ms)`
}

function withArguments(headText: string, argumentsText: string | null): string {
  return argumentsText === null ? headText : `${headText.slice(0, -1)},"arguments":${argumentsText}}`
}

function readTrace(text: string): Trace {
  return parseTrace(parseExact(text)) ?? NO_TRACE
}
