/** `regex.*` and `glob.quote_meta`: OPA v1/topdown/regex.go, regex_template.go, glob.go. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundElements, boundText, spend } from './budget.ts'
import { globsIntersect } from './glob-intersection.ts'
import type { BuiltinFamily } from './operands.ts'
import { int64Operand, stringOperand } from './operands.ts'
import type { MatchSpans, Pattern } from './pattern.ts'
import { compilePattern } from './pattern.ts'
import type { RegoValue } from './value.ts'

const NS_PER_CHAR = 10
const NS_PER_PART = 60

/** A part of a replacement: text, or the group to put there. */
type ReplacementPart = { readonly text: string } | { readonly group: number }

const REFERENCE = /^\$(?:\$|(?:\{([\p{L}\p{Nd}_]+)\}|([\p{L}\p{Nd}_]+)))/u

/** Reads `$1`, `${name}` and `$$` as Go's `Regexp.Expand`; the longest name counts, unknown groups are empty. */
function parseReplacement(replacement: string, pattern: Pattern): readonly ReplacementPart[] {
  const parts: ReplacementPart[] = []
  let rest = replacement
  for (let dollar = rest.indexOf('$'); dollar >= 0; dollar = rest.indexOf('$')) {
    parts.push({ text: rest.slice(0, dollar) })
    rest = rest.slice(dollar)
    const match = REFERENCE.exec(rest)
    const name = match?.[1] ?? match?.[2]
    if (name === undefined) parts.push({ text: '$' })
    else parts.push({ group: groupIndex(name, pattern) })
    rest = rest.slice(match?.[0].length ?? 1)
  }
  parts.push({ text: rest })
  return parts
}

function groupIndex(name: string, pattern: Pattern): number {
  if (/^(?:0|[1-9]\d{0,8})$/.test(name)) return Number(name)
  return pattern.groups.get(name) ?? -1
}

function expand(parts: readonly ReplacementPart[], text: string, spans: MatchSpans): string {
  return parts.map((part) => ('text' in part ? part.text : groupText(text, spans, part.group))).join('')
}

function groupText(text: string, spans: MatchSpans, group: number): string {
  const start = spans[2 * group] ?? -1
  return start < 0 ? '' : text.slice(start, spans[2 * group + 1])
}

function replace(operands: readonly RegoValue[], context: BuiltinContext): string {
  const text = stringOperand(operands, 1)
  const pattern = compilePattern(stringOperand(operands, 2), context)
  const replacement = stringOperand(operands, 3)
  spend(context, (text.length + replacement.length * 10) * NS_PER_CHAR)
  const parts = parseReplacement(replacement, pattern)
  const pieces: string[] = []
  let length = 0
  let lastEnd = 0
  for (const spans of pattern.matches(text, Number.POSITIVE_INFINITY, context)) {
    const [start = 0, end = 0] = spans
    const piece = text.slice(lastEnd, start) + expand(parts, text, spans)
    length += piece.length
    boundText(length)
    spend(context, piece.length * NS_PER_CHAR + parts.length * NS_PER_PART)
    pieces.push(piece)
    lastEnd = end
  }
  return pieces.join('') + text.slice(lastEnd)
}

function split(operands: readonly RegoValue[], context: BuiltinContext): readonly string[] {
  const patternText = stringOperand(operands, 1)
  const text = stringOperand(operands, 2)
  const pattern = compilePattern(patternText, context)
  if (patternText !== '' && text === '') return ['']
  const parts: string[] = []
  let from = 0
  let lastStart = 0
  for (const [start = 0, end = 0] of pattern.matches(text, Number.POSITIVE_INFINITY, context)) {
    boundElements(parts.length + 2)
    lastStart = start
    // An empty match at the very start splits nothing off.
    if (end !== 0) parts.push(text.slice(from, start))
    from = end
  }
  if (lastStart !== text.length) parts.push(text.slice(from))
  return parts
}

