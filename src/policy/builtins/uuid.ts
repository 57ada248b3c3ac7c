/** `uuid.parse`: OPA internal/uuid on RFC 4122 UUIDs in their usual spellings. */
import { integer } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { stringOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { RegoObject } from './value.ts'

const PLAIN = /^[0-9a-f]{32}$/i
const DASHED = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** 100 ns intervals between 1582-10-15 (RFC 4122 time) and 1970-01-01. */
const GREGORIAN_TO_UNIX = 122_192_928_000_000_000n

function parseHex(text: string): string | undefined {
  if (PLAIN.test(text)) return text.toLowerCase()
  let dashed = text
  // `urn:uuid:` and one character at each end (braces by convention; any is taken) are accepted.
  if (text.length === 45 && text.slice(0, 9).toLowerCase() === 'urn:uuid:') dashed = text.slice(9)
  else if (text.length === 38) dashed = text.slice(1, 37)
  return DASHED.test(dashed) ? dashed.replaceAll('-', '').toLowerCase() : undefined
}

function variantOf(bits: number): string {
  if ((bits & 0xc0) === 0x80) return 'RFC4122'
  if ((bits & 0xe0) === 0xc0) return 'Microsoft'
  return (bits & 0xe0) === 0xe0 ? 'Future' : 'Reserved'
}

function addressKind(firstByte: number): string {
  return `${(firstByte & 2) === 0 ? 'global' : 'local'}:${(firstByte & 1) === 0 ? 'unicast' : 'multicast'}`
}

const DOMAINS = ['Person', 'Group', 'Org']

function describe(hex: string): RegoObject {
  const byteAt = (at: number): number => Number.parseInt(hex.slice(at * 2, at * 2 + 2), 16)
  const version = byteAt(6) >> 4
  const entries: [string, RegoValue][] = [
    ['version', integer(version)],
    ['variant', variantOf(byteAt(8))],
  ]
  if (version === 1 || version === 2) {
    const ticks = BigInt(`0x${hex.slice(13, 16)}${hex.slice(8, 12)}${hex.slice(0, 8)}`)
    const node = hex.slice(20)
    entries.push(
      ['time', integer(BigInt.asIntN(64, (ticks - GREGORIAN_TO_UNIX) * 100n))],
      ['nodeid', (node.match(/../g) ?? []).join('-')],
      ['macvariables', addressKind(byteAt(10))],
      ['clocksequence', integer(Number.parseInt(hex.slice(16, 20), 16) & 0x3fff)],
    )
  }
  if (version === 2) {
    const domain = byteAt(9)
    entries.push(
      ['id', integer(Number.parseInt(hex.slice(0, 8), 16))],
      ['domain', DOMAINS[domain] ?? `Domain${domain}`],
    )
  }
  return new RegoObject(entries)
}

/** The family, by Rego names. */
export const UUID: BuiltinFamily = {
  'uuid.parse': (operands) => {
    const hex = parseHex(stringOperand(operands, 1))
    return hex === undefined ? undefined : describe(hex)
  },
}
