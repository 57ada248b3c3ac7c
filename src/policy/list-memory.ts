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
  /** The verdict on the element of which the rules read this text. */
  get(elementText: string): Verdict | undefined
  set(elementText: string, verdict: Verdict): void
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
    const question = this.questions.get(key) ?? { characters: 0, verdicts: new Map() }
    this.questions.delete(key)
    this.questions.set(key, question)
    if (question.characters === 0) this.grow(question, key.length)
    return {
      get: (elementText) => question.verdicts.get(elementText),
      set: (elementText, verdict) => {
        // Forgotten in the meantime: another list may be under way at the same time.
        if (this.questions.get(key) !== question || question.verdicts.has(elementText)) return
        question.verdicts.set(elementText, verdict)
        this.grow(question, elementText.length)
      },
    }
  }

  private grow(question: Question, characters: number): void {
    question.characters += characters + OVERHEAD
    this.characters += characters + OVERHEAD
    for (const [oldest, { characters: freed }] of this.questions) {
      if (this.characters <= this.maxCharacters) return
      this.questions.delete(oldest)
      this.characters -= freed
    }
  }
}

interface Question {
  /** What it takes of the bound. */
  characters: number
  /** JSON text of the element -> verdict. */
  readonly verdicts: Map<string, Verdict>
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
