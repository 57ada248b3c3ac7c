/** Looking up what a reference read: in JSON text, where numbers keep their digits, or in the policy's own data. */
import type { Span } from '../json/span.ts'
import { findValue, objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import type { JsonObject } from './build-data.ts'
import { cutJsonText } from './trace-value.ts'

/** A step of a reference: member of an object, or element of an array. */
export type Step = string | number

/** Where references can be looked up. */
export interface LookupDocument {
  /** The JSON text of the value at `path`; undefined when there is none, null when finding out costs too much. */
  at(path: Path): string | undefined | null
}

/** The steps to a value, and what tells them from all others. */
export interface Path {
  readonly steps: readonly Step[]
  readonly key: string
}

export function toPath(steps: readonly Step[]): Path {
  return { steps, key: JSON.stringify(steps) }
}

/** Characters that may still be passed over; shared by the documents of one trace. */
export interface LookupBudget {
  characters: number
}

/** Looks up in a JSON text. Each path is looked up once. */
export function createTextDocument(text: string, budget: LookupBudget): LookupDocument {
  const known = new Map<string, string | undefined>()
  let members: ReadonlyMap<string, Span> | null = null
  const find = ([first, ...rest]: readonly Step[]): Span | null => {
    if (typeof first !== 'string') return findValue(text, first === undefined ? [] : [first, ...rest])
    members ??= objectMembers(text, rootSpan(text))
    const member = members.get(first)
    return member === undefined ? null : findValue(text, rest, member)
  }
  return {
    at({ steps, key }) {
      if (known.has(key)) return known.get(key)
      if (budget.characters < text.length) return null
      budget.characters -= text.length
      const span = find(steps)
      const value = span === null ? undefined : sliceOf(text, span)
      known.set(key, value)
      return value
    },
  }
}

/** Longest text of a value of the data; what is longer is cut. */
const MAX_DATA_VALUE = 4096
const MAX_KNOWN = 1000

/** Looks up in the base documents of a policy. Texts are kept, for they are the same in every trace. */
export function createDataDocument(data: JsonObject): LookupDocument {
  const known = new Map<string, string | undefined>()
  return {
    at({ steps, key }) {
      if (known.has(key)) return known.get(key)
      const value = steps.reduce<unknown>(member, data)
      const text = value === undefined ? undefined : cutJsonText(JSON.stringify(value), MAX_DATA_VALUE)
      if (known.size < MAX_KNOWN) known.set(key, text)
      return text
    },
  }
}

function member(value: unknown, step: Step): unknown {
  if (typeof value !== 'object' || value === null) return undefined
  const isPlace = Array.isArray(value) === (typeof step === 'number')
  return isPlace && Object.hasOwn(value, step) ? (value as Record<Step, unknown>)[step] : undefined
}
