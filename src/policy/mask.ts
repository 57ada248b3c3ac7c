/**
 * What the policy's `mask` rules ask for: parts of the payloads that no row may hold. Elements are those of OPA's decision
 * log masks: a JSON Pointer, which is removed, or `{"op": "remove" | "upsert", "path": .., "value": ..}`.
 */
import type { Mask } from '../gateway/types.ts'
import { parsePointer, toPointer } from '../json/pointer.ts'
import { nameInDecision } from './product-module.ts'

/** The masks of one decision; `failure` says why they are not known. */
export interface Masks {
  readonly masks: readonly Mask[]
  readonly maskFailure: string | null
}

/** Nothing is masked. */
export const NO_MASKS: Masks = { masks: [], maskFailure: null }

const MAX_MASKS = 64
const MAX_PATH = 512
const MAX_SEGMENTS = 32
/** Characters of the JSON text that takes the place of a value. */
const MAX_VALUE = 4096

/** What may be masked: who called, what and when always stays. */
const ROOTS: readonly (readonly string[])[] = [
  ['arguments'],
  ['result'],
  ['client'],
  ['principal', 'claims'],
  ['target', 'annotations'],
]
const ROOT_RULE = `must begin with ${ROOTS.map((root) => `/${root.join('/')}`).join(', ')}`

/** Checks the masks of a decision. A wrong one makes all unknown: the others may be what it was meant to be. */
export function parseMasks(value: unknown): Masks {
  if (!Array.isArray(value)) return failed('mask', 'must be a list')
  if (value.length > MAX_MASKS) return failed('mask', `must have at most ${MAX_MASKS} elements`)
  const masks: Mask[] = []
  for (const [index, element] of value.entries()) {
    const mask = parseMask(element)
    if (typeof mask === 'string') return failed(`mask[${index}]`, mask)
    masks.push(mask)
  }
  return { masks, maskFailure: null }
}

/** A mask as policies write it: the bare path where that is enough. */
export function toMaskDocument({ op, path, json }: Mask): unknown {
  if (op === 'remove') return toPointer(path)
  return { op, path: toPointer(path), ...(json === undefined ? {} : { value: JSON.parse(json) as unknown }) }
}

/** Whether a rule of this path makes masks. */
export function isMaskRule(path: string): boolean {
  return nameInDecision(path) === 'mask'
}

/** The mask, or what is wrong with it. */
function parseMask(element: unknown): Mask | string {
  if (typeof element === 'string') return toMask({ op: 'remove', path: element })
  if (typeof element !== 'object' || element === null || Array.isArray(element)) {
    return 'must be a path, or an object with op and path'
  }
  return toMask(element as Readonly<Record<string, unknown>>)
}

function toMask(members: Readonly<Record<string, unknown>>): Mask | string {
  const { op, path: text, value } = members
  const strange = Object.keys(members).some((name) => !['op', 'path', 'value'].includes(name))
  if (strange) return 'has a member that nothing is known of'
  if (op !== 'remove' && op !== 'upsert') return 'op must be "remove" or "upsert"'
  if (typeof text !== 'string') return 'path must be a string'
  const path = pathOf(text)
  if (typeof path === 'string') return path
  if (op === 'remove') return value === undefined ? { op, path } : 'op "remove" takes no value'
  if (value === undefined) return 'op "upsert" needs a value'
  const json = JSON.stringify(value)
  return json.length <= MAX_VALUE ? { op, path, json } : `value must have at most ${MAX_VALUE} characters`
}

/** The path from the input document on, or what is wrong with it. OPA's `/input` in front is understood. */
function pathOf(text: string): readonly string[] | string {
  if (text.length > MAX_PATH) return `path must have at most ${MAX_PATH} characters`
  const tokens = parsePointer(text)
  if (tokens === null || tokens.length === 0) return 'path must be a JSON Pointer such as /arguments/ssn'
  const path = tokens[0] === 'input' ? tokens.slice(1) : tokens
  if (path.length > MAX_SEGMENTS) return `path must have at most ${MAX_SEGMENTS} segments`
  const isAllowed = ROOTS.some((root) => root.every((token, index) => path[index] === token))
  return isAllowed ? path : `path ${ROOT_RULE}`
}

function failed(place: string, problem: string): Masks {
  return { masks: [], maskFailure: `${place} ${problem}` }
}
