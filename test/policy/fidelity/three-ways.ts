/**
 * One question, answered three ways: by the instrumented module, by the plain one, and by topdown, OPA's own interpreter.
 * Values are compared with their digits, arrays in their order; a set is an array in any order, since Wasm returns JSON.
 */

import type { JsonObject } from '../../../src/policy/build-data.ts'
import { HOST_BUILTINS } from '../../../src/policy/builtins/table.ts'
import type { RegoValue } from '../../../src/policy/builtins/value.ts'
import { formatRegoValue, parseRegoValue } from '../../../src/policy/builtins/value-text.ts'
import type { Built, Compiler, Evaluated, PolicyError, Refused } from '../../../src/policy/compiler.ts'
import type { Dictionary } from '../../../src/policy/dictionary.ts'
import type { HostLimits, HostRun } from '../../../src/policy/host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../../src/policy/host.ts'
import { PolicyFault } from '../../../src/policy/host-fault.ts'
import { meter } from '../../../src/policy/meter.ts'
import { sameAsJson } from '../../../src/policy/testing/same-value.ts'
import { createTraceReader } from '../../../src/policy/trace.ts'
import { isJson } from '../../../src/policy/trace-value.ts'
import type { TraceView } from '../engine-fixture.ts'
import { unexplained } from './denial.ts'
import type { Agreement } from './steps.ts'
import { compareSteps } from './steps.ts'

/** What is asked. */
export interface Question {
  readonly sources: Readonly<Record<string, string>>
  readonly entrypoint: string
  readonly dataText: string
  /** Rego text, so that it may hold sets; null = no input. */
  readonly inputText: string | null
}

/** What came of it. */
export type Outcome =
  | { readonly kind: 'value'; readonly value: RegoValue }
  | { readonly kind: 'undefined' }
  | { readonly kind: 'error'; readonly message: string }
  /** A budget of the host was spent, which topdown does not have. */
  | { readonly kind: 'budget'; readonly message: string }

/** The answers. */
export interface Answers {
  readonly ok: true
  readonly instrumented: Outcome
  readonly plain: Outcome
  readonly topdown: Outcome
  /** What is wrong with the events of the instrumented module; null = nothing. */
  readonly malformed: string | null
  /** What the trace of an outcome that denies does not tell; null = nothing. */
  readonly mute: string | null
  /** The trace against topdown's; null = not to be compared, because the evaluation was cut short or its trace was. */
  readonly steps: Agreement | null
}

/** The sources are not acceptable; a difference between the builds is an error of the instrumentation. */
export interface NotBuilt {
  readonly ok: false
  readonly errors: readonly PolicyError[]
  readonly differently: boolean
}

/** Generous: what is compared is meaning, not budgets. */
const LIMITS: HostLimits = {
  ...DEFAULT_HOST_LIMITS,
  fuel: 2_000_000_000,
  valueFuel: 2_000_000_000,
  maxResultBytes: 1 << 24,
  events: { maxLogged: 60_000, maxPerProbe: 60_000, maxEvents: 2_000_000 },
}
const NOW_NS = 1_700_000_000_000_000_000n

/** @throws CompilerFault when the compiler itself fails */
export async function answerThreeWays(question: Question, compiler: Compiler): Promise<Answers | NotBuilt> {
  const request = {
    sources: question.sources,
    data: JSON.parse(question.dataText) as unknown,
    builtins: [...HOST_BUILTINS],
    lenient: true,
    entrypoints: [question.entrypoint],
  }
  const [plain, instrumented] = await Promise.all([
    compiler.build({ ...request, instrument: false }),
    compiler.build({ ...request, instrument: true }),
  ])
  if (!plain.ok || !instrumented.ok) return notBuilt(plain, instrumented)
  const inputText = await canonicalInput(question.inputText, compiler)
  const oracle = await compiler.evaluate({
    sources: question.sources,
    builtins: request.builtins,
    lenient: true,
    query: `x = data.${question.entrypoint.replaceAll('/', '.')}`,
    dataText: question.dataText,
    ...(inputText !== null && { inputTerm: inputText }),
    nowNs: NOW_NS,
    locations: true,
  })
  if (!oracle.ok) return { ok: false, errors: oracle.errors, differently: true }
  const first = await evaluate(instrumented, { ...question, inputText })
  const mute = muteOf(first, instrumented.dictionary, { ...question, inputText })
  const second = await evaluate(plain, { ...question, inputText })
  return {
    ok: true,
    instrumented: outcomeOf(first),
    plain: outcomeOf(second),
    topdown: oracleOutcome(oracle),
    mute,
    ...compareSteps(first, instrumented.dictionary, oracle.locations),
  }
}

