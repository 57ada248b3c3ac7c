/** The second opinion on rules `test_..` and, with `--engine both`, on cases: OPA's interpreter, topdown. */

import type { RegoValue } from '../builtins/value.ts'
import { isArray } from '../builtins/value.ts'
import { formatRegoValue, parseRegoValue } from '../builtins/value-text.ts'
import type { BuildRequest, Compiler } from '../compiler.ts'
import { CompilerFault } from '../compiler-process.ts'
import type { HostRun } from '../host.ts'
import type { TestRule } from './rego-heads.ts'
import { sameAsJson } from './same-value.ts'
import { DEFAULT_NOW_NS } from './table.ts'

/** What topdown says of a rule. */
export type Opinion =
  /** As parsed JSON, and with all digits. */
  | { readonly kind: 'value'; readonly value: unknown; readonly exact: RegoValue }
  | { readonly kind: 'undefined' }
  | { readonly kind: 'error'; readonly message: string }

/** Opinions on the rules that were asked for. */
export type Oracle = (rule: TestRule) => Opinion

/** What topdown evaluates. */
export interface TopdownSubject {
  readonly compiler: Pick<Compiler, 'evaluate'>
  /** The sources and what they are checked against. */
  readonly request: BuildRequest
  readonly dataText: string
  /** What one opinion may take, once the process answers. */
  readonly timeoutMs: number
}

/** The process may have to be started, and compiles the sources first. */
const START_MS = 10_000
/** Many tests are asked about at once; together they may take this, or what one of them may. */
const MAX_MS = 60_000

/** Evaluates rules with topdown: all at once, or one by one when one of them fails. */
export async function askTopdown(subject: TopdownSubject, rules: readonly TestRule[]): Promise<Oracle> {
  const paths = [...new Set(rules.map(({ path }) => path))]
  const opinions = await opinionsOn(subject, {
    references: paths.map((path) => ({ path, inputText: null })),
    nowNs: DEFAULT_NOW_NS,
  })
  const known = new Map(paths.map((path, index) => [path, opinions[index]]))
  return ({ path }) => known.get(path) ?? { kind: 'undefined' }
}

/** What topdown is asked at once. */
export interface TopdownQuestion {
  readonly references: readonly AskedReference[]
  readonly nowNs: bigint
}

/** Such as `data.gateway.decision`. */
export interface AskedReference {
  readonly path: string
  /** JSON text of the input, so that its numbers keep their digits; null = none. */
  readonly inputText: string | null
}

/** Opinions on references, in their order. */
export async function opinionsOn(
  subject: TopdownSubject,
  question: TopdownQuestion,
): Promise<readonly Opinion[]> {
  const { references } = question
  if (references.length === 0) return []
  const answered = await evaluate(subject, question)
  if (typeof answered !== 'string') return answered
  if (references.length === 1) return [{ kind: 'error', message: answered }]
  const opinions: Opinion[] = []
  for (const one of references)
    opinions.push(...(await opinionsOn(subject, { ...question, references: [one] })))
  return opinions
}

/** Opinions on references in one query, or why there are none. */
async function evaluate(
  { compiler, request, dataText, timeoutMs }: TopdownSubject,
  { references, nowNs }: TopdownQuestion,
): Promise<readonly Opinion[] | string> {
  const { sources, inputSchema, builtins, contract } = request
  const parts = references.map(partOf)
  const evaluated = compiler.evaluate({
    sources,
    inputSchema,
    ...(builtins === undefined ? {} : { builtins }),
    ...(contract === undefined ? {} : { contract }),
    query: `opinions = [${parts.join(', ')}]`,
    inputText: `{"inputs":[${references.map(({ inputText }) => inputText ?? 'null').join(',')}]}`,
    dataText,
    nowNs,
    timeoutMs: Math.min(Math.max(MAX_MS, START_MS + timeoutMs), START_MS + timeoutMs * references.length),
  })
  const answer = await evaluated.catch((error: unknown) => {
    if (error instanceof CompilerFault) return error.message
    throw error
  })
  if (typeof answer === 'string') return answer
  if (!answer.ok)
    throw new Error(`topdown refuses the tests: ${answer.errors[0]?.message ?? 'no reason given'}`)
  if (answer.error !== null) return answer.error.message
  const values = (answer.result[0]?.['opinions'] ?? []) as readonly (readonly unknown[])[]
  const exact = parseRegoValue(answer.texts[0]?.['opinions'] ?? '[]')
  return references.map((_, index) => toOpinion(values[index] ?? [], elementAt(exact, index)))
}

/**
 * A comprehension is empty when the reference is undefined, so one that is does not take the others with it. The schema of
 * `input` knows no `inputs`, but arguments of builtins are not checked against it.
 */
function partOf({ path, inputText }: AskedReference, index: number): string {
  if (inputText === null) return `[value | value := ${path}]`
  return `[value | given := object.get(input, ["inputs", ${index}], null); value := ${path} with input as given]`
}

function toOpinion([value]: readonly unknown[], exact: RegoValue | undefined): Opinion {
  const found = exact === undefined ? undefined : elementAt(exact, 0)
  return found === undefined ? { kind: 'undefined' } : { kind: 'value', value, exact: found }
}

function elementAt(array: RegoValue, index: number): RegoValue | undefined {
  return isArray(array) ? array[index] : undefined
}

/** What came of a rule in Wasm. */
export interface Answer extends Pick<HostRun, 'fault'> {
  /** With the digits of its numbers; undefined when there is none. */
  readonly resultText: string | undefined
}

/** How the two differ, for people; null = they agree. A budget that was exceeded in Wasm is no difference. */
export function differenceOf({ fault, resultText: text }: Answer, opinion: Opinion): string | null {
  if (fault !== null && fault.kind !== 'error') return null
  const value = text === undefined ? undefined : parseRegoValue(text)
  const same =
    fault !== null
      ? opinion.kind === 'error'
      : value === undefined
        ? opinion.kind === 'undefined'
        : opinion.kind === 'value' && sameAsJson(value, opinion.exact)
  if (same) return null
  const wasm = fault === null ? textOf(value) : `an error (${fault.message})`
  return `Wasm gives ${wasm}, topdown gives ${saidBy(opinion)}`
}

/** What people are told besides, whenever the engines differ. */
export const DIFFERENCE_NOTES: readonly string[] = [
  'Wasm is what serves; where OPA’s interpreter says something else, the test tells nothing about the policy',
  'known causes: strings that are no UTF-8, and `with` on a function (opa#5311)',
]

function saidBy(opinion: Opinion): string {
  if (opinion.kind === 'error') return `an error (${opinion.message})`
  return textOf(opinion.kind === 'value' ? opinion.exact : undefined)
}

function textOf(value: RegoValue | undefined): string {
  return value === undefined ? 'undefined' : formatRegoValue(value)
}
