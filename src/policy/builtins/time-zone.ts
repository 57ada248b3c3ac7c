/** Time zones by their IANA names: offsets from Node's own time zone data, abbreviations from a table. */
import { LRUCache } from 'lru-cache'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { abbreviationOf } from './zone-abbreviations.ts'

/** A zone as time builtins need it. */
export interface TimeZone {
  readonly name: string
  /** Seconds east of UTC at that moment (seconds since 1970). Exact since 1970; before that Node's data is coarser. */
  offsetAt(seconds: number): number
  /** `CET`, `EDT`, or `+03` where the zone has no abbreviation. */
  abbreviationAt(seconds: number): string
}

/** Coordinated universal time. */
export const UTC: TimeZone = { name: 'UTC', offsetAt: () => 0, abbreviationAt: () => 'UTC' }

const NS_PER_ZONE = 150_000
const NS_PER_LOOKUP = 15_000

const FORMATS = new LRUCache<string, Intl.DateTimeFormat>({ max: 64 })

/** Zone names as the IANA database spells them: parts start with a capital letter. */
const ZONE_NAME = /^[A-Z][A-Za-z0-9_+-]*(?:\/[A-Z][A-Za-z0-9_+-]*)*$/

function loadFormat(name: string): Intl.DateTimeFormat {
  const known = FORMATS.get(name)
  if (known !== undefined) return known
  if (name.length > 64 || !ZONE_NAME.test(name)) throw new BuiltinError('unknown time zone')
  try {
    const format = new Intl.DateTimeFormat('en-US', {
      timeZone: name,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
    FORMATS.set(name, format)
    return format
  } catch {
    throw new BuiltinError('unknown time zone')
  }
}

function offsetOf(format: Intl.DateTimeFormat, seconds: number): number {
  const parts = new Map(format.formatToParts(seconds * 1_000).map(({ type, value }) => [type, Number(value)]))
  const part = (name: Intl.DateTimeFormatPartTypes): number => parts.get(name) ?? 0
  const local = Date.UTC(
    part('year'),
    part('month') - 1,
    part('day'),
    part('hour'),
    part('minute'),
    part('second'),
  )
  return local / 1_000 - seconds
}

function numericAbbreviation(offset: number): string {
  const minutes = Math.floor(Math.abs(offset) / 60)
  const hours = String(Math.floor(minutes / 60)).padStart(2, '0')
  const rest = minutes % 60 === 0 ? '' : String(minutes % 60).padStart(2, '0')
  return `${offset < 0 ? '-' : '+'}${hours}${rest}`
}

/**
 * The zone of a name. `Local` is refused: what it means depends on the machine, and a decision must not.
 *
 * @throws {BuiltinError} when there is no such zone
 */
export function loadTimeZone(name: string, context: BuiltinContext): TimeZone {
  if (name === '' || name === 'UTC') return UTC
  if (!context.cache.has(`zone ${name}`)) spend(context, NS_PER_ZONE)
  const format = loadFormat(name)
  context.cache.set(`zone ${name}`, true)
  const offsetAt = (seconds: number): number => {
    spend(context, NS_PER_LOOKUP)
    return offsetOf(format, seconds)
  }
  return {
    name,
    offsetAt,
    abbreviationAt: (seconds) => {
      const offset = offsetAt(seconds)
      return abbreviationOf(name, offset) ?? numericAbbreviation(offset)
    },
  }
}
