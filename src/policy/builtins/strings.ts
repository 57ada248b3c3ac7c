/** `strings.*`, `concat`, `indexof`, `indexof_n`, `replace` and `substring`: OPA v1/topdown/strings.go. Positions count code points. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, boundElements, boundText, spend } from './budget.ts'
import type { RegoNumber } from './number.ts'
import { integer } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { int64Operand, stringOperand, stringsOperand } from './operands.ts'
import { occurrences } from './search.ts'
import type { RegoValue } from './value.ts'

const NS_PER_CHAR = 8
const NS_PER_HIT = 400

function affixMatch(
  operands: readonly RegoValue[],
  context: BuiltinContext,
  end: 'prefix' | 'suffix',
): boolean {
  const texts = oneOrMore(operands, 1)
  const affixes = oneOrMore(operands, 2)
  const chars = [...texts, ...affixes].reduce((sum, text) => sum + text.length, 0)
  spend(context, (chars + texts.length + affixes.length) * NS_PER_CHAR * Math.log2(texts.length + 2))
  const orient = end === 'prefix' ? (text: string) => text : reversed
  // Texts that share a prefix sort directly behind it, so one look-up per prefix is enough.
  const sorted = texts.map(orient).sort()
  return affixes.some((affix) => {
    const prefix = orient(affix)
    return sorted[lowerBound(sorted, prefix)]?.startsWith(prefix) ?? false
  })
}

function oneOrMore(operands: readonly RegoValue[], position: number): readonly string[] {
  const value = operands[position - 1]
  return typeof value === 'string' ? [value] : stringsOperand(operands, position)
}

function reversed(text: string): string {
  return text.split('').reverse().join('')
}

function lowerBound(sorted: readonly string[], wanted: string): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] ?? '') < wanted) low = middle + 1
    else high = middle
  }
  return low
}

function indexesOf(text: string, needle: string, context: BuiltinContext): readonly RegoNumber[] {
  if (needle === '') throw new BuiltinError('empty search character')
  const found: RegoNumber[] = []
  let at = 0
  let codePoints = 0
  for (const index of occurrences(text, needle, true)) {
    for (; at < index; at += 1) if (!isLowSurrogate(text.charCodeAt(at))) codePoints += 1
    boundElements(found.length + 1)
    spend(context, NS_PER_HIT)
    found.push(integer(codePoints))
  }
  return found
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff
}

function countOf(text: string, needle: string): number {
  let count = 0
  if (needle === '') return lengthOf(text) + 1
  for (const _ of occurrences(text, needle, false)) count += 1
  return count
}

function splitAll(text: string, delimiter: string): readonly string[] {
  if (delimiter === '') {
    boundElements(text.length / 2)
    return [...text]
  }
  const parts: string[] = []
  let from = 0
  for (const index of occurrences(text, delimiter, false)) {
    boundElements(parts.length + 2)
    parts.push(text.slice(from, index))
    from = index + delimiter.length
  }
  parts.push(text.slice(from))
  return parts
}

function splitN(text: string, delimiter: string, count: bigint): readonly string[] {
  const parts = splitAll(text, delimiter)
  const total = BigInt(parts.length)
  if (count >= 0n) return parts.slice(0, Number(count < total ? count : total))
  return parts.slice(-count < total ? Number(count) : 0)
}

function concat(operands: readonly RegoValue[], context: BuiltinContext): string {
  const separator = stringOperand(operands, 1)
  const parts = stringsOperand(operands, 2)
  const length = parts.reduce((sum, part) => sum + part.length + separator.length, 0)
  boundText(length)
  spend(context, (length + parts.length) * NS_PER_CHAR)
  return parts.join(separator)
}

function indexOf(operands: readonly RegoValue[], context: BuiltinContext): RegoNumber {
  const text = stringOperand(operands, 1)
  const needle = stringOperand(operands, 2)
  if (needle === '') throw new BuiltinError('empty search character')
  spend(context, (text.length + needle.length) * NS_PER_CHAR)
  for (const index of occurrences(text, needle, true)) return integer(lengthOf(text.slice(0, index)))
  return integer(-1)
}

/** Code points. */
function lengthOf(text: string): number {
  let count = 0
  for (let at = 0; at < text.length; at += 1) if (!isLowSurrogate(text.charCodeAt(at))) count += 1
  return count
}

function replace(operands: readonly RegoValue[], context: BuiltinContext): string {
  const text = stringOperand(operands, 1)
  const old = stringOperand(operands, 2)
  const fresh = stringOperand(operands, 3)
  spend(context, (text.length + old.length) * NS_PER_CHAR)
  const parts = old === '' ? ['', ...bytesOf(text), ''] : splitAll(text, old)
  const length = text.length + parts.length * fresh.length
  boundText(length)
  spend(context, length * NS_PER_CHAR)
  return parts.join(fresh)
}

/** OPA puts the replacement of nothing between bytes, which tears characters apart that have several. */
function bytesOf(text: string): readonly string[] {
  if (Buffer.byteLength(text) !== text.length) {
    throw new BuiltinLimitError('binary_text', 'replacing "" takes characters that are not ASCII apart')
  }
  return text.split('')
}

function substring(operands: readonly RegoValue[], context: BuiltinContext): string {
  const text = stringOperand(operands, 1)
  const offset = int64Operand(operands, 2)
  const length = int64Operand(operands, 3)
  if (offset < 0n) throw new BuiltinError('negative offset')
  spend(context, text.length * NS_PER_CHAR)
  const characters = Array.from(text)
  const from = Number(offset)
  return characters.slice(from, length < 0n ? undefined : from + Number(length)).join('')
}

/** The family, by Rego names. */
export const STRINGS: BuiltinFamily = {
  concat,
  indexof: indexOf,
  replace,
  substring,
  'strings.any_prefix_match': (operands, context) => affixMatch(operands, context, 'prefix'),
  'strings.any_suffix_match': (operands, context) => affixMatch(operands, context, 'suffix'),
  'strings.count': (operands, context) => {
    const text = stringOperand(operands, 1)
    const needle = stringOperand(operands, 2)
    spend(context, (text.length + needle.length) * NS_PER_CHAR)
    return integer(countOf(text, needle))
  },
  'strings.split_n': (operands, context) => {
    const text = stringOperand(operands, 1)
    const delimiter = stringOperand(operands, 2)
    const count = int64Operand(operands, 3)
    spend(context, (text.length + delimiter.length) * NS_PER_CHAR * 4)
    return splitN(text, delimiter, count)
  },
  indexof_n: (operands, context) => {
    const text = stringOperand(operands, 1)
    const needle = stringOperand(operands, 2)
    spend(context, (text.length + needle.length) * NS_PER_CHAR * 4)
    return indexesOf(text, needle, context)
  },
}
