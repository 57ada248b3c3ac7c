/**
 * Rules `test_..`: they run in a second module, made from the same sources with the tests added, instrumented and metered
 * like the one that serves. OPA's own interpreter (topdown) evaluates them as well: Wasm leaves some replacements of functions
 * by `with` silently undefined (https://github.com/open-policy-agent/opa/issues/5311), and a test that says so must not be
 * taken for the policy's fault, nor pass for that reason.
 */
import { createHash } from 'node:crypto'
import { parseExact } from '../../json/exact.ts'
import type { TraceRule } from '../../trace/shape.ts'
import { parseTrace } from '../../trace/shape.ts'
import { decisiveStep, traceLines } from '../../trace/tree.ts'
import type { BuiltPolicy } from '../build.ts'
import { readCachedBuild, writeCachedBuild } from '../build-cache.ts'
import type { JsonObject } from '../build-data.ts'
import type { BuildRequest, Compiler, PolicyError } from '../compiler.ts'
import type { Dictionary } from '../dictionary.ts'
import type { HostLimits, HostRun, PolicyHost, ProbeListener } from '../host.ts'
import { createHost } from '../host.ts'
import { METER_VERSION, meter } from '../meter.ts'
import type { TraceReader } from '../trace.ts'
import { createTraceReader } from '../trace.ts'
import type { TraceBounds } from '../trace-render.ts'
import type { Benchmark, BenchmarkPlan } from './benchmark.ts'
import { measure } from './benchmark.ts'
import { canonicalText } from './canonical.ts'
import { lateNote } from './case-run.ts'
import { condense } from './condense.ts'
import type { ProbeCounts } from './probe-counts.ts'
import { countProbe } from './probe-counts.ts'
import type { TestRule } from './rego-heads.ts'
import { findTestRules } from './rego-heads.ts'
import type { TestFailure, TestResult } from './report.ts'
import { guardSources } from './rule-guard.ts'
import type { SubCases } from './sub-cases.ts'
import { hasSubCases, readSubCases, stepsOf } from './sub-cases.ts'
import { DEFAULT_NOW_NS } from './table.ts'
import { askTopdown, DIFFERENCE_NOTES, differenceOf } from './topdown.ts'

/** What rule tests are made from. */
export interface RuleTestOptions {
  readonly compiler: Pick<Compiler, 'build' | 'evaluate' | 'digest'>
  /** Folder of finished builds; null = none are kept. */
  readonly cacheDir: string | null
  /** The request that makes the serving module. */
  readonly request: BuildRequest
  readonly data: JsonObject
  /** `*_test.rego` by name. */
  readonly tests: Readonly<Record<string, string>>
}

/** Rule tests, built. */
export interface RuleTests {
  readonly rules: readonly TestRule[]
  /** `sha256:<hex>` of the module. */
  readonly digest: string
  readonly dictionary: Dictionary
  /** Runs all of them, in their order. `isCounted`: whether events are counted, for coverage. */
  run(plan: RuleRunPlan): Promise<readonly RanRule[]>
  benchmark(rules: readonly TestRule[], plan: BenchmarkPlan): Promise<readonly Benchmark[]>
}

/** How rule tests are run. */
export interface RuleRunPlan {
  readonly monotonicMs: () => number
  /** What takes longer fails. */
  readonly timeoutMs: number
  readonly isCounted: boolean
}

/** A rule with its result, or one for each of its sub-cases. */
export interface RanRule {
  readonly rule: TestRule
  readonly results: readonly TestResult[]
  readonly counts: ProbeCounts
}

/** Tests are not callers: they may take as long as the module can count, about a quarter of a second. */
const LIMITS: HostLimits = {
  fuel: 0x7fffffff,
  valueFuel: 0x7fffffff,
  memoryPages: 256,
  maxMemoryPages: 8192,
  maxResultBytes: 1 << 20,
  events: { maxLogged: 20_000, maxPerProbe: 4000, maxEvents: 5_000_000 },
}
const TRACE_BOUNDS: TraceBounds = { maxBytes: 4 << 20, maxEvents: 20_000 }
const NO_INPUT = new TextEncoder().encode('{}')

