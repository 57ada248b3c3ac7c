/**
 * The verdicts on the elements of one list: those that are remembered, and in groups of one kind, with other calls in between,
 * those that have to be asked for. What is wrong with a group denies all of it, and says so in the log.
 */
import { setImmediate } from 'node:timers/promises'
import type { Call, Target, TargetKind, TargetVerdict } from '../gateway/types.ts'
import type { Verdict } from './decision.ts'
import type { InputSubject, PolicyInput } from './input.ts'
import { targetText, toPolicyInput } from './input.ts'
import type { ListMemory, RememberedVerdicts } from './list-memory.ts'
import type { Projection } from './list-reads.ts'
import { elementText } from './list-reads.ts'

/** What judging a list needs of the room. */
export interface ListJudgeOptions {
  /** null = nothing is remembered. */
  readonly memory: ListMemory | null
  readonly projection: Projection
  /** Most targets of one evaluation. */
  readonly maxTargets: number
  readonly maxInputBytes: number
  /** The clock, nanoseconds since the epoch. */
  readonly nowNs: bigint
  /** Throws when nothing is to be decided any more. */
  assertOpen(): void
  /** One verdict per target, and whether any of them depends on the clock. Rejects when there are none. */
  ask(question: ListQuestion): Promise<{ readonly verdicts: readonly Verdict[]; readonly readClock: boolean }>
  /** These elements are denied for what was thrown; returns the reason. */
  refuse(thrown: unknown, count: number): string
}

/** A group of targets, and the inputs of the two ways to ask about it. */
export interface ListQuestion {
  readonly targets: readonly Target[]
  /** Of all at once: what the rules read of each. */
  atOnce(): PolicyInput
  /** Of one after the other. Throws PolicyFault when it is too large. */
  oneByOne(): PolicyInput
}

/** An element that has to be judged. */
interface Listed {
  readonly index: number
  readonly target: Target
  /** What the rules read of it besides name and kind. */
  readonly rest: string
  readonly isSmall: boolean
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
  const verdicts = new Array<TargetVerdict>(targets.length)
  const groups = new Map<TargetKind, Group>()
  let isFirst = true
  const judge = async (group: Group): Promise<void> => {
    if (!isFirst) await setImmediate()
    isFirst = false
    await group.judge(verdicts)
  }
  let index = -1
  for (const target of targets) {
    index += 1
    if (index > 0 && index % MAX_LOOKED_UP === 0) await setImmediate()
    const group = groups.get(target.kind) ?? new Group(call, target.kind, options)
    groups.set(target.kind, group)
    if (group.add(index, target, verdicts)) continue
    await judge(group)
    group.add(index, target, verdicts)
  }
  for (const group of groups.values()) await judge(group)
  return verdicts
}

/** Targets of one kind that wait until they are judged together. */
class Group {
  /** The most bytes that several targets of one evaluation take. */
  private readonly maxBytes: number
  private readonly call: Call
  private readonly kind: TargetKind
  private readonly options: ListJudgeOptions
  /** Whether the rest of the input leaves room for a group of any targets. */
  private readonly isRoomy: boolean
  private readonly memory: RememberedVerdicts | null
  private waiting: Listed[] = []
  private bytes = 0

  constructor(call: Call, kind: TargetKind, options: ListJudgeOptions) {
    this.call = call
    this.kind = kind
    this.options = options
    this.maxBytes = options.maxInputBytes / 2
    const head = this.head()
    this.isRoomy = head !== null && Buffer.byteLength(head) <= this.maxBytes
    // A verdict is remembered when it would come out in any group, and nothing has asked what time it is.
    this.memory = this.isRoomy && head !== null ? (options.memory?.about(head) ?? null) : null
  }

  /** Finds the verdict on a target, or has it wait. Returns false when there is no room for it before the others are judged. */
  add(index: number, target: Target, verdicts: TargetVerdict[]): boolean {
    const bytes = mostBytes(target)
    const isSmall = bytes <= this.maxBytes
    const rest = this.options.projection(target)
    const known = isSmall ? this.remembered(target.name, rest) : undefined
    if (known !== undefined) {
      verdicts[index] = verdictOn(target, known)
      return true
    }
    const { length } = this.waiting
    if (length === this.options.maxTargets || (length > 0 && this.bytes + bytes > this.maxBytes)) return false
    this.waiting.push({ index, target, rest, isSmall })
    this.bytes += bytes
    return true
  }

