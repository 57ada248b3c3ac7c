/** Why a case or a place in a trace is not the same in Wasm and topdown: every known cause, with what can be done. */
import { RegoNumber } from '../../../src/policy/builtins/number.ts'
import type { RegoValue } from '../../../src/policy/builtins/value.ts'
import { isArray, RegoObject, RegoSet } from '../../../src/policy/builtins/value.ts'
import { sameAsJson } from '../../../src/policy/testing/same-value.ts'
import type { StepDifference } from './steps.ts'
import type { Outcome } from './three-ways.ts'

/** A known limit. */
export interface Cause {
  readonly title: string
  readonly reason: string
  readonly alternative: string
  readonly link: string
}

const WASM_DOCS = 'https://www.openpolicyagent.org/docs/wasm'

const BYTES: Cause = {
  title: 'strings that are not UTF-8',
  reason:
    'the border to Wasm carries text; a builtin that would return other bytes ends the evaluation, so the call is denied',
  alternative: 'compare the encoded text (base64, hex) instead of the decoded bytes',
  link: WASM_DOCS,
}

const LITERAL: Cause = {
  title: 'a set written with variables',
  reason:
    'topdown goes through `{x, 1}` as it is written, twice when `x` is 1; Wasm goes through the set that it is, in its order',
  alternative: 'none needed',
  link: 'https://www.openpolicyagent.org/docs/policy-language#sets',
}

/** All of them that are known. */
export const OUTCOME_CAUSES: readonly Cause[] = [BYTES, LITERAL]

/** Why two outcomes differ; null = nobody knows, so it is a fault. */
export function outcomeCause(wasm: Outcome): Cause | null {
  if (wasm.kind === 'error' && /no UTF-8|not UTF-8|not ASCII apart/.test(wasm.message)) return BYTES
  return null
}

/** Equality of values whose arrays may have any order. */
export function sameUnordered(a: RegoValue, b: RegoValue): boolean {
  return sameAsJson(unordered(a), unordered(b))
}

function unordered(value: RegoValue): RegoValue {
  if (isArray(value) || value instanceof RegoSet) {
    const counted = new RegoObject()
    for (const element of value) {
      const key = unordered(element)
      counted.set(key, [...elementsOf(counted.get(key)), null])
    }
    return counted
  }
  // The text of a set or object, in an interpolated string.
  if (typeof value === 'string') return /[[{]/.test(value) ? Array.from(value).sort().join('') : value
  // One spelling for equal numbers.
  if (value instanceof RegoNumber && value.parts.sign !== 0) {
    const { sign, digits, scale } = value.parts
    return new RegoNumber(`${sign < 0 ? '-' : ''}0.${digits}e${scale}`)
  }
  if (!(value instanceof RegoObject)) return value
  return new RegoObject([...value].map(([key, member]) => [key, unordered(member)] as const))
}

function elementsOf(value: RegoValue | undefined): readonly RegoValue[] {
  return isArray(value) ? value : []
}

const TRACE_DOCS = 'https://www.openpolicyagent.org/docs/policy-language'
const BOUND_KEY: Cause = {
  title: 'a document asked for by key',
  reason:
    'topdown hands a known key to a definition before its body runs, and tries only what can give it; Wasm evaluates the whole document',
  alternative: 'the trace shows more than topdown looked at; the value is the same',
  link: WASM_DOCS,
}
const PATTERN: Cause = {
  title: 'an argument that does not match',
  reason:
    'a function definition whose argument pattern does not match is left before its body, so no probe tells of it',
  alternative: 'write the pattern as an expression of the body to see it fail',
  link: TRACE_DOCS,
}
const DOMAIN: Cause = {
  title: 'an `every` over nothing',
  reason:
    'topdown evaluates the domain as an expression of its own; the trace counts it as a part of the `every`, which failed',
  alternative: 'none needed: the trace names the domain as missing',
  link: TRACE_DOCS,
}
const GOES_ON: Cause = {
  title: 'an `every` that has failed',
  reason: 'Wasm looks at all elements, topdown stops behind the first that fails',
  alternative: 'the trace shows more elements than topdown looked at; the value is the same',
  link: WASM_DOCS,
}
const UNUSED: Cause = {
  title: 'a comprehension nobody uses',
  reason: 'a comprehension is defined whatever its body does, so Wasm leaves the body of an unused one out',
  alternative: 'none needed',
  link: WASM_DOCS,
}

/** Why the traces differ at a place; null = nobody knows. */
export function stepCause(
  difference: StepDifference,
  sources: Readonly<Record<string, string>>,
): Cause | null {
  const { kind, text, wasm, topdown } = difference
  const lines = sourceLines(difference, sources)
  if (kind === 'rule' && wasm === 'not reached' && topdown === 'failed' && /^[\w.]+\(/.test(text))
    return PATTERN
  if (kind === 'expr' && text.startsWith('every ') && wasm === 'failed' && topdown === 'not reached')
    return DOMAIN
  if (
    kind === 'expr' &&
    wasm !== 'not reached' &&
    topdown !== 'succeeded' &&
    lines.some((line) => /\bevery\b/.test(line))
  )
    return GOES_ON
  if (kind === 'expr' && wasm === 'not reached' && lines.some((line) => /^\s*[[{].*\|/.test(line)))
    return UNUSED
  if (wasm !== 'not reached' && lines.some((line) => PARTIAL_HEAD.test(line))) return BOUND_KEY
  return null
}

/** A partial set or object, or a reference with a variable in it. */
const PARTIAL_HEAD = /^(?:[\w.]+ contains |[\w.]+\[)/

/** The line of the place and those above it, up to the beginning of its definition. */
function sourceLines({ at }: StepDifference, sources: Readonly<Record<string, string>>): readonly string[] {
  const [file = '', row = '1'] = at.split(':')
  const lines = (sources[file] ?? '').split('\n').slice(0, Number(row))
  const start = lines.findLastIndex((line) => /^[A-Za-z_]/.test(line))
  return lines.slice(Math.max(start, 0)).reverse()
}