/** Whether two ways came to the same. Errors are alike: their texts are the engine's own. */
export function sameOutcome(a: Outcome, b: Outcome): boolean {
  if (a.kind !== b.kind) return false
  return a.kind !== 'value' || b.kind !== 'value' || sameAsJson(a.value, b.value)
}

/** An outcome for people and tables. */
export function describeOutcome(outcome: Outcome): string {
  if (outcome.kind === 'value') return formatRegoValue(outcome.value)
  return outcome.kind === 'undefined' ? 'undefined' : `${outcome.kind}: ${outcome.message}`
}

/** Rego text as the module reads it: no comments, no trailing commas. */
async function canonicalInput(text: string | null, compiler: Compiler): Promise<string | null> {
  if (text === null) return null
  const term = await compiler.evaluate({ sources: {}, query: 'x = input', inputTerm: text })
  return (term.ok ? term.texts[0]?.['x'] : undefined) ?? null
}

async function evaluate(built: Built, question: Question): Promise<HostRun | PolicyFault> {
  const { rules = [], exprs = [] } = built.dictionary ?? {}
  const known = new Set([...rules, ...exprs].map((probe) => probe.id))
  try {
    const host = await createHost({
      wasm: meter(built.wasm),
      dataText: question.dataText,
      knowsProbe: (probe) => known.has(probe.id),
      limits: LIMITS,
    })
    const input = question.inputText === null ? null : new TextEncoder().encode(question.inputText)
    return host.evaluate({ entrypoint: question.entrypoint, input, nowNs: NOW_NS, record: true })
  } catch (thrown) {
    if (thrown instanceof PolicyFault) return thrown
    throw thrown
  }
}

/** An entrypoint that is undefined or false would deny. */
function muteOf(
  run: HostRun | PolicyFault,
  dictionary: Dictionary | null,
  question: Question,
): string | null {
  if (run instanceof PolicyFault || run.fault !== null || dictionary === null) return null
  if (run.result !== undefined && run.result !== false) return null
  const data = JSON.parse(question.dataText) as JsonObject
  const input = question.inputText ?? '{}'
  const { text } = createTraceReader(dictionary, data).render(
    run.recording(),
    { headText: isJson(input) ? input : '{}', argumentsText: null },
    { maxBytes: 1 << 22, maxEvents: 50_000 },
  )
  return unexplained(JSON.parse(text) as TraceView, dictionary)
}

function outcomeOf(run: HostRun | PolicyFault): Outcome {
  const fault = run instanceof PolicyFault ? run : run.fault
  if (fault !== null) return { kind: fault.kind === 'error' ? 'error' : 'budget', message: fault.message }
  const text = run instanceof PolicyFault ? undefined : run.resultText()
  return text === undefined ? { kind: 'undefined' } : { kind: 'value', value: parseRegoValue(text) }
}

function oracleOutcome({ error, texts }: Evaluated): Outcome {
  if (error !== null) return { kind: 'error', message: error.message }
  const text = texts[0]?.['x']
  return text === undefined ? { kind: 'undefined' } : { kind: 'value', value: parseRegoValue(text) }
}

function notBuilt(plain: Built | Refused, instrumented: Built | Refused): NotBuilt {
  const errors = [plain, instrumented].map((result) => (result.ok ? [] : result.errors))
  const [first = [], second = []] = errors.map((list) =>
    list.map(({ file, row, message }) => `${file}:${row} ${message}`),
  )
  return {
    ok: false,
    errors: errors.find((list) => list.length > 0) ?? [],
    differently: JSON.stringify(first) !== JSON.stringify(second),
  }
}
