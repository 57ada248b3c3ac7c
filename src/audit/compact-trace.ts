/**
 * The compact form of a trace: what the policy itself wrote is replaced by ids of its trace dictionary, which
 * `policy_revisions` keeps. The database expands it (`audit_trace`, `audit_decision`: src/db/migrations/0006-audit-storage.ts).
 *
 *     {"v": 1, "truncated": .., "dropped": .., "compact": [rule, ..]}
 *     rule   [words, outcome, [step, ..], more?]    outcome: 0 undefined, 1 defined, 2 aborted; null = member absent
 *     step   [words, ok, more?]                     ok: 0, 1; null = member absent
 *     words  id of the dictionary, or an object with the members that are not in it as they stand (cut, redacted)
 *     more   all other members under their own names; `vars` is left out when empty and null when absent,
 *            `reads` is [name, value, name, value, ..], names in `reads` and `missing` are indexes into the `reads` of the id
 */
import type { Part } from './compact-words.ts'
import { createWords } from './compact-words.ts'

type JsonObject = Readonly<Record<string, unknown>>

/** A coder for one dictionary: JSON text of a readable trace -> JSON text of its compact form. */
export type TraceCoder = (text: string) => string

const CODERS = new WeakMap<object, TraceCoder>()

/** From now on traces made with this very dictionary may be stored compactly. Call it when the database holds the dictionary. */
export function admitDictionary(dictionary: object): void {
  CODERS.set(dictionary, createTraceCoder(dictionary))
}

/** The trace compactly, or as it is when the database does not hold the dictionary. */
export function compactTrace(text: string, dictionary: object): string {
  return CODERS.get(dictionary)?.(text) ?? text
}

const OUTCOMES: readonly unknown[] = ['undefined', 'defined', 'aborted']
/** Numbers that JavaScript would write with other digits, and strings, which must not be taken for them. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g
const PLAIN_NUMBER = /^(?:0|-?[1-9]\d{0,14})$/
/** NUL stands in no stored text. */
const KEPT = /"\\u0000(-?[\d.eE+-]+)"/g

/** @param dictionary unchecked; what is not as it should be is not used */
export function createTraceCoder(dictionary: object): TraceCoder {
  const words = createWords(dictionary)

  const codeRule = ({ rule, at, title, outcome, steps, rules, ...rest }: JsonObject): readonly unknown[] => {
    const { ref } = words.rule({ rule, at, title })
    const head = [ref, codeOf(OUTCOMES, outcome), optional(steps, codeSteps) ?? null]
    return withMore(head, { ...rest, rules: optional(rules, codeRules) })
  }
  const codeStep = ({ at, expr, ok, vars, ...rest }: JsonObject): readonly unknown[] => {
    const { reads, missing, steps, rules, ...others } = rest
    const { ref, readAt } = words.step({ at, expr })
    return withMore([ref, codeOf([false, true], ok)], {
      ...others,
      vars: codeVars(vars),
      reads: optional(reads, (some) => (isObject(some) ? codeReads(some, readAt) : text(some))),
      missing: optional(missing, (some) => codeMissing(some, readAt)),
      steps: optional(steps, codeSteps),
      rules: optional(rules, codeRules),
    })
  }
  const codeRules = (list: unknown) => coded(list, codeRule)
  const codeSteps = (list: unknown) => coded(list, codeStep)
  return (readable) => {
    try {
      const { rules, ...rest } = parse(readable)
      return write({ ...rest, compact: codeRules(rules) })
    } catch (error) {
      // A trace that is not as traces are is kept as it is.
      if (error instanceof OddTrace) return readable
      throw error
    }
  }
}

/** The trace has a form that the compact one cannot express. */
class OddTrace extends Error {}

function coded(list: unknown, code: (one: JsonObject) => readonly unknown[]): readonly unknown[] {
  if (!Array.isArray(list)) throw new OddTrace()
  return list.map((one: unknown) => {
    if (!isObject(one)) throw new OddTrace()
    return code(one)
  })
}

function optional<T>(value: unknown, code: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : code(value)
}

function withMore(head: readonly unknown[], members: JsonObject): readonly unknown[] {
  const more = Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
  return Object.keys(more).length === 0 ? head : [...head, more]
}

/** Empty ones are left out, so that absent ones need a sign. */
function codeVars(vars: unknown): unknown {
  if (vars === null) throw new OddTrace()
  if (vars === undefined) return null
  return isObject(vars) && Object.keys(vars).length === 0 ? undefined : vars
}

/** Absent members are null; any other value would not come back. */
function codeOf(values: readonly unknown[], value: unknown): number | null {
  if (value === undefined) return null
  const at = values.indexOf(value)
  if (at < 0) throw new OddTrace()
  return at
}

type ReadAt = (name: string) => Part

function codeReads(reads: JsonObject, readAt: ReadAt): readonly unknown[] {
  return Object.entries(reads).flatMap(([name, value]) => [readAt(name), value])
}

function codeMissing(missing: unknown, readAt: ReadAt): readonly unknown[] {
  if (!Array.isArray(missing)) throw new OddTrace()
  return missing.map((name) => readAt(text(name)))
}

function text(value: unknown): string {
  if (typeof value !== 'string') throw new OddTrace()
  return value
}

function parse(json: string): JsonObject {
  const parsed: unknown = JSON.parse(json)
  const value = JSON.stringify(parsed) === json ? parsed : JSON.parse(json.replace(TOKENS, keepDigits))
  if (!isObject(value) || Object.hasOwn(value, 'compact')) throw new OddTrace()
  return value
}

function keepDigits(token: string): string {
  return token.startsWith('"') || PLAIN_NUMBER.test(token) ? token : `"\\u0000${token}"`
}

function write(value: unknown): string {
  return JSON.stringify(value).replace(KEPT, '$1')
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
