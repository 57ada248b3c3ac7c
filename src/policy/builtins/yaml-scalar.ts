/** What a plain YAML scalar means, as go-yaml v3 resolves it: YAML 1.2's core schema plus octals and underscores of 1.1. */

/** A resolved plain scalar. `infinite` is `.inf` or `.nan`, which JSON cannot hold. */
export type PlainScalar =
  | { readonly kind: 'null' | 'infinite' }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'integer'; readonly value: bigint }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string' }

const WORDS: ReadonlyMap<string, PlainScalar> = new Map<string, PlainScalar>([
  ...['', '~', 'null', 'Null', 'NULL'].map((word) => [word, { kind: 'null' }] as const),
  ...['true', 'True', 'TRUE'].map((word) => [word, { kind: 'boolean', value: true }] as const),
  ...['false', 'False', 'FALSE'].map((word) => [word, { kind: 'boolean', value: false }] as const),
  ...['.nan', '.NaN', '.NAN'].map((word) => [word, { kind: 'infinite' }] as const),
  ...['.inf', '.Inf', '.INF'].flatMap((word) =>
    [word, `+${word}`, `-${word}`].map((signed) => [signed, { kind: 'infinite' }] as const),
  ),
])

const INTEGER = /^([+-]?)(0x[0-9a-f]+|0b[01]+|0o?[0-7]+|0|[1-9][0-9]*)$/i
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/
const MAX_UINT64 = (1n << 64n) - 1n
const MIN_INT64 = -(1n << 63n)

/** Resolves the text of a plain scalar that has no tag. */
export function resolvePlain(text: string): PlainScalar {
  const word = WORDS.get(text)
  if (word !== undefined) return word
  if (!/^[0-9+.-]/.test(text) || text.length > 4_096) return { kind: 'string' }
  const plain = text.startsWith('.') ? text : text.replaceAll('_', '')
  const integer = parseInteger(plain)
  if (integer !== undefined) return { kind: 'integer', value: integer }
  const value = FLOAT.test(plain) ? Number(plain) : Number.NaN
  return Number.isFinite(value) ? { kind: 'float', value } : { kind: 'string' }
}

function parseInteger(text: string): bigint | undefined {
  const match = INTEGER.exec(text)
  if (match === null) return undefined
  const [, sign = '', digits = ''] = match
  const magnitude = BigInt(/^0[0-7]/.test(digits) ? `0o${digits.slice(1)}` : digits)
  const value = sign === '-' ? -magnitude : magnitude
  if (value < MIN_INT64) return undefined
  // An unsigned number may use the whole of 64 bits, a signed one may not.
  return value > (sign === '' ? MAX_UINT64 : -MIN_INT64 - 1n) ? undefined : value
}

/** Whether the text has characters that go-yaml does not read, not even in quotes. */
export function hasForbiddenCharacters(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\ufffe\uffff]/.test(text)
}