/** null: there are no rules `test_..`. */
export async function buildRuleTests(
  options: RuleTestOptions,
): Promise<RuleTests | { readonly errors: readonly PolicyError[] } | null> {
  const { compiler, request, data, tests } = options
  const rules = Object.entries(tests).flatMap(([file, text]) => findTestRules(file, text))
  if (rules.length === 0) return null
  const full: BuildRequest = {
    ...request,
    sources: { ...request.sources, ...tests },
    entrypoints: [...new Set(rules.map(({ entrypoint }) => entrypoint))],
  }
  const built = await buildModule(full, options)
  if ('errors' in built) return built
  const { wasm, dictionary } = built
  const errors = guardSources({ sources: request.sources, tests, rules, dictionary })
  if (errors.length > 0) return { errors }
  const module: RuleModule = { wasm, dictionary, data, request: full }
  return {
    rules,
    digest: `sha256:${createHash('sha256').update(wasm).digest('hex')}`,
    dictionary,
    run: (plan) => runRules(rules, module, compiler, plan),
    benchmark: (chosen, plan) => benchmarkRules(chosen, module, plan),
  }
}

/** The module with the tests, and what it was made from. */
interface RuleModule {
  readonly wasm: Uint8Array
  readonly dictionary: Dictionary
  readonly data: JsonObject
  readonly request: BuildRequest
}

async function openRunner(
  { wasm, dictionary, data, request }: RuleModule,
  onProbe?: ProbeListener,
): Promise<RuleRunner> {
  const reader = createTraceReader(dictionary, data)
  const host = await createHost({
    wasm,
    dataText: JSON.stringify(data),
    knowsProbe: reader.knows,
    hidesProbe: reader.hides,
    onProbe,
    limits: LIMITS,
  })
  return new RuleRunner({ host, reader, dictionary, sources: request.sources })
}

async function runRules(
  rules: readonly TestRule[],
  module: RuleModule,
  compiler: Pick<Compiler, 'evaluate'>,
  { monotonicMs, timeoutMs, isCounted }: RuleRunPlan,
): Promise<readonly RanRule[]> {
  let counts: ProbeCounts | null = null
  const count: ProbeListener = (probe) => {
    if (counts !== null) countProbe(counts, probe)
  }
  const runner = await openRunner(module, isCounted ? count : undefined)
  const runs = rules.map((rule) => {
    const own: ProbeCounts = new Map()
    counts = own
    const startedMs = monotonicMs()
    const run = runner.evaluate(rule)
    const ms = monotonicMs() - startedMs
    return { rule, run, resultText: run.resultText(), ms, counts: own }
  })
  counts = null // what explains a failure is evaluated once more, and not counted
  // What is too much for Wasm would keep topdown, which has no budget, busy for minutes.
  const asked = runs.filter(({ run }) => run.fault === null || run.fault.kind === 'error')
  const oracle = await askTopdown(
    { compiler, request: module.request, dataText: JSON.stringify(module.data), timeoutMs },
    asked.map(({ rule }) => rule),
  )
  return runs.map(({ rule, run, resultText, ms, counts: own }) => {
    const late = ms > timeoutMs ? lateNote(ms, timeoutMs) : null
    const difference = differenceOf({ fault: run.fault, resultText }, oracle(rule))
    const results = late === null ? runner.judge(rule, run, difference) : [runner.late(rule, late)]
    return { rule, counts: own, results: results.map((result) => ({ ...result, ms: ms / results.length })) }
  })
}

async function benchmarkRules(
  rules: readonly TestRule[],
  module: RuleModule,
  plan: BenchmarkPlan,
): Promise<readonly Benchmark[]> {
  const runner = await openRunner(module)
  const measured: Benchmark[] = []
  for (const rule of rules) {
    const { file, row, name } = rule
    const test = { kind: 'rule', place: { file, row, col: 1 }, name, labels: [] } as const
    measured.push({ test, ...(await measure(() => runner.evaluate(rule).fuel, plan)) })
  }
  return measured
}

/** Builds the module, or takes it from the cache, as the serving one is. */
async function buildModule(
  request: BuildRequest,
  { compiler, cacheDir }: Pick<RuleTestOptions, 'compiler' | 'cacheDir'>,
): Promise<BuiltPolicy | { readonly errors: readonly PolicyError[] }> {
  const parts = { tests: 1, compiler: compiler.digest, meter: METER_VERSION, request }
  const key = createHash('sha256').update(canonicalText(parts)).digest('hex')
  const cached = cacheDir === null ? null : await readCachedBuild(cacheDir, key)
  if (cached !== null) return cached
  const result = await compiler.build(request)
  if (!result.ok) return { errors: result.errors }
  const { dictionary, opa, entrypoints } = result
  if (dictionary === null) throw new Error('the compiler returned no trace dictionary')
  const built = { wasm: meter(result.wasm), dictionary, opa, entrypoints }
  if (cacheDir !== null) await writeCachedBuild(cacheDir, key, built)
  return built
}

