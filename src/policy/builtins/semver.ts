/** `semver.*`: OPA internal/semver, which is SemVer 2.0.0 plus an optional leading `v`. */
import { BuiltinError, spend } from './budget.ts'
import { integer } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { stringOperand } from './operands.ts'

interface Version {
  readonly numbers: readonly bigint[]
  readonly preRelease: string
}

const INT64_MAX = 9_223_372_036_854_775_807n
const VERSION = /^v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$/
const NS_PER_CHAR = 30

function parseVersion(text: string): Version | undefined {
  const match = VERSION.exec(text)
  if (match === null) return undefined
  const [, major = '', minor = '', patch = '', preRelease, metadata] = match
  const texts = [major, minor, patch]
  if (texts.some(hasLeadingZero)) return undefined
  if (texts.some((digits) => digits.length > 19)) return undefined
  const numbers = texts.map(BigInt)
  if (numbers.some((number) => number > INT64_MAX)) return undefined
  if (preRelease?.split('.').some((part) => part === '' || (isDigits(part) && hasLeadingZero(part)))) {
    return undefined
  }
  if (metadata?.split('.').includes('')) return undefined
  return { numbers, preRelease: preRelease ?? '' }
}

function hasLeadingZero(digits: string): boolean {
  return digits.length > 1 && digits.startsWith('0')
}

function isDigits(text: string): boolean {
  return /^\d+$/.test(text)
}

function compareVersions(a: Version, b: Version): number {
  for (const [at, left] of a.numbers.entries()) {
    const right = b.numbers[at] ?? 0n
    if (left !== right) return left < right ? -1 : 1
  }
  if (a.preRelease === b.preRelease) return 0
  // A release is newer than its pre-releases.
  if (a.preRelease === '') return 1
  if (b.preRelease === '') return -1
  return comparePreReleases(a.preRelease.split('.'), b.preRelease.split('.'))
}

function comparePreReleases(a: readonly string[], b: readonly string[]): number {
  for (const [at, left] of a.entries()) {
    const right = b[at]
    if (right === undefined) return 1
    const order = compareIdentifiers(left, right)
    if (order !== 0) return order
  }
  return a.length < b.length ? -1 : 0
}

function compareIdentifiers(a: string, b: string): number {
  if (isDigits(a) !== isDigits(b)) return isDigits(a) ? -1 : 1
  if (isDigits(a)) return Math.sign(Number(clampedInt64(a) - clampedInt64(b)))
  if (a === b) return 0
  return a < b ? -1 : 1
}

/** OPA reads numeric identifiers as int64 and takes the largest one for anything over it. */
function clampedInt64(digits: string): bigint {
  if (digits.length > 19) return INT64_MAX
  const value = BigInt(digits)
  return value > INT64_MAX ? INT64_MAX : value
}

/** The family, by Rego names. */
export const SEMVER: BuiltinFamily = {
  'semver.is_valid': (operands, context) => {
    const text = operands[0]
    if (typeof text !== 'string') return false
    spend(context, text.length * NS_PER_CHAR)
    return parseVersion(text) !== undefined
  },
  'semver.compare': (operands, context) => {
    const texts = [stringOperand(operands, 1), stringOperand(operands, 2)]
    spend(context, texts.join('').length * NS_PER_CHAR)
    const [a, b] = texts.map(parseVersion)
    if (a === undefined || b === undefined) throw new BuiltinError('operand is not a valid SemVer')
    return integer(compareVersions(a, b))
  },
}
