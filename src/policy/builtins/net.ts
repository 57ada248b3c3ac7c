/**
 * `net.cidr_*`: OPA v1/topdown/cidr.go, whose corner cases are those of Go's `net` package. An address is a 128-bit
 * number; IPv4 lives in ::ffff:0:0/96, and Go treats an address written that way as IPv4 too.
 */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundElements, spend } from './budget.ts'
import { integer } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { elementsOperand, stringOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet } from './value.ts'

/** A network as Go's `IPNet`: `wide` tells an IPv6 mask from an IPv4 one (a mapped address may have either). */
interface Network {
  readonly base: bigint
  readonly prefix: number
  readonly wide: boolean
}

const NS_PER_PARSE = 1_500
const NS_PER_TEST = 400
const MAPPED = 0xffffn << 32n
const ALL_ONES = (1n << 128n) - 1n

function isV4(address: bigint): boolean {
  return address >> 32n === 0xffffn
}

/** The address, or undefined when Go's `netip.ParseAddr` refuses the text (zones are refused as well). */
function parseAddress(text: string): bigint | undefined {
  if (text.includes(':')) return parseV6(text)
  const v4 = parseV4(text)
  return v4 === undefined ? undefined : MAPPED | v4
}

function parseV4(text: string): bigint | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return undefined
  let value = 0n
  for (const digits of match.slice(1)) {
    if (Number(digits) > 255 || (digits.length > 1 && digits.startsWith('0'))) return undefined
    value = (value << 8n) | BigInt(digits)
  }
  return value
}

function parseV6(text: string): bigint | undefined {
  if (text.length > 45) return undefined
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = halves.map((half, at) => parseGroups(half, at === halves.length - 1))
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined
  const missing = 8 - head.length - (tail?.length ?? 0)
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  const groups = [...head, ...Array.from({ length: missing }, () => 0), ...(tail ?? [])]
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n)
}

/** The 16-bit groups of one side of `::`; the last may be written as an IPv4 address. */
function parseGroups(text: string, last: boolean): readonly number[] | undefined {
  if (text === '') return []
  const groups: number[] = []
  const fields = text.split(':')
  for (const [at, field] of fields.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(field)) {
      groups.push(Number.parseInt(field, 16))
      continue
    }
    const v4 = last && at === fields.length - 1 ? parseV4(field) : undefined
    if (v4 === undefined) return undefined
    groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn))
  }
  return groups
}

/** Whether the text is an IPv4 or IPv6 address without a zone. */
export function isAddress(text: string): boolean {
  return parseAddress(text) !== undefined
}

/** Whether the text is an IPv6 address (mapped ones count) without a zone. */
export function isIpv6Literal(text: string): boolean {
  return text.includes(':') && parseAddress(text) !== undefined
}

function parseCidr(text: string): { network: Network; address: bigint } | undefined {
  const slash = text.indexOf('/')
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (address === undefined || !/^\d+$/.test(digits)) return undefined
  const wide = text.slice(0, slash).includes(':')
  // Go counts leading zeros as digits of a bounded number: any count of them is fine.
  const prefix = Number(digits)
  if (prefix > (wide ? 128 : 32)) return undefined
  return { network: { base: maskAddress(address, prefix, wide), prefix, wide }, address }
}

function hostBits(prefix: number, wide: boolean): bigint {
  return BigInt((wide ? 128 : 32) - prefix)
}

function maskAddress(address: bigint, prefix: number, wide: boolean): bigint {
  const bits = hostBits(prefix, wide)
  return (address >> bits) << bits
}

function requireCidr(value: RegoValue | undefined): Network {
  if (typeof value !== 'string') throw new BuiltinError('operand must be string')
  const parsed = parseCidr(value)
  if (parsed === undefined) throw new BuiltinError('invalid CIDR address')
  return parsed.network
}

/** Go's `IPNet.Contains`. */
function contains(network: Network, address: bigint): boolean {
  if (isV4(network.base) !== isV4(address)) return false
  const prefix = isV4(network.base) && network.wide ? Math.max(network.prefix - 96, 0) : network.prefix
  const bits = isV4(network.base) ? BigInt(32 - prefix) : BigInt(128 - prefix)
  const low = isV4(network.base) ? 0xffffffffn : ALL_ONES
  return (network.base & low) >> bits === (address & low) >> bits
}

