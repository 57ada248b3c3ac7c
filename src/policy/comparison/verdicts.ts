/** What two policies say to the same questions, on the modules that serve. */
import type { Evaluation } from '../../gateway/types.ts'
import { toAskedCall } from '../asked-call.ts'
import type { CompiledPolicy } from '../build.ts'
import type { PolicyLimits } from '../engine.ts'
import { createPolicyRoom } from '../engine.ts'
import type { InputQuestion } from '../input-document.ts'

/** What a policy says to one question. A list that gives no verdicts denies every element. */
export interface AskedVerdict {
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
  readonly limits: Evaluation['limits']
  readonly obligations: Evaluation['obligations']
  /** Kind of failure; null = there was a decision. */
  readonly failure: string | null
}

/** One policy, ready to be asked. */
export interface Asker {
  /** One verdict for a call, one for each element of a list. */
  ask(question: InputQuestion): Promise<readonly AskedVerdict[]>
  close(): void
}

/** Opens a policy. Throws PolicyFault when it cannot be loaded. */
export async function createAsker(
  policy: CompiledPolicy,
  limits: PolicyLimits,
  monotonicMs: () => number,
): Promise<Asker> {
  let nowNs = 0n
  const room = await createPolicyRoom({
    ...{ policy, limits, monotonicMs },
    now: () => nowNs,
    // Nothing of it is stored.
    inputMacKey: Buffer.alloc(32),
    log: { warn: () => undefined, error: () => undefined },
  })
  return {
    async ask({ phase, facts, targets, ...question }) {
      nowNs = question.nowNs
      if (phase === 'call') {
        const { failure, ...decided } = room.decide(toAskedCall(facts))
        const { allow, allowedBy, deniedBy, limits: asked, obligations } = decided
        return [{ allow, allowedBy, deniedBy, limits: asked, obligations, failure: failure?.kind ?? null }]
      }
      const verdicts = await room.visible(toAskedCall({ ...facts, target: null }), targets)
      return verdicts.map(({ allow, allowedBy, deniedBy }) => ({
        ...{ allow, allowedBy, deniedBy, limits: [], obligations: [], failure: null },
      }))
    },
    close: () => room.close(),
  }
}

/** A question that two policies answer differently. */
export interface VerdictChange {
  /** Name of the question. */
  readonly name: string
  readonly before: readonly AskedVerdict[]
  readonly after: readonly AskedVerdict[]
}

/** Asks both; returns what they answer differently, in order. */
export async function compareVerdicts(
  questions: readonly { readonly name: string; readonly question: InputQuestion }[],
  before: Asker,
  after: Asker,
): Promise<readonly VerdictChange[]> {
  const changes: VerdictChange[] = []
  for (const { name, question } of questions) {
    const one = await before.ask(question)
    const other = await after.ask(question)
    if (JSON.stringify(one) !== JSON.stringify(other)) changes.push({ name, before: one, after: other })
  }
  return changes
}
