/** YAML text to values as OPA converts it: the first document, string keys, aliases and merges written out. */
import type { Document, Node, Pair, Scalar, YAMLMap } from 'yaml'
import { isAlias, isMap, isPair, isScalar, isSeq, parseAllDocuments } from 'yaml'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, boundElements, MAX_VALUE_DEPTH, spend } from './budget.ts'
import { formatFloat } from './float-text.ts'
import { integer, RegoNumber } from './number.ts'
import type { RegoValue } from './value.ts'
import { RegoObject } from './value.ts'
import { wellFormed } from './value-text.ts'
import type { PlainScalar } from './yaml-scalar.ts'
import { hasForbiddenCharacters, resolvePlain } from './yaml-scalar.ts'

const NS_PER_CHAR = 5_000
const NS_PER_NODE = 2_000
/** Longest text that is parsed; the parser's own work is not metered. */
const MAX_TEXT_CHARS = 65_536

const TAG_PREFIX = 'tag:yaml.org,2002:'

/**
 * The value of the first document; the others must be well-formed.
 *
 * @throws {BuiltinError} when the text is no YAML or has no place in JSON
 */
export function parseYaml(text: string, context: BuiltinContext): RegoValue {
  if (text.length > MAX_TEXT_CHARS) {
    throw new BuiltinLimitError('result_size', `YAML over ${MAX_TEXT_CHARS} characters`)
  }
  spend(context, NS_PER_CHAR * text.length)
  if (hasForbiddenCharacters(text)) throw new BuiltinError('control characters are not allowed')
  const documents = parseDocuments(text)
  const first = documents[0]?.contents ?? null
  return first === null ? null : new NodeReader(context).read(first, 0)
}

function parseDocuments(text: string): readonly Document.Parsed[] {
  try {
    // Scalars stay text: what they mean is decided here.
    const documents = parseAllDocuments(text, {
      schema: 'failsafe',
      uniqueKeys: false,
      logLevel: 'silent',
      prettyErrors: false,
    })
    if (!Array.isArray(documents)) return []
    const parsed: readonly Document.Parsed[] = documents
    if (parsed.some(({ errors }) => errors.length > 0)) throw new BuiltinError('not well-formed YAML')
    // go-yaml reads one version's directive only, whatever it then makes of the text.
    if (
      /^%YAML[ \t]+(?!1\.1(?:[ \t]|$))/m.test(text) &&
      parsed.some(({ directives }) => directives.yaml.explicit)
    ) {
      throw new BuiltinError('found incompatible YAML document')
    }
    return parsed
  } catch (thrown) {
    if (thrown instanceof RangeError) throw new BuiltinLimitError('value_depth', 'YAML nested too deeply')
    throw thrown
  }
}

class NodeReader {
  readonly #context: BuiltinContext
  readonly #anchors = new Map<string, Node>()
  /** Anchored nodes being read: an alias to one of them would not end. */
  readonly #open = new Set<Node>()
  #count = 0

  constructor(context: BuiltinContext) {
    this.#context = context
  }

