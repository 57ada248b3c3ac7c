/** Asks the serving module about one call, or about the elements of one list, and keeps the trace. For `policy eval`. */
import type { Evaluation, TargetVerdict } from '../gateway/types.ts'
import { toAskedCall } from './asked-call.ts'
import type { CompiledPolicy } from './build.ts'
import type { PolicyLimits, PolicyRoom } from './engine.ts'
import { createPolicyRoom } from './engine.ts'
import { toPolicyInput } from './input.ts'
import type { InputQuestion } from './input-document.ts'
import { createListTracer } from './list-trace.ts'

/** What asking needs. */
export interface EvaluateOptions {
  readonly policy: CompiledPolicy
  readonly limits: PolicyLimits
  readonly monotonicMs: () => number
}

/** The decision on a call. */
export interface AnsweredCall {
  readonly phase: 'call'
  readonly evaluation: Evaluation
  readonly traceText: string
  /** JSON text of the whole input, as the module got it. */
  readonly inputText: string
}

/** The verdicts on the elements of a list. */
export interface AnsweredList {
  readonly phase: 'list'
  readonly elements: readonly { readonly verdict: TargetVerdict; readonly traceText: string }[]
  /** Why the evaluation gave no verdicts; null = it did. */
  readonly failure: string | null
  readonly inputText: string
}

/** @throws PolicyFault when the policy cannot be loaded */
export async function evaluateQuestion(
  question: InputQuestion,
  options: EvaluateOptions,
): Promise<AnsweredCall | AnsweredList> {
  let failure: string | null = null
  const room = await createPolicyRoom({
    ...options,
    now: () => question.nowNs,
    // Nothing of it is stored.
    inputMacKey: Buffer.alloc(32),
    log: {
      warn: (fields) => {
        failure = String((fields as { readonly detail?: unknown }).detail)
      },
      error: () => undefined, // a trace that cannot be read says so itself
    },
  })
  try {
    if (question.phase === 'call') return answerCall(room, question)
    const elements = await answerList(room, question, options)
    return { phase: 'list', elements, failure, inputText: questionText(question, options.limits) }
  } finally {
    room.close()
  }
}

function answerCall(room: PolicyRoom, { facts }: InputQuestion): AnsweredCall {
  const evaluation = room.decide(toAskedCall(facts))
  const { inputText: head } = evaluation
  const { argumentsText } = facts
  const inputText = argumentsText === null ? head : `${head.slice(0, -1)},"arguments":${argumentsText}}`
  return { phase: 'call', evaluation, traceText: evaluation.traceText(), inputText }
}

async function answerList(
  room: PolicyRoom,
  { facts, targets, nowNs }: InputQuestion,
  { policy, limits }: EvaluateOptions,
): Promise<AnsweredList['elements']> {
  const call = toAskedCall({ ...facts, target: null })
  const verdicts = await room.visible(call, targets)
  const tracer = createListTracer(policy, limits)
  const elements: AnsweredList['elements'][number][] = []
  for (const [index, target] of targets.entries()) {
    const verdict = verdicts[index]
    if (verdict === undefined) throw new Error('the room gave too few verdicts')
    elements.push({ verdict, traceText: await tracer.traceText(call, target, nowNs) })
  }
  return elements
}

/** The input document of a question, as the module gets it. */
export function questionText({ phase, facts, targets, nowNs }: InputQuestion, limits: PolicyLimits): string {
  const subject = phase === 'call' ? ({ phase } as const) : ({ phase, targets } as const)
  const input = toPolicyInput(toAskedCall(facts), subject, { nowNs, maxBytes: limits.maxInputBytes })
  return new TextDecoder().decode(input.bytes)
}
