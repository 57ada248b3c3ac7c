/** Random policies answered three ways: what differs for no known cause, and what a trace does not tell. */
import type { Compiler } from '../../../src/policy/compiler.ts'
import { outcomeCause, stepCause } from './causes.ts'
import { randomQuestion } from './random-policy.ts'
import type { Answers, Question } from './three-ways.ts'
import { answerThreeWays, describeOutcome, sameOutcome } from './three-ways.ts'

/** What a run of seeds found. */
export interface FuzzReport {
  readonly refused: number
  readonly same: number
  readonly known: number
  readonly faults: readonly { readonly seed: number; readonly text: string }[]
}

/** Answers the questions of the seeds from `first` on. */
export async function fuzz(first: number, count: number, compiler: Compiler): Promise<FuzzReport> {
  let [refused, same, known] = [0, 0, 0]
  const faults: { seed: number; text: string }[] = []
  for (let seed = first; seed < first + count; seed += 1) {
    const question = randomQuestion(seed)
    const answers = await answerThreeWays(question, compiler)
    const text = answers.ok ? faultOf(answers, question) : null
    if (!answers.ok && !answers.differently) refused += 1
    else if (!answers.ok) faults.push({ seed, text: answers.errors.map(({ message }) => message).join('; ') })
    else if (text !== null) faults.push({ seed, text })
    else if (sameOutcome(answers.plain, answers.topdown)) same += 1
    else known += 1
  }
  return { refused, same, known, faults }
}

function faultOf(
  { instrumented, plain, topdown, malformed, mute, steps }: Answers,
  { sources }: Question,
): string | null {
  const texts = [instrumented, plain, topdown].map(describeOutcome).join(' | ')
  if (malformed !== null || mute !== null) return malformed ?? mute
  if (!sameOutcome(instrumented, plain)) return texts
  if (!sameOutcome(plain, topdown)) return outcomeCause(plain) === null ? texts : null
  const odd = steps?.differences.find((difference) => stepCause(difference, sources) === null)
  return odd === undefined
    ? null
    : `trace: ${odd.at} ${odd.text}: ${odd.wasm} in Wasm, ${odd.topdown} in topdown`
}
