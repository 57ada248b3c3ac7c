/** The arguments of `gateway audit`, from text to values. All throw UsageError `usage`. */
import type { Outcome } from '../errors.ts'
import { UsageError } from '../errors.ts'
import { parseDuration } from './key-arguments.ts'

/** All outcomes a row can have. */
export const OUTCOMES = [
  'allowed',
  'denied_admit',
  'denied_auth',
  'denied_authz',
  'killed',
  'rate_limited',
  'invalid',
  'overloaded',
  'unavailable',
  'upstream_error',
  'upstream_timeout',
  'client_closed',
  'interrupted',
  'internal_error',
  'gap',
] as const satisfies readonly Outcome[]

const MAX_LIMIT = 10_000
const DAY_MS = 86_400_000
const MOMENT = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?$/i

/** Outcomes; `denied` stands for all three kinds of denial. */
export function parseOutcomes(names: readonly string[]): readonly Outcome[] {
  return names.flatMap((name) => {
    if (name === 'denied') return OUTCOMES.filter((outcome) => outcome.startsWith('denied_'))
    const known = OUTCOMES.find((outcome) => outcome === name)
    if (known !== undefined) return [known]
    throw new UsageError(
      'usage',
      `--outcome "${name}": there is ${OUTCOMES.join(', ')}, and denied for all denials.`,
    )
  })
}

/** `2h` (ago), `today` and `yesterday` (UTC), a day or a moment; `option` is what it was given for. */
export function parseTime(option: string, text: string, nowMs: number): Date {
  if (text === 'today' || text === 'yesterday') {
    const midnight = Math.floor(nowMs / DAY_MS) * DAY_MS
    return new Date(text === 'today' ? midnight : midnight - DAY_MS)
  }
  if (MOMENT.test(text) && isDay(text.slice(0, 10))) {
    const moment = new Date(text)
    if (!Number.isNaN(moment.getTime())) return moment
  }
  if (/^\d{1,6}[smhdw]$/.test(text)) return new Date(nowMs - parseDuration(text))
  throw new UsageError(
    'usage',
    `${option} "${text}": write 2h, 7d, today, yesterday, 2027-01-31 or 2027-01-31T09:00:00Z.`,
  )
}

/** Date takes 30 February for 2 March. */
function isDay(text: string): boolean {
  const day = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text)
}

/** 1 to 10000. */
export function parseLimit(text: string): number {
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (limit >= 1 && limit <= MAX_LIMIT) return limit
  throw new UsageError('usage', `--limit "${text}": write a number from 1 to ${MAX_LIMIT}.`)
}
