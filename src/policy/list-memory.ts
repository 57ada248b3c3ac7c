/**
 * Verdicts on elements of lists, kept so that the same question is not asked again. A verdict depends on the policy, on the
 * element and on what the rules read of the rest of the input; the module itself says what that is (`LIST_READS`). Policies
 * whose rules read what is new with every call, or all of the input, have no memory.
 */
import { findValue, sliceOf } from '../json/span.ts'
import type { Verdict } from './decision.ts'
import type { FieldPath } from './list-reads.ts'

/** What is remembered of one question: the same principal, upstream and the like, as far as rules read them. */
export interface RememberedVerdicts {
  /** The verdict on the element with this name, and of which rules read this besides (see `Projection`). */
  get(name: string, rest: string): Verdict | undefined
  set(name: string, rest: string, verdict: Verdict): void
}

/** The memory of one loaded policy. */
export interface ListMemory {
  /** @param headText JSON text of the input with what all elements share, and without elements */
  about(headText: string): RememberedVerdicts
}

/** Fields that differ from call to call, and the elements of the list, which a verdict on one of them must not depend on. */
const NEVER_THE_SAME: readonly FieldPath[] = [
  ['request', 'id'],
  ['request', 'time'],
  ['request', 'now_ns'],
  ['targets'],
]

/** What all elements that are asked about together have in common. */
const SHARED: FieldPath = ['target', 'kind']

/** What an entry and a question take besides their texts, about, in characters. */
const OVERHEAD = 256

/**
 * @param reads the value of `LIST_READS` in the module; null = nobody knows
 * @param maxCharacters bound of all texts together; when it is reached, the questions asked longest ago are forgotten
 * @returns null when nothing can be remembered
 */
export function createListMemory(
  reads: readonly FieldPath[] | null,
  maxCharacters: number,
): ListMemory | null {
  if (maxCharacters <= 0 || reads === null) return null
  if (reads.some((path) => NEVER_THE_SAME.some((other) => overlap(path, other)))) return null
  return new Memory(
    reads.filter((path) => path[0] !== 'target' || overlap(path, SHARED)),
    maxCharacters,
  )
}

class Memory implements ListMemory {
  private readonly paths: readonly FieldPath[]
  private readonly maxCharacters: number
  /** The one asked about last stands last. */
  private readonly questions = new Map<string, Question>()
  private characters = 0

  constructor(paths: readonly FieldPath[], maxCharacters: number) {
    this.paths = paths
    this.maxCharacters = maxCharacters
  }

  about(headText: string): RememberedVerdicts {
    const key = this.paths.map((path) => valueAt(headText, path)).join('\n')
    const question = this.questions.get(key) ?? { characters: 0, isForgotten: false, verdicts: new Map() }
    this.questions.delete(key)
    this.questions.set(key, question)
    if (question.characters === 0) this.grow(question, key.length)
    return {
      get: (name, rest) => question.verdicts.get(rest)?.get(name),
      set: (name, rest, verdict) => {
        // Forgotten in the meantime: another list may be under way at the same time.
        if (question.isForgotten) return
        const alike = question.verdicts.get(rest) ?? new Map<string, Verdict>()
        if (alike.size === 0) question.verdicts.set(rest, alike)
        const { size } = alike
        if (alike.set(name, verdict).size > size) this.grow(question, name.length + rest.length)
      },
    }
  }

  private grow(question: Question, characters: number): void {
    question.characters += characters + OVERHEAD
    this.characters += characters + OVERHEAD
    if (this.characters > this.maxCharacters) this.forget()
  }

  private forget(): void {
    for (const [key, oldest] of this.questions) {
      this.questions.delete(key)
      this.characters -= oldest.characters
      oldest.isForgotten = true
      if (this.characters <= this.maxCharacters) return
    }
  }
}

interface Question {
  /** What it takes of the bound. */
  characters: number
  isForgotten: boolean
  /** What rules read of elements -> their names -> verdicts. */
  readonly verdicts: Map<string, Map<string, Verdict>>
}

/** The text of a field with the digits of its numbers; '' when there is none. No JSON text holds a line end. */
function valueAt(text: string, path: FieldPath): string {
  const span = findValue(text, path)
  return span === null ? '' : sliceOf(text, span)
}

/** Whether one of them contains the other. */
function overlap(a: FieldPath, b: FieldPath): boolean {
  const shorter = Math.min(a.length, b.length)
  return a.slice(0, shorter).every((name, at) => name === b[at])
}