function lastAddress(network: Network): bigint {
  return network.base | ((1n << hostBits(network.prefix, network.wide)) - 1n)
}

function containsNetwork(outer: Network, inner: Network): boolean {
  if (isPlainV6(outer) && isPlainV6(inner)) {
    return outer.prefix <= inner.prefix && outer.base === maskAddress(inner.base, outer.prefix, true)
  }
  return contains(outer, inner.base) && contains(outer, lastAddress(inner))
}

function isPlainV6(network: Network): boolean {
  return network.wide && !isV4(network.base)
}

function formatAddress(address: bigint): string {
  if (isV4(address)) {
    return [24n, 16n, 8n, 0n].map((shift) => String((address >> shift) & 0xffn)).join('.')
  }
  const groups = Array.from({ length: 8 }, (_, at) => Number((address >> BigInt(112 - 16 * at)) & 0xffffn))
  const gap = longestZeroRun(groups)
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((group) => group.toString(16))
      .join(':')
  return gap.length < 2 ? hex(0, 8) : `${hex(0, gap.start)}::${hex(gap.start + gap.length, 8)}`
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  let start = 0
  for (const [at, group] of groups.entries()) {
    if (group !== 0) start = at + 1
    else if (at + 1 - start > best.length) best = { start, length: at + 1 - start }
  }
  return best
}

/** A member of an operand of `net.cidr_contains_matches`: the CIDR or address text and what stands for it in the result. */
type Candidate = readonly [text: RegoValue, index: RegoValue]

function candidates(operand: RegoValue | undefined): readonly Candidate[] {
  if (typeof operand === 'string') return [[operand, operand]]
  if (isArray(operand)) return operand.map((element, at) => [candidateText(element), integer(at)] as const)
  if (operand instanceof RegoSet)
    return operand.sorted().map((member) => [candidateText(member), member] as const)
  if (operand instanceof RegoObject)
    return operand.sorted().map(([key, member]) => [candidateText(member), key] as const)
  return []
}

function candidateText(value: RegoValue): RegoValue {
  if (typeof value === 'string') return value
  const first = isArray(value) ? value[0] : undefined
  if (first === undefined) throw new BuiltinError('element must be string or non-empty array')
  return first
}

function parseTarget(text: RegoValue): bigint | Network {
  if (typeof text !== 'string') throw new BuiltinError('operand must be string')
  return parseAddress(text) ?? requireCidr(text)
}

function containsMatches(operands: readonly RegoValue[], context: BuiltinContext): RegoSet {
  const outer = candidates(operands[0])
  const result = new RegoSet()
  if (outer.length === 0) return result
  const inner = candidates(operands[1])
  spend(context, (outer.length + inner.length) * NS_PER_PARSE + outer.length * inner.length * NS_PER_TEST)
  if (inner.length === 0) return result
  const networks = outer.map(([text, index]) => [requireCidr(text), index] as const)
  const targets = inner.map(([text, index]) => [parseTarget(text), index] as const)
  for (const [network, outerIndex] of networks) {
    for (const [target, innerIndex] of targets) {
      const matched =
        typeof target === 'bigint' ? contains(network, target) : containsNetwork(network, target)
      if (!matched) continue
      spend(context, NS_PER_PARSE)
      boundElements(result.size + 1)
      result.add([outerIndex, innerIndex])
    }
  }
  return result
}

function expand(operands: readonly RegoValue[], context: BuiltinContext): RegoSet {
  const network = requireCidr(stringOperand(operands, 1))
  const bits =
    isV4(network.base) && network.wide
      ? 128 - Math.max(network.prefix, 96)
      : Number(hostBits(network.prefix, network.wide))
  const count = 2 ** bits
  boundElements(count)
  spend(context, count * NS_PER_PARSE)
  return new RegoSet(Array.from({ length: count }, (_, at) => formatAddress(network.base + BigInt(at))))
}

/** A range of addresses; `text` while it is still one network of the operand. */
interface AddressRange {
  readonly first: bigint
  readonly last: bigint
  readonly text: string | null
}

