/** `time.*` on the frozen clock: OPA v1/topdown/time.go. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundText, spend } from './budget.ts'
import type { CivilTime } from './calendar.ts'
import { daysInMonth, toCivil, toSeconds, WEEKDAYS, weekdayOf } from './calendar.ts'
import { parseDuration } from './duration.ts'
import { integer, RegoNumber, toBigInt } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, int64Operand, stringOperand } from './operands.ts'
import { formatTime, NAMED_LAYOUTS } from './time-layout.ts'
import { parseTime } from './time-parser.ts'
import type { TimeZone } from './time-zone.ts'
import { loadTimeZone } from './time-zone.ts'
import type { RegoValue } from './value.ts'
import { isArray } from './value.ts'

const NS_PER_CALL = 3_000
const NS_PER_LAYOUT_CHAR = 200
const INT64_MAX = 9_223_372_036_854_775_807n

/** A moment with the zone and layout that came along with it. */
interface Moment {
  readonly nanoseconds: bigint
  readonly zone: TimeZone
  readonly layout: string
}

/** Reads `ns`, `[ns]`, `[ns, zone]` or `[ns, zone, layout]`. */
function momentOperand(operands: readonly RegoValue[], position: number, context: BuiltinContext): Moment {
  spend(context, NS_PER_CALL)
  const operand = anyOperand(operands, position)
  const [number, zoneName = 'UTC', layout = ''] = isArray(operand) ? operand : [operand]
  if (!(number instanceof RegoNumber) || typeof zoneName !== 'string' || typeof layout !== 'string') {
    throw new BuiltinError('operand must be either number (ns) or [number (ns), string (tz)]')
  }
  const zone = loadTimeZone(zoneName, context)
  const nanoseconds = toBigInt(number)
  if (nanoseconds === undefined || !isInt64(nanoseconds)) throw new BuiltinError('timestamp too big')
  return { nanoseconds, zone, layout }
}

function isInt64(value: bigint): boolean {
  return value <= INT64_MAX && value >= -INT64_MAX - 1n
}

function toTimestamp(nanoseconds: bigint): RegoNumber {
  if (!isInt64(nanoseconds)) throw new BuiltinError('time outside of valid range')
  return integer(nanoseconds)
}

function floorDivide(value: bigint, divisor: bigint): bigint {
  return value / divisor - (value % divisor < 0n ? 1n : 0n)
}

function secondsOf({ nanoseconds }: Moment): number {
  return Number(floorDivide(nanoseconds, 1_000_000_000n))
}

/** The moment on the clocks of a zone. */
function civilIn(moment: Moment, zone: TimeZone): CivilTime {
  const seconds = secondsOf(moment)
  const nanosecond = Number(moment.nanoseconds - BigInt(seconds) * 1_000_000_000n)
  return toCivil(seconds + zone.offsetAt(seconds), nanosecond)
}

/** Seconds since 1970 of what a zone's clocks show. In a gap or an overlap Go's guess is taken. */
function zonedSeconds(time: CivilTime, zone: TimeZone): number {
  const unzoned = toSeconds(time)
  if (!Number.isSafeInteger(unzoned) || Math.abs(unzoned) > 1e11) {
    throw new BuiltinError('time outside of valid range')
  }
  const offset = zone.offsetAt(unzoned)
  return offset === 0 ? unzoned : unzoned - zone.offsetAt(unzoned - offset)
}

/** An int64 operand that dates can be computed with exactly; anything larger leaves the valid range anyway. */
function dateStep(operands: readonly RegoValue[], position: number): number {
  const value = Number(int64Operand(operands, position))
  if (Math.abs(value) > 1e12) throw new BuiltinError('time outside of valid range')
  return value
}

function addDate(operands: readonly RegoValue[], context: BuiltinContext): RegoNumber {
  const moment = momentOperand(operands, 1, context)
  const time = civilIn(moment, moment.zone)
  const moved: CivilTime = {
    ...time,
    year: time.year + dateStep(operands, 2),
    month: time.month + dateStep(operands, 3),
    day: time.day + dateStep(operands, 4),
  }
  const seconds = zonedSeconds(moved, moment.zone)
  return toTimestamp(BigInt(seconds) * 1_000_000_000n + BigInt(time.nanosecond))
}

/** Years, months, days, hours, minutes, seconds between two moments, on the clocks of the first one's zone. */
function difference(operands: readonly RegoValue[], context: BuiltinContext): readonly RegoValue[] {
  const first = momentOperand(operands, 1, context)
  const second = momentOperand(operands, 2, context)
  const inOrder = first.nanoseconds > second.nanoseconds ? [second, first] : [first, second]
  const [from, to] = inOrder.map((moment) => civilIn(moment, first.zone))
  if (from === undefined || to === undefined) throw new BuiltinError('two moments needed')
  const parts = [
    to.year - from.year,
    to.month - from.month,
    to.day - from.day,
    to.hour - from.hour,
    to.minute - from.minute,
    to.second - from.second,
  ]
  const sizes = [0, 12, daysInMonth(from.year, from.month), 24, 60, 60]
  for (let at = parts.length - 1; at > 0; at -= 1) {
    const part = parts[at] ?? 0
    if (part >= 0) continue
    parts[at] = part + (sizes[at] ?? 0)
    parts[at - 1] = (parts[at - 1] ?? 0) - 1
  }
  return parts.map(integer)
}

function layoutOf(text: string, context: BuiltinContext): string {
  const layout = NAMED_LAYOUTS.get(text) ?? text
  spend(context, layout.length * NS_PER_LAYOUT_CHAR)
  boundText(layout.length * 9)
  return layout
}

/** The family, by Rego names. */
export const TIME: BuiltinFamily = {
  'time.add_date': addDate,
  'time.clock': (operands, context) => {
    const moment = momentOperand(operands, 1, context)
    const { hour, minute, second } = civilIn(moment, moment.zone)
    return [hour, minute, second].map(integer)
  },
  'time.date': (operands, context) => {
    const moment = momentOperand(operands, 1, context)
    const { year, month, day } = civilIn(moment, moment.zone)
    return [year, month, day].map(integer)
  },
  'time.diff': difference,
  'time.format': (operands, context) => {
    const { nanoseconds, zone, layout } = momentOperand(operands, 1, context)
    return formatTime(nanoseconds, zone, layoutOf(layout === '' ? 'RFC3339Nano' : layout, context))
  },
  'time.now_ns': (_, context) => integer(context.nowNs),
  'time.parse_duration_ns': (operands, context) => {
    const text = stringOperand(operands, 1)
    spend(context, NS_PER_CALL + text.length * NS_PER_LAYOUT_CHAR)
    return integer(parseDuration(text))
  },
  'time.parse_ns': (operands, context) => {
    const layout = layoutOf(stringOperand(operands, 1), context)
    const value = stringOperand(operands, 2)
    spend(context, NS_PER_CALL + value.length * NS_PER_LAYOUT_CHAR)
    return toTimestamp(parseTime(layout, value))
  },
  'time.parse_rfc3339_ns': (operands, context) => {
    const value = stringOperand(operands, 1)
    const layout = layoutOf('RFC3339', context)
    spend(context, NS_PER_CALL + value.length * NS_PER_LAYOUT_CHAR)
    return toTimestamp(parseTime(layout, value))
  },
  'time.weekday': (operands, context) => {
    const moment = momentOperand(operands, 1, context)
    return WEEKDAYS[weekdayOf(civilIn(moment, moment.zone))]
  },
}
