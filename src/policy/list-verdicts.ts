/**
 * The verdicts on the elements of one list: those that are remembered, and in groups, with other calls in between, those
 * that have to be asked for. What is wrong with a group denies all of it, and says so in the log.
 */
import { setImmediate } from 'node:timers/promises'
import type { Call, Target, TargetVerdict } from '../gateway/types.ts'
import type { Verdict } from './decision.ts'
import type { PolicyInput } from './input.ts'
import { targetText, toPolicyInput } from './input.ts'
import type { ListMemory, RememberedVerdicts } from './list-memory.ts'

/** What judging a list needs of the room. */
export interface ListJudgeOptions {
  /** null = nothing is remembered. */
  readonly memory: ListMemory | null
  /** Most targets of one evaluation. */
  readonly maxTargets: number
  readonly maxInputBytes: number
  /** The clock, nanoseconds since the epoch. */
  readonly nowNs: bigint
  /** Throws when nothing is to be decided any more. */
  assertOpen(): void
  /** One verdict per target, and whether any of them depends on the clock. Rejects when there are none. */
  ask(
    input: PolicyInput,
    targets: readonly Target[],
  ): Promise<{ readonly verdicts: readonly Verdict[]; readonly readClock: boolean }>
  /** These elements are denied for what was thrown; returns the reason. */
  refuse(thrown: unknown, count: number): string
}

/** An element that has to be judged. */
interface Listed {
  readonly index: number
  readonly target: Target
  /** As it stands in the input. */
  readonly text: string
}

/** Elements that are looked up at a time. */
const MAX_LOOKED_UP = 1024
const DENIED: Verdict = { allow: false, allowedBy: [], deniedBy: [] }

/** One verdict per target, in their order. Never rejects. */
export async function judgeList(
  call: Call,
  targets: readonly Target[],
  options: ListJudgeOptions,
): Promise<readonly TargetVerdict[]> {
  const list = new List(call, options)
  const verdicts = targets.map((target) => verdictOn(target, DENIED))
  let waiting: Listed[] = []
  let bytes = 0
  for (const [index, target] of targets.entries()) {
    if (index > 0 && index % MAX_LOOKED_UP === 0) await setImmediate()
    const text = targetText(target)
    const known = list.remembered(text)
    if (known !== undefined) {
      verdicts[index] = verdictOn(target, known)
      continue
    }
    const size = Buffer.byteLength(text) + 1
    if (waiting.length === options.maxTargets || (waiting.length > 0 && bytes + size > list.maxBytes)) {
      await list.judge(waiting, verdicts)
      await setImmediate()
      waiting = []
      bytes = 0
    }
    waiting.push({ index, target, text })
    bytes += size
  }
  if (waiting.length > 0) await list.judge(waiting, verdicts)
  return verdicts
}

class List {
  /** The most bytes that several targets of one evaluation take. */
  readonly maxBytes: number
  private readonly call: Call
  private readonly options: ListJudgeOptions
  private readonly memory: RememberedVerdicts | null

  constructor(call: Call, options: ListJudgeOptions) {
    this.call = call
    this.options = options
    this.maxBytes = options.maxInputBytes / 2
    this.memory = this.recall()
  }

  remembered(text: string): Verdict | undefined {
    try {
      this.options.assertOpen()
      return this.memory?.get(text)
    } catch {
      return undefined // judging says why
    }
  }

  async judge(group: readonly Listed[], verdicts: TargetVerdict[]): Promise<void> {
    const judged = await this.ask(group)
    for (const [at, { index, target }] of group.entries())
      verdicts[index] = verdictOn(target, judged[at] ?? DENIED)
  }

  /**
   * A verdict is remembered when it would come out in any group: rest of the input and element are far from the bound of the
   * input, and nothing has asked what time it is.
   */
  private recall(): RememberedVerdicts | null {
    const { memory } = this.options
    if (memory === null) return null
    try {
      const { headText } = this.inputOf([])
      return Buffer.byteLength(headText) > this.maxBytes ? null : memory.about(headText)
    } catch {
      return null // judging says why
    }
  }

  private async ask(group: readonly Listed[]): Promise<readonly Verdict[]> {
    try {
      this.options.assertOpen()
      const targets = group.map(({ target }) => target)
      const input = this.inputOf(targets)
      if (input.fault !== null) throw input.fault
      const { verdicts, readClock } = await this.options.ask(input, targets)
      if (!readClock) this.remember(group, verdicts)
      return verdicts
    } catch (thrown) {
      const reason = this.options.refuse(thrown, group.length)
      return group.map(() => ({ ...DENIED, deniedBy: [reason] }))
    }
  }

  private remember(group: readonly Listed[], verdicts: readonly Verdict[]): void {
    for (const [at, { text }] of group.entries()) {
      const verdict = verdicts[at]
      if (verdict !== undefined && Buffer.byteLength(text) <= this.maxBytes) this.memory?.set(text, verdict)
    }
  }

  private inputOf(targets: readonly Target[]): PolicyInput {
    const { nowNs, maxInputBytes } = this.options
    return toPolicyInput(this.call, { phase: 'list', targets }, { nowNs, maxBytes: maxInputBytes })
  }
}

function verdictOn({ name }: Target, { allow, allowedBy, deniedBy }: Verdict): TargetVerdict {
  return { name, allow, allowedBy, deniedBy }
}