function mergeOperand(value: RegoValue): AddressRange {
  if (typeof value !== 'string') throw new BuiltinError('element must be string')
  const address = parseAddress(value)
  if (address === undefined) {
    const network = requireCidr(value)
    return { first: network.base, last: lastAddress(network), text: formatNetwork(network) }
  }
  if (!isV4(address)) throw new BuiltinError('IPv6 invalid: needs prefix length')
  // A bare IPv4 address stands for the network of its historical class.
  const prefix = classPrefix(Number((address >> 24n) & 0xffn))
  const base = maskAddress(address, prefix, false)
  return {
    first: base,
    last: lastAddress({ base, prefix, wide: false }),
    text: `${formatAddress(address)}/${prefix}`,
  }
}

function classPrefix(firstByte: number): number {
  if (firstByte < 128) return 8
  return firstByte < 192 ? 16 : 24
}

function formatNetwork({ base, prefix, wide }: Network): string {
  return `${formatAddress(base)}/${isV4(base) && wide ? Math.max(prefix - 96, 0) : prefix}`
}

/** The address before this one; the first address of either family has none and stands for itself. */
function previousAddress(address: bigint): bigint {
  return address === 0n || address === MAPPED ? address : address - 1n
}

function mergeRanges(ranges: readonly AddressRange[]): readonly AddressRange[] {
  const sorted = [...ranges].sort((a, b) => compareBig(a.last, b.last) || compareBig(a.first, b.first))
  const merged: AddressRange[] = []
  // From the highest range down; `merged` holds what is finished, its last one may still grow downwards.
  for (const range of sorted.reverse()) {
    const above = merged.at(-1)
    if (above !== undefined && previousAddress(above.first) <= range.last) {
      merged[merged.length - 1] = { first: lesser(range.first, above.first), last: above.last, text: null }
    } else {
      merged.push(range)
    }
  }
  return merged
}

function lesser(a: bigint, b: bigint): bigint {
  return compareBig(a, b) < 0 ? a : b
}

function compareBig(a: bigint, b: bigint): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

/** The fewest networks that cover exactly the range. */
function* networksOf({ first, last, text }: AddressRange): Generator<string> {
  if (text !== null) {
    yield text
    return
  }
  const wide = !isV4(first)
  const width = wide ? 128 : 32
  let at = first
  while (at <= last) {
    let bits = 0
    while (bits < width && canGrow(at, bits + 1, last)) bits += 1
    yield formatNetwork({ base: at, prefix: width - bits, wide })
    at += 1n << BigInt(bits)
  }
}

function canGrow(base: bigint, bits: number, last: bigint): boolean {
  const size = 1n << BigInt(bits)
  return base % size === 0n && base + size - 1n <= last
}

function merge(operands: readonly RegoValue[], context: BuiltinContext): RegoSet {
  const elements = elementsOperand(operands, 1)
  spend(context, elements.length * NS_PER_PARSE * 4)
  const result = new RegoSet()
  for (const range of mergeRanges(elements.map(mergeOperand))) {
    for (const network of networksOf(range)) {
      spend(context, NS_PER_PARSE * 20)
      result.add(network)
    }
  }
  return result
}

function cidrContains(operands: readonly RegoValue[], context: BuiltinContext): boolean {
  spend(context, 2 * NS_PER_PARSE + NS_PER_TEST)
  const network = requireCidr(stringOperand(operands, 1))
  const target = parseTarget(stringOperand(operands, 2))
  return typeof target === 'bigint' ? contains(network, target) : containsNetwork(network, target)
}

function cidrIntersects(operands: readonly RegoValue[], context: BuiltinContext): boolean {
  spend(context, 2 * NS_PER_PARSE + NS_PER_TEST)
  const a = requireCidr(stringOperand(operands, 1))
  const b = requireCidr(stringOperand(operands, 2))
  return contains(a, b.base) || contains(b, a.base)
}

/** The family, by Rego names. */
export const NET: BuiltinFamily = {
  'net.cidr_contains': cidrContains,
  'net.cidr_intersects': cidrIntersects,
  'net.cidr_contains_matches': containsMatches,
  'net.cidr_expand': expand,
  'net.cidr_is_valid': (operands, context) => {
    const text = operands[0]
    spend(context, NS_PER_PARSE)
    return typeof text === 'string' && text.length <= 64 && parseCidr(text) !== undefined
  },
  'net.cidr_merge': merge,
}