function findN(operands: readonly RegoValue[], context: BuiltinContext): readonly string[] {
  const patternText = stringOperand(operands, 1)
  const text = stringOperand(operands, 2)
  const count = int64Operand(operands, 3)
  const pattern = compilePattern(patternText, context)
  const limit = count < 0n ? Number.POSITIVE_INFINITY : Number(count)
  const found: string[] = []
  for (const [start, end] of pattern.matches(text, limit, context)) {
    boundElements(found.length + 1)
    found.push(text.slice(start, end))
  }
  return found
}

/** All matches, each as the texts of the whole and of its groups; a group that took no part is empty. */
function findSubmatches(operands: readonly RegoValue[], context: BuiltinContext): RegoValue {
  const patternText = stringOperand(operands, 1)
  const text = stringOperand(operands, 2)
  const count = int64Operand(operands, 3)
  const pattern = compilePattern(patternText, context)
  const limit = count < 0n ? Number.POSITIVE_INFINITY : Number(count)
  const found: string[][] = []
  let elements = 0
  for (const spans of pattern.matches(text, limit, context)) {
    elements += spans.length / 2
    boundElements(elements)
    spend(context, spans.length * NS_PER_PART)
    found.push(Array.from({ length: spans.length / 2 }, (_, group) => groupText(text, spans, group)))
  }
  return found
}

function isValid(operands: readonly RegoValue[], context: BuiltinContext): boolean {
  const [pattern] = operands
  if (typeof pattern !== 'string') return false
  try {
    compilePattern(pattern, context)
    return true
  } catch (thrown) {
    if (thrown instanceof BuiltinError) return false
    throw thrown
  }
}

/** Quotes what RE2 gives a meaning to. */
function quotePattern(text: string): string {
  return text.replace(/[\\.+*?()|[\]{}^$]/g, '\\$&')
}

/** Turns a template such as `urn:foo:{.*}` into one anchored pattern; each delimited part must compile on its own. */
function templatePattern(template: string, open: string, close: string, context: BuiltinContext): Pattern {
  let source = '^'
  let level = 0
  let rawStart = 0
  let partStart = 0
  for (let at = 0; at < template.length; at += 1) {
    const character = template.charAt(at)
    if (character === open) {
      level += 1
      if (level === 1) partStart = at
    } else if (character === close) {
      level -= 1
      if (level < 0) throw new BuiltinError('unbalanced braces')
      if (level > 0) continue
      const part = template.slice(partStart + 1, at)
      compilePattern(`^${part}$`, context)
      source += `${quotePattern(template.slice(rawStart, partStart))}(${part})`
      rawStart = at + 1
    }
  }
  if (level !== 0) throw new BuiltinError('unbalanced braces')
  return compilePattern(`${source}${quotePattern(template.slice(rawStart))}$`, context)
}

function templateMatch(operands: readonly RegoValue[], context: BuiltinContext): boolean {
  const template = stringOperand(operands, 1)
  const text = stringOperand(operands, 2)
  const open = stringOperand(operands, 3)
  const close = stringOperand(operands, 4)
  for (const delimiter of [open, close]) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the ASCII range, OPA asks for one byte
    if (!/^[\u0000-\u007f]$/.test(delimiter)) throw new BuiltinError('delimiter has to be one character long')
  }
  spend(context, template.length * NS_PER_CHAR)
  return templatePattern(template, open, close, context).test(text, context)
}

/** The family, by Rego names. */
export const REGEX: BuiltinFamily = {
  'glob.quote_meta': (operands, context) => {
    const text = stringOperand(operands, 1)
    spend(context, text.length * NS_PER_CHAR)
    return text.replace(/[*?\\[\]{}]/g, '\\$&')
  },
  'regex.find_all_string_submatch_n': findSubmatches,
  'regex.find_n': findN,
  'regex.globs_match': (operands, context) =>
    globsIntersect(stringOperand(operands, 1), stringOperand(operands, 2), context),
  'regex.is_valid': isValid,
  'regex.match': (operands, context) => {
    const pattern = stringOperand(operands, 1)
    const text = stringOperand(operands, 2)
    return compilePattern(pattern, context).test(text, context)
  },
  'regex.replace': replace,
  'regex.split': split,
  'regex.template_match': templateMatch,
}