interface RunnerParts {
  readonly host: PolicyHost
  readonly reader: TraceReader
  readonly dictionary: Dictionary
  readonly sources: Readonly<Record<string, string>>
}

class RuleRunner {
  readonly #parts: RunnerParts

  constructor(parts: RunnerParts) {
    this.#parts = parts
  }

  /** Events are kept only of rules whose sub-cases have to be read off them. */
  evaluate(rule: TestRule): HostRun {
    return this.#evaluate(rule, hasSubCases(rule, this.#parts.dictionary))
  }

  #evaluate({ entrypoint }: TestRule, record: boolean): HostRun {
    return this.#parts.host.evaluate({ entrypoint, input: NO_INPUT, nowNs: DEFAULT_NOW_NS, record })
  }

  /** One result, or one for each sub-case. */
  judge(rule: TestRule, run: HostRun, difference: string | null): readonly TestResult[] {
    if (difference !== null) {
      const notes = [`the engines differ: ${difference}`, ...DIFFERENCE_NOTES]
      return [this.#result(rule, [], { notes, name: null })]
    }
    const sub = readSubCases(rule, run, this.#parts.dictionary)
    if (sub === null) return [this.#result(rule, [], this.#problem(run))]
    return sub.names.map((name) => {
      const held = sub.held.has(name)
      return this.#result(rule, [name], held ? null : { notes: ['this sub-case does not hold'], name, sub })
    })
  }

  /** The result of a rule that took too long. */
  late(rule: TestRule, note: string): TestResult {
    return this.#result(rule, [], { notes: [note], name: null })
  }

  #problem(run: HostRun): Problem | null {
    if (run.fault !== null) return { notes: [run.fault.message], name: null }
    if (run.result === true) return null
    const given = run.result === undefined ? [] : [`it gives ${JSON.stringify(run.result)} instead of true`]
    return { notes: given, name: null }
  }

  #result(rule: TestRule, labels: readonly string[], problem: Problem | null): TestResult {
    const place = { file: rule.file, row: rule.row, col: 1 }
    const known = { kind: 'rule', place, name: rule.name, labels, ms: 0 } as const
    const isTodo = rule.name.startsWith('todo_')
    if (problem === null) {
      const reason = isTodo ? 'it holds by now: take todo_ out of its name' : null
      return { ...known, outcome: isTodo ? 'todo' : 'passed', reason, failure: null }
    }
    if (isTodo) return { ...known, outcome: 'todo', reason: null, failure: null }
    return { ...known, outcome: 'failed', reason: null, failure: this.#explain(rule, problem) }
  }

  #explain(rule: TestRule, { notes, name, sub }: Problem): TestFailure {
    const { reader, sources, dictionary } = this.#parts
    const run = this.#evaluate(rule, true)
    const { text } = reader.render(run.recording(), { headText: '{}', argumentsText: null }, TRACE_BOUNDS)
    const entered = (parseTrace(parseExact(text))?.rules ?? []).filter((one) => isOf(one, rule))
    const shown = entered
      .map((one) => (name === null || sub === undefined ? one : stepsOf(one, name, sub)))
      .map(condense)
    const policy = { sources, dictionary }
    const lines = traceLines([], {
      deciding: shown,
      others: 'hidden',
      policy,
      source: policy,
      inner: (_inner, step) => !step.ok || step.hasReads,
    })
    const step = shown[0] === undefined ? null : decisiveStep(shown[0])
    const why = step === null || step.ok ? null : `line ${/\d+$/.exec(step.at)?.[0] ?? '?'} is false here`
    return { mismatches: [], got: null, notes, lines: lines.filter((line) => line.depth <= MAX_DEPTH), why }
  }
}

const MAX_DEPTH = 8

interface Problem {
  readonly notes: readonly string[]
  /** Of the sub-case; null = all of the rule. */
  readonly name: string | null
  readonly sub?: SubCases
}

function isOf({ rule }: TraceRule, { path }: TestRule): boolean {
  return rule === path || rule.startsWith(`${path}[`) || rule.startsWith(`${path}.`)
}
