/** Go's time layouts (`2006-01-02T15:04:05Z07:00`): taking them apart and formatting by them. */
import type { CivilTime } from './calendar.ts'
import { dayOfYear, MONTHS, toCivil, WEEKDAYS, weekdayOf } from './calendar.ts'
import type { TimeZone } from './time-zone.ts'

/** A piece of a layout: literal text, or an element such as `2006` or `-07:00` that stands for part of a time. */
export interface LayoutPart {
  readonly kind: 'text' | 'element'
  readonly text: string
}

/** Layouts that OPA knows by name. */
export const NAMED_LAYOUTS: ReadonlyMap<string, string> = new Map([
  ['ANSIC', 'Mon Jan _2 15:04:05 2006'],
  ['UnixDate', 'Mon Jan _2 15:04:05 MST 2006'],
  ['RubyDate', 'Mon Jan 02 15:04:05 -0700 2006'],
  ['RFC822', '02 Jan 06 15:04 MST'],
  ['RFC822Z', '02 Jan 06 15:04 -0700'],
  ['RFC850', 'Monday, 02-Jan-06 15:04:05 MST'],
  ['RFC1123', 'Mon, 02 Jan 2006 15:04:05 MST'],
  ['RFC1123Z', 'Mon, 02 Jan 2006 15:04:05 -0700'],
  ['RFC3339', '2006-01-02T15:04:05Z07:00'],
  ['RFC3339Nano', '2006-01-02T15:04:05.999999999Z07:00'],
])

/** What Go recognises, the longer spelling before the shorter. */
const ELEMENT =
  /January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|0[1-6]|002|15|1|2006|2|_(?=2006)|_2|__2|3|4|5|PM|pm|-070000|-07:00:00|-0700|-07:00|-07|Z070000|Z07:00:00|Z0700|Z07:00|Z07|[.,](?:0+|9+)(?!\d)/g

/** The parts of a layout in order. */
export function parseLayout(layout: string): readonly LayoutPart[] {
  const parts: LayoutPart[] = []
  let from = 0
  for (const match of layout.matchAll(ELEMENT)) {
    // `_2006` is an underscore and a year.
    if (match[0] === '_') continue
    if (match.index > from) parts.push({ kind: 'text', text: layout.slice(from, match.index) })
    parts.push({ kind: 'element', text: match[0] })
    from = match.index + match[0].length
  }
  if (from < layout.length) parts.push({ kind: 'text', text: layout.slice(from) })
  return parts
}

/** Whether the element is a zone offset such as `-0700` or `Z07:00`. */
export function isZoneOffset(element: string): boolean {
  return /^[-Z]07/.test(element)
}

/** Whether the element is a fraction of a second such as `.000` or `,999`. */
export function isFraction(element: string): boolean {
  return /^[.,]/.test(element)
}

/** A moment in a zone, ready to be printed. */
interface ZonedTime {
  readonly time: CivilTime
  readonly offset: number
  readonly abbreviation: () => string
}

function pad(value: number, width: number, filler = '0'): string {
  return String(value).padStart(width, filler)
}

function hour12({ hour }: CivilTime): number {
  return hour % 12 === 0 ? 12 : hour % 12
}

const ELEMENTS: Readonly<Record<string, (zoned: ZonedTime) => string>> = {
  '2006': ({ time }) => pad(time.year, 4),
  '06': ({ time }) => pad(time.year % 100, 2),
  January: ({ time }) => MONTHS[time.month - 1] ?? '',
  Jan: ({ time }) => (MONTHS[time.month - 1] ?? '').slice(0, 3),
  '1': ({ time }) => String(time.month),
  '01': ({ time }) => pad(time.month, 2),
  Monday: ({ time }) => WEEKDAYS[weekdayOf(time)] ?? '',
  Mon: ({ time }) => (WEEKDAYS[weekdayOf(time)] ?? '').slice(0, 3),
  '2': ({ time }) => String(time.day),
  _2: ({ time }) => pad(time.day, 2, ' '),
  '02': ({ time }) => pad(time.day, 2),
  __2: ({ time }) => pad(dayOfYear(time), 3, ' '),
  '002': ({ time }) => pad(dayOfYear(time), 3),
  '15': ({ time }) => pad(time.hour, 2),
  '3': ({ time }) => String(hour12(time)),
  '03': ({ time }) => pad(hour12(time), 2),
  '4': ({ time }) => String(time.minute),
  '04': ({ time }) => pad(time.minute, 2),
  '5': ({ time }) => String(time.second),
  '05': ({ time }) => pad(time.second, 2),
  PM: ({ time }) => (time.hour >= 12 ? 'PM' : 'AM'),
  pm: ({ time }) => (time.hour >= 12 ? 'pm' : 'am'),
  MST: ({ abbreviation }) => abbreviation(),
}

function fractionText(element: string, nanosecond: number): string {
  const digits = element.length - 1
  const kept = pad(nanosecond, 9).slice(0, digits)
  if (element[1] === '0') return element.charAt(0) + kept
  const trimmed = kept.replace(/0+$/, '')
  return trimmed === '' ? '' : element.charAt(0) + trimmed
}

function offsetText(element: string, offset: number): string {
  if (offset === 0 && element.startsWith('Z')) return 'Z'
  const seconds = Math.abs(offset)
  const colon = element.includes(':') ? ':' : ''
  const parts = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60]
  const wanted = element.replaceAll(':', '').length / 2
  const sign = offset <= -60 ? '-' : '+'
  return (
    sign +
    parts
      .slice(0, Math.floor(wanted))
      .map((part) => pad(part, 2))
      .join(colon)
  )
}

/** Prints a moment (nanoseconds since 1970) by a layout, in a zone. */
export function formatTime(nanoseconds: bigint, zone: TimeZone, layout: string): string {
  const seconds = Number(nanoseconds / 1_000_000_000n) - (nanoseconds % 1_000_000_000n < 0n ? 1 : 0)
  const nanosecond = Number(((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)
  const offset = zone.offsetAt(seconds)
  const zoned: ZonedTime = {
    time: toCivil(seconds + offset, nanosecond),
    offset,
    abbreviation: () => zone.abbreviationAt(seconds),
  }
  return parseLayout(layout)
    .map((part) => (part.kind === 'text' ? part.text : elementText(part.text, zoned)))
    .join('')
}

function elementText(element: string, zoned: ZonedTime): string {
  if (isFraction(element)) return fractionText(element, zoned.time.nanosecond)
  if (isZoneOffset(element)) return offsetText(element, zoned.offset)
  return ELEMENTS[element]?.(zoned) ?? ''
}