  async judge(verdicts: TargetVerdict[]): Promise<void> {
    const { waiting } = this
    if (waiting.length === 0) return
    this.waiting = []
    this.bytes = 0
    const judged = await this.ask(waiting)
    waiting.forEach(({ index, target }, at) => {
      verdicts[index] = verdictOn(target, judged[at] ?? DENIED)
    })
  }

  private remembered(name: string, rest: string): Verdict | undefined {
    try {
      this.options.assertOpen()
      return this.memory?.get(name, rest)
    } catch {
      return undefined // judging says why
    }
  }

  /** The input without elements; null when there is none. */
  private head(): string | null {
    try {
      return this.inputOf({ phase: 'list', kind: this.kind, elements: [] }).headText
    } catch {
      return null // judging says why
    }
  }

  private async ask(waiting: readonly Listed[]): Promise<readonly Verdict[]> {
    try {
      this.options.assertOpen()
      const { verdicts, readClock } = await this.options.ask(this.questionOf(waiting))
      if (!readClock) this.remember(waiting, verdicts)
      return verdicts
    } catch (thrown) {
      const reason = this.options.refuse(thrown, waiting.length)
      return waiting.map(() => ({ ...DENIED, deniedBy: [reason] }))
    }
  }

  private questionOf(waiting: readonly Listed[]): ListQuestion {
    const targets = waiting.map(({ target }) => target)
    const oneByOne = (): PolicyInput => {
      const input = this.inputOf({ phase: 'list', targets })
      if (input.fault !== null) throw input.fault
      return input
    }
    // What is left out of an input counts for its bound: it does of a call to one of the targets.
    if (!this.isRoomy || waiting.some(({ isSmall }) => !isSmall)) oneByOne()
    const elements = waiting.map(({ target, rest }) => elementText(target.name, rest))
    const atOnce = () => this.inputOf({ phase: 'list', kind: this.kind, elements })
    return { targets, atOnce, oneByOne }
  }

  private remember(waiting: readonly Listed[], verdicts: readonly Verdict[]): void {
    waiting.forEach(({ target, rest, isSmall }, at) => {
      const verdict = verdicts[at]
      if (verdict !== undefined && isSmall) this.memory?.set(target.name, rest, verdict)
    })
  }

  private inputOf(subject: InputSubject): PolicyInput {
    const { nowNs, maxInputBytes } = this.options
    return toPolicyInput(this.call, subject, { nowNs, maxBytes: maxInputBytes })
  }
}

/** Up to here an estimate will do. */
const FEW_BYTES = 1024
/** Of a character in a JSON text: an escape. */
const MOST_BYTES = 6
/** The names of a target's members, and its kind. */
const TARGET_BYTES = 80
/** A number or a word, and the punctuation of its member. */
const SCALAR_BYTES = 30

/** The most bytes that a target takes in an input; exact when there are many. */
function mostBytes(target: Target): number {
  const { name, annotations, schemaDigest } = target
  let bytes = TARGET_BYTES + MOST_BYTES * (name.length + (schemaDigest?.length ?? 0))
  for (const key of Object.keys(annotations)) {
    const value = annotations[key]
    if (typeof value === 'object' && value !== null) return exactBytes(target)
    bytes += SCALAR_BYTES + MOST_BYTES * (key.length + (typeof value === 'string' ? value.length : 0))
  }
  return bytes <= FEW_BYTES ? bytes : exactBytes(target)
}

/** With the comma before the next one. */
function exactBytes(target: Target): number {
  return Buffer.byteLength(targetText(target)) + 1
}

function verdictOn({ name }: Target, { allow, allowedBy, deniedBy }: Verdict): TargetVerdict {
  return { name, allow, allowedBy, deniedBy }
}
