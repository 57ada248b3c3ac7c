/** Durations as Go's `time.ParseDuration` reads them, with OPA's `d`, `w` and `y` on top. */
import { BuiltinError } from './budget.ts'
import { shortestFixed } from './float-text.ts'

const NANOSECONDS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  '\u00b5s': 1_000n,
  '\u03bcs': 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
}

const HOURS: Readonly<Record<string, number>> = { d: 24, w: 168, y: 8_760 }

const TWO_63 = 1n << 63n
const SEGMENT = /(\d*)(?:\.(\d*))?([^\d.]+)/y
const EXTENDED_SEGMENT = /([0-9.]+)(ms|us|\u00b5s|ns|[a-z])/y

function invalid(): BuiltinError {
  return new BuiltinError('time: invalid duration')
}

/** Nanoseconds of a duration such as `1h30m`, `-1.5h`, `2w3d`. */
export function parseDuration(text: string): bigint {
  return parseGoDuration(/[dwy]/.test(text) ? rewriteLongUnits(text) : text)
}

/** Days, weeks and years become hours, in doubles as OPA computes them. */
function rewriteLongUnits(text: string): string {
  const sign = /^[-+]?/.exec(text)?.[0] ?? ''
  let rewritten = sign
  let at = sign.length
  do {
    EXTENDED_SEGMENT.lastIndex = at
    const match = EXTENDED_SEGMENT.exec(text)
    if (match === null) throw invalid()
    const [all, digits = '', unit = ''] = match
    rewritten += toHours(digits, unit) ?? all
    at += all.length
  } while (at < text.length)
  return rewritten
}

function toHours(digits: string, unit: string): string | undefined {
  const coefficient = HOURS[unit]
  if (coefficient === undefined) return undefined
  const value = /^(?:\d+\.?\d*|\.\d+)$/.test(digits) ? Number(digits) : Number.NaN
  if (!Number.isFinite(value)) throw invalid()
  const hours = value * coefficient
  if (!Number.isFinite(hours)) throw invalid()
  return `${shortestFixed(hours)}h`
}

function parseGoDuration(text: string): bigint {
  const negative = text.startsWith('-')
  const body = text.replace(/^[-+]/, '')
  if (body === '0') return 0n
  if (body === '') throw invalid()
  let total = 0n
  let at = 0
  while (at < body.length) {
    SEGMENT.lastIndex = at
    const match = SEGMENT.exec(body)
    if (match === null) throw invalid()
    const [all, whole = '', fraction = '', unit = ''] = match
    total += segmentNanoseconds(whole, fraction, unit)
    if (total > TWO_63) throw invalid()
    at += all.length
  }
  if (negative) return -total
  if (total === TWO_63) throw invalid()
  return total
}

function segmentNanoseconds(whole: string, fraction: string, unit: string): bigint {
  const scale = NANOSECONDS[unit]
  if (scale === undefined || (whole === '' && fraction === '')) throw invalid()
  const value = whole.length > 4_096 ? TWO_63 + 1n : BigInt(whole === '' ? '0' : whole)
  if (value > TWO_63 || value > TWO_63 / scale) throw invalid()
  const nanoseconds = value * scale + fractionNanoseconds(fraction, scale)
  if (nanoseconds > TWO_63) throw invalid()
  return nanoseconds
}

/** Go computes fractions in doubles, on as many digits as fit an int64. */
function fractionNanoseconds(fraction: string, scale: bigint): bigint {
  let value = 0n
  let divisor = 1
  for (const digit of fraction.slice(0, 4_096)) {
    const longer = value * 10n + BigInt(digit)
    if (value > (TWO_63 - 1n) / 10n || longer > TWO_63) break
    value = longer
    divisor *= 10
  }
  return BigInt(Math.trunc(Number(value) * (Number(scale) / divisor)))
}