  read(node: Node, depth: number): RegoValue {
    this.#visit(depth)
    if (isAlias(node)) return this.read(this.#target(node.source), depth + 1)
    if (isScalar(node)) {
      if (node.anchor !== undefined) this.#anchors.set(node.anchor, node)
      return readScalar(node)
    }
    if (!isMap(node) && !isSeq(node)) throw new BuiltinError('unsupported YAML node')
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node)
    this.#open.add(node)
    const value = isMap(node)
      ? this.#readMap(node, depth)
      : node.items.map((item) => this.#readItem(item, depth))
    this.#open.delete(node)
    return value
  }

  #visit(depth: number): void {
    spend(this.#context, NS_PER_NODE)
    this.#count += 1
    boundElements(this.#count)
    if (depth > MAX_VALUE_DEPTH) throw new BuiltinLimitError('value_depth', 'YAML nested too deeply')
  }

  #target(name: string): Node {
    const target = this.#anchors.get(name)
    if (target === undefined) throw new BuiltinError('unknown anchor')
    if (this.#open.has(target)) throw new BuiltinError('anchor value contains itself')
    return target
  }

  #readItem(item: unknown, depth: number): RegoValue {
    if (item === null || item === undefined) return null
    if (isPair(item)) throw new BuiltinError('unsupported YAML node')
    return this.read(item as Node, depth + 1)
  }

  #readMap(map: YAMLMap, depth: number): RegoObject {
    const object = new RegoObject()
    const merged: RegoObject[] = []
    for (const pair of map.items as readonly Pair<unknown, unknown>[]) {
      if (isMergeKey(pair.key)) merged.push(...this.#mergeSources(pair.value, depth))
      else object.set(this.#readKey(pair.key), this.#readItem(pair.value, depth))
    }
    for (const source of merged) {
      for (const [key, value] of source) if (!object.has(key)) object.set(key, value)
    }
    return object
  }

  #readKey(key: unknown): string {
    const node = isAlias(key) ? this.#target(key.source) : key
    if (node === null || node === undefined) throw new BuiltinError('unsupported map key of type null')
    if (!isScalar(node)) throw new BuiltinError('unsupported map key')
    if (node.anchor !== undefined) this.#anchors.set(node.anchor, node)
    return keyText(node)
  }

  /** The maps behind `<<`: one, or a list of them where the earlier wins. */
  #mergeSources(value: unknown, depth: number): readonly RegoObject[] {
    const read = this.#readItem(value, depth)
    const sources = Array.isArray(read) ? read : [read]
    return sources.map((source) => {
      if (source instanceof RegoObject) return source
      throw new BuiltinError('map merge requires map or sequence of maps as the value')
    })
  }
}

function isMergeKey(key: unknown): boolean {
  return isScalar(key) && key.type === 'PLAIN' && key.source === '<<' && key.tag === undefined
}

function textOf(scalar: Scalar): string {
  return wellFormed(scalar.source ?? String(scalar.value ?? ''))
}

function resolveScalar(scalar: Scalar): PlainScalar {
  const tag = scalar.tag?.replace(TAG_PREFIX, '!!')
  if (tag === undefined || tag === '') {
    return scalar.type === 'PLAIN' || scalar.type === undefined
      ? resolvePlain(textOf(scalar))
      : { kind: 'string' }
  }
  if (!['!!int', '!!float', '!!bool', '!!null'].includes(tag)) return { kind: 'string' }
  const resolved = resolvePlain(textOf(scalar))
  if (tag === '!!float' && resolved.kind === 'integer')
    return { kind: 'float', value: Number(resolved.value) }
  if (resolved.kind !== TAG_KINDS[tag]) throw new BuiltinError('value does not fit its tag')
  return resolved
}

const TAG_KINDS: Readonly<Record<string, string>> = {
  '!!int': 'integer',
  '!!float': 'float',
  '!!bool': 'boolean',
  '!!null': 'null',
}

function readScalar(scalar: Scalar): RegoValue {
  const resolved = resolveScalar(scalar)
  switch (resolved.kind) {
    case 'null':
      return null
    case 'boolean':
      return resolved.value
    case 'integer':
      return integer(resolved.value)
    case 'float':
      return new RegoNumber(Object.is(resolved.value, -0) ? '-0' : String(resolved.value))
    case 'infinite':
      throw new BuiltinError('unsupported value: not a finite number')
    case 'string':
      return binaryOrText(scalar)
    default:
      return resolved satisfies never
  }
}

function binaryOrText(scalar: Scalar): string {
  const text = textOf(scalar)
  if (scalar.tag !== `${TAG_PREFIX}binary`) return text
  const bytes = text.replace(/[\r\n]/g, '')
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(bytes) || bytes.length % 4 !== 0) {
    throw new BuiltinError('!!binary value contains invalid base64 data')
  }
  // In JSON bytes that are no UTF-8 become U+FFFD, so OPA sees the same.
  return Buffer.from(bytes, 'base64').toString('utf8')
}

function keyText(scalar: Scalar): string {
  const resolved = resolveScalar(scalar)
  switch (resolved.kind) {
    case 'boolean':
    case 'integer':
      return String(resolved.value)
    case 'float':
      return `${resolved.value < 0 ? '-' : ''}${formatFloat(Math.abs(resolved.value), 'g', -1)}`
    case 'null':
      throw new BuiltinError('unsupported map key of type null')
    case 'infinite':
      return textOf(scalar).toLowerCase().replace(/^\+/, '')
    default:
      return textOf(scalar)
  }
}
