/** The arguments of `gateway keys`, from text to values. All throw UsageError `usage`. */
import { UsageError } from '../errors.ts'

const UNITS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}
const DURATION = /^(\d{1,6})([smhdw])$/
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/i
const CLAIM = /^([A-Za-z][A-Za-z0-9_.-]{0,63})=([\s\S]*)$/

/** `90s`, `10m`, `12h`, `30d`, `8w` in milliseconds. */
export function parseDuration(text: string): number {
  const [, amount, unit] = DURATION.exec(text) ?? []
  if (amount !== undefined && unit !== undefined) return Number(amount) * (UNITS[unit] ?? 0)
  throw new UsageError('usage', `"${text}" is no duration: write a number and s, m, h, d or w, as in 30d.`)
}

/** A duration from now, a moment such as `2027-01-31T00:00:00Z`, or `never` (null). */
export function parseExpiry(text: string, nowMs: number): Date | null {
  if (text === 'never') return null
  if (DURATION.test(text)) return new Date(nowMs + parseDuration(text))
  const moment = MOMENT.test(text) ? new Date(text) : new Date(Number.NaN)
  if (!Number.isNaN(moment.getTime())) return moment
  throw new UsageError(
    'usage',
    `--expires "${text}": write a duration such as 30d, a moment such as 2027-01-31T00:00:00Z, or never.`,
  )
}

/** `mfa=true level=3 dept=sales` -> {mfa: true, level: 3, dept: 'sales'}. Text that is not JSON is taken as it stands. */
export function parseClaims(pairs: readonly string[]): Record<string, unknown> {
  const claims = new Map<string, unknown>()
  for (const pair of pairs) {
    const [, name, value] = CLAIM.exec(pair) ?? []
    if (name === undefined || value === undefined) {
      throw new UsageError('usage', `--claim "${pair}": write NAME=VALUE; a name begins with a letter.`)
    }
    if (claims.has(name)) throw new UsageError('usage', `--claim ${name} is given twice.`)
    claims.set(name, parseValue(value))
  }
  return Object.fromEntries(claims)
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
