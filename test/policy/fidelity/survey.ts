/** All cases, answered three ways, and what they add up to. */

import { parseRegoValue } from '../../../src/policy/builtins/value-text.ts'
import type { Compiler } from '../../../src/policy/compiler.ts'
import type { Case } from './cases.ts'
import { simplePath, toQuestion } from './cases.ts'
import type { Cause } from './causes.ts'
import { outcomeCause, sameUnordered, stepCause } from './causes.ts'
import type { Agreement, StepDifference } from './steps.ts'
import type { Answers, Outcome } from './three-ways.ts'
import { answerThreeWays, describeOutcome, sameOutcome } from './three-ways.ts'

/** What became of a case. */
export type Verdict =
  | { readonly kind: 'same'; readonly steps: StepVerdict | null }
  | {
      readonly kind: 'known'
      readonly cause: Cause
      readonly text: string
      readonly steps: StepVerdict | null
    }
  | { readonly kind: 'refused'; readonly builtin: string | null; readonly text: string }
  | { readonly kind: 'failed'; readonly text: string }

/** The trace of a case against topdown's. */
export interface StepVerdict extends Pick<Agreement, 'rules' | 'exprs'> {
  readonly differences: readonly (StepDifference & { readonly cause: Cause })[]
}

/** A case and its verdict. */
export interface Surveyed {
  readonly note: string
  readonly verdict: Verdict
}

/** Runs the cases, as many at once as there are compilers; in the order of the cases. */
export async function survey(
  cases: readonly Case[],
  compilers: readonly Compiler[],
): Promise<readonly Surveyed[]> {
  const results: Surveyed[] = []
  let next = 0
  const work = async (compiler: Compiler) => {
    for (let at = next++; at < cases.length; at = next++) {
      const test = cases[at]
      if (test !== undefined) results[at] = { note: test.note, verdict: await verdictOf(test, compiler) }
    }
  }
  await Promise.all(compilers.map(work))
  return results
}

async function verdictOf(test: Case, compiler: Compiler): Promise<Verdict> {
  const question = toQuestion(test)
  const answers = await answerThreeWays(question, compiler)
  if (!answers.ok) {
    const text = answers.errors.map(({ message }) => message).join('; ')
    if (answers.differently) return { kind: 'failed', text: `refused by one of them only: ${text}` }
    return { kind: 'refused', builtin: missingBuiltin(text), text }
  }
  const { instrumented, plain, topdown, malformed, mute } = answers
  const wrong = malformed ?? mute
  if (wrong !== null) return { kind: 'failed', text: wrong }
  if (!sameOutcome(instrumented, plain)) {
    return {
      kind: 'failed',
      text: `instrumented ${describeOutcome(instrumented)}, plain ${describeOutcome(plain)}`,
    }
  }
  const unexpected = expectation(test, topdown)
  if (unexpected !== null)
    return { kind: 'failed', text: `topdown gives ${describeOutcome(topdown)}, ${unexpected}` }
  const steps = stepVerdict(answers, question.sources)
  if (typeof steps === 'string') return { kind: 'failed', text: steps }
  if (sameOutcome(plain, topdown)) return { kind: 'same', steps }
  const text = `Wasm ${describeOutcome(plain)}, topdown ${describeOutcome(topdown)}`
  const cause = outcomeCause(plain)
  return cause === null ? { kind: 'failed', text } : { kind: 'known', cause, text, steps }
}

function missingBuiltin(text: string): string | null {
  return /undefined function (\S+)/.exec(text)?.[1]?.replace(/;$/, '') ?? null
}

/** The oracle itself against what the case expects, apart from errors, which have a way to be undefined. */
function expectation(test: Case, topdown: Outcome): string | null {
  const [want] = test.want_result ?? []
  if (want === undefined || simplePath(test.query) === null) return null
  const text = JSON.stringify(want['x'])
  // The file has lost digits of long numbers.
  if (/\d{16}/.test(text)) return null
  return topdown.kind === 'value' && sameUnordered(topdown.value, parseRegoValue(text))
    ? null
    : `the case expects ${text}`
}

/** A message when a difference has no known cause. */
function stepVerdict(
  { steps, plain, topdown }: Answers,
  sources: Readonly<Record<string, string>>,
): StepVerdict | string | null {
  // An outcome that differs has other steps for the same reason.
  if (steps === null || !sameOutcome(plain, topdown)) return null
  const differences: (StepDifference & { readonly cause: Cause })[] = []
  for (const difference of steps.differences) {
    const cause = stepCause(difference, sources)
    if (cause === null) {
      const { at, text, wasm, topdown: theirs } = difference
      return `trace: ${at} ${text}: ${wasm} in Wasm, ${theirs} in topdown`
    }
    differences.push({ ...difference, cause })
  }
  return { rules: steps.rules, exprs: steps.exprs, differences }
}
