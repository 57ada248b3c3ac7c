/**
 * Whether a call rebuilt from its row is the one that was decided. The row holds a keyed digest of the exact bytes, but
 * PostgreSQL forgets white space and the order of members, neither of which a policy can see: orders are tried, within bounds.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import { toAskedCall } from './asked-call.ts'
import { toPolicyInput } from './input.ts'
import type { InputQuestion } from './input-document.ts'

/** Digests that are computed at most. */
const MAX_TRIES = 20_000
/** More members than this are tried in one order only. */
const MAX_MEMBERS = 5

/** True: these are the very values that were decided on. False: something differs, or stood in an order that was not tried. */
export function confirmInput(
  question: InputQuestion,
  inputMac: string,
  key: Buffer,
  maxBytes: number,
): boolean {
  const wanted = Buffer.from(inputMac, 'hex')
  let tries = 0
  for (const variant of variants(question)) {
    tries += 1
    if (tries > MAX_TRIES) return false
    const { bytes } = toPolicyInput(
      toAskedCall(variant.facts),
      { phase: 'call' },
      { nowNs: variant.nowNs, maxBytes },
    )
    const mac = createHmac('sha256', key).update(bytes).digest()
    if (mac.length === wanted.length && timingSafeEqual(mac, wanted)) return true
  }
  return false
}

/** The question with the members of arguments, claims, annotations and labels in other orders. */
function* variants(question: InputQuestion): Generator<InputQuestion> {
  const { principal, server, target, argumentsText } = question.facts
  const parts = [
    argumentsText,
    JSON.stringify(principal.claims),
    JSON.stringify(target?.annotations ?? {}),
    JSON.stringify(server.labels),
  ]
  for (const [args = null, claims, annotations, labels] of combinations(parts)) {
    const parsed = (json: string | null | undefined) => JSON.parse(json ?? '{}')
    const facts = {
      ...question.facts,
      argumentsText: args,
      principal: { ...principal, claims: parsed(claims) },
      server: { ...server, labels: parsed(labels) },
      target: target === null ? null : { ...target, annotations: parsed(annotations) },
    }
    yield { ...question, facts }
  }
}

/** Every order of each with every order of the others. */
function* combinations(parts: readonly (string | null)[]): Generator<readonly (string | null)[]> {
  const [first, ...rest] = parts
  if (first === undefined) {
    yield []
    return
  }
  for (const one of orders(first)) for (const others of combinations(rest)) yield [one, ...others]
}

/** A JSON text without white space, the members of its outermost object in every order. */
function* orders(json: string | null): Generator<string | null> {
  if (json === null) {
    yield null
    return
  }
  const text = compact(json)
  if (!text.startsWith('{')) {
    yield text
    return
  }
  const members = [...objectMembers(text, rootSpan(text))].map(
    ([name, span]) => `${JSON.stringify(name)}:${sliceOf(text, span)}`,
  )
  const all = members.length > MAX_MEMBERS ? [members] : permutations(members)
  for (const order of all) yield `{${order.join(',')}}`
}

function* permutations<T>(items: readonly T[]): Generator<readonly T[]> {
  if (items.length <= 1) {
    yield items
    return
  }
  for (const [index, item] of items.entries()) {
    for (const rest of permutations(items.filter((_, other) => other !== index))) yield [item, ...rest]
  }
}

const TOKEN_OR_SPACE = /"(?:[^"\\]|\\.)*"|\s+/g

function compact(json: string): string {
  return json.replace(TOKEN_OR_SPACE, (token) => (token.startsWith('"') ? token : ''))
}
