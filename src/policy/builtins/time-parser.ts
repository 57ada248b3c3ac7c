/** Reading a time by a Go layout (`time.Parse`). Zone abbreviations other than UTC count as UTC, as on a UTC machine. */
import { BuiltinError } from './budget.ts'
import { daysInMonth, MONTHS, toSeconds, WEEKDAYS } from './calendar.ts'
import type { LayoutPart } from './time-layout.ts'
import { isFraction, isZoneOffset, parseLayout } from './time-layout.ts'

/** What the layout's elements have found so far. */
interface Fields {
  year: number
  month: number | undefined
  day: number | undefined
  yearDay: number | undefined
  hour: number
  minute: number
  second: number
  nanosecond: number
  half: 'am' | 'pm' | undefined
  isUtc: boolean
  offset: number | undefined
}

function bad(): BuiltinError {
  return new BuiltinError('parsing time: value does not match the layout')
}

class TimeParser {
  readonly #parts: readonly LayoutPart[]
  #rest: string
  #part = 0
  readonly fields: Fields = {
    year: 0,
    month: undefined,
    day: undefined,
    yearDay: undefined,
    hour: 0,
    minute: 0,
    second: 0,
    nanosecond: 0,
    half: undefined,
    isUtc: false,
    offset: undefined,
  }

  constructor(layout: string, value: string) {
    this.#parts = parseLayout(layout)
    this.#rest = value
  }

  run(): Fields {
    for (; this.#part < this.#parts.length; this.#part += 1) {
      const part = this.#parts[this.#part]
      if (part?.kind === 'text') this.#skip(part.text)
      else if (part !== undefined) this.#element(part.text)
    }
    if (this.#rest !== '') throw bad()
    return this.fields
  }

  /** Literal text; a run of spaces matches any run of spaces, and the end of the value. */
  #skip(text: string): void {
    for (const run of text.match(/ +|[^ ]+/g) ?? []) {
      if (run.startsWith(' ')) {
        if (this.#rest !== '' && !this.#rest.startsWith(' ')) throw bad()
        this.#rest = this.#rest.replace(/^ +/, '')
      } else {
        if (!this.#rest.startsWith(run)) throw bad()
        this.#rest = this.#rest.slice(run.length)
      }
    }
  }

  /** Takes what the pattern (anchored at the start) matches. */
  #take(pattern: RegExp): RegExpExecArray {
    const match = pattern.exec(this.#rest)
    if (match === null) throw bad()
    this.#rest = this.#rest.slice(match[0].length)
    return match
  }

  #number(pattern: RegExp, low: number, high: number): number {
    const value = Number(this.#take(pattern)[0])
    if (value < low || value > high) throw bad()
    return value
  }

  #name(names: readonly string[], length?: number): number {
    const at = names.findIndex((name) => {
      const wanted = name.slice(0, length).toLowerCase()
      return this.#rest.slice(0, wanted.length).toLowerCase() === wanted
    })
    if (at < 0) throw bad()
    this.#rest = this.#rest.slice((names[at] ?? '').slice(0, length).length)
    return at
  }

  #element(element: string): void {
    if (isFraction(element)) this.#fraction(element)
    else if (isZoneOffset(element)) this.#zoneOffset(element)
    else this.#field(element)
  }

  #field(element: string): void {
    const { fields } = this
    switch (element) {
      case '2006':
        fields.year = this.#number(/^\d{4}/, 0, 9_999)
        break
      case '06':
        fields.year = this.#shortYear()
        break
      case 'January':
        fields.month = this.#name(MONTHS) + 1
        break
      case 'Jan':
        fields.month = this.#name(MONTHS, 3) + 1
        break
      case '1':
      case '01':
        fields.month = this.#number(element === '01' ? /^\d\d/ : /^\d\d?/, 1, 12)
        break
      case 'Monday':
        this.#name(WEEKDAYS)
        break
      case 'Mon':
        this.#name(WEEKDAYS, 3)
        break
      case 'MST':
        this.#zoneName()
        break
      default:
        this.#clockOrDay(element)
    }
  }

  #clockOrDay(element: string): void {
    const { fields } = this
    switch (element) {
      case '2':
      case '02':
        fields.day = Number(this.#take(element === '02' ? /^\d\d/ : /^\d\d?/)[0])
        break
      case '_2':
        fields.day = Number(this.#take(/^ ?\d\d?/)[0])
        break
      case '002':
      case '__2':
        fields.yearDay = Number(this.#take(element === '002' ? /^\d{3}/ : /^ {0,2}\d{1,3}/)[0])
        break
      case '15':
        fields.hour = this.#number(/^\d\d?/, 0, 23)
        break
      case '3':
      case '03':
        fields.hour = this.#number(element === '03' ? /^\d\d/ : /^\d\d?/, 0, 12)
        break
      case '4':
      case '04':
        fields.minute = this.#number(element === '04' ? /^\d\d/ : /^\d\d?/, 0, 59)
        break
      case '5':
      case '05':
        fields.second = this.#number(element === '05' ? /^\d\d/ : /^\d\d?/, 0, 59)
        this.#undeclaredFraction()
        break
      default:
        fields.half = this.#half(element)
    }
  }

  /** Two characters, a sign allowed; 69..99 are of the last century. */
  #shortYear(): number {
    const year = Number(this.#take(/^(?:\d\d|[+-]\d)/)[0])
    return year >= 69 ? year + 1_900 : year + 2_000
  }

  #half(element: string): 'am' | 'pm' {
    return this.#take(element === 'PM' ? /^[AP]M/ : /^[ap]m/)[0].toLowerCase() === 'pm' ? 'pm' : 'am'
  }

  /** A value may have a fraction after the seconds even if the layout has none. */
  #undeclaredFraction(): void {
    const next = this.#parts[this.#part + 1]
    const nextElement = next?.kind === 'text' ? this.#parts[this.#part + 2] : next
    if (nextElement !== undefined && isFraction(nextElement.text)) return
    if (/^[.,]\d/.test(this.#rest)) this.fields.nanosecond = toNanoseconds(this.#take(/^[.,]\d+/)[0])
  }

  #fraction(element: string): void {
    if (element[1] === '9') {
      if (/^[.,]\d/.test(this.#rest)) this.fields.nanosecond = toNanoseconds(this.#take(/^[.,]\d+/)[0])
      return
    }
    const text = this.#rest.slice(0, element.length)
    if (text.length < element.length || !/^[.,](?:\d+|\+\d+|-0+)$/.test(text.slice(0, 10))) throw bad()
    this.fields.nanosecond = toNanoseconds(text)
    this.#rest = this.#rest.slice(element.length)
  }

  #zoneOffset(element: string): void {
    if (element.startsWith('Z') && this.#rest.startsWith('Z')) {
      this.fields.isUtc = true
      this.#rest = this.#rest.slice(1)
      return
    }
    const shape = element.slice(1).replace('07', '([+-])(\\d\\d)').replaceAll('00', '(\\d\\d)')
    const [, sign, hours = 0, minutes = 0, seconds = 0] = this.#take(OFFSET_PATTERNS.get(shape) ?? /$^/)
    if (Number(hours) > 24 || Number(minutes) > 60 || Number(seconds) > 60) throw bad()
    const offset = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)
    this.fields.offset = sign === '-' ? -offset : offset
  }

  #zoneName(): void {
    if (this.#rest.startsWith('UTC')) {
      this.fields.isUtc = true
      this.#rest = this.#rest.slice(3)
      return
    }
    const length = zoneNameLength(this.#rest)
    if (length === 0) throw bad()
    this.#rest = this.#rest.slice(length)
  }
}

const OFFSET_PATTERNS: ReadonlyMap<string, RegExp> = new Map(
  ['', ':(\\d\\d)', '(\\d\\d)', ':(\\d\\d):(\\d\\d)', '(\\d\\d)(\\d\\d)'].map((tail) => {
    const source = `([+-])(\\d\\d)${tail}`
    return [source, new RegExp(`^${source}`)]
  }),
)

function toNanoseconds(fraction: string): number {
  const digits = fraction.slice(1, 10)
  return Number(digits) * 10 ** (9 - digits.length)
}

/** Length of what looks like a zone abbreviation at the start, 0 when nothing does. */
function zoneNameLength(text: string): number {
  if (/^(?:ChST|MeST)/.test(text)) return 4
  if (text.startsWith('GMT')) return 3 + signedHoursLength(text.slice(3))
  if (/^[+-]/.test(text)) return text.length < 3 ? 0 : signedHoursLength(text)
  const capitals = /^[A-Z]{0,6}/.exec(text)?.[0] ?? ''
  if (capitals.length === 3) return 3
  if (capitals.length === 4) return capitals.endsWith('T') || capitals === 'WITA' ? 4 : 0
  return capitals.length === 5 && capitals.endsWith('T') ? 5 : 0
}

function signedHoursLength(text: string): number {
  const match = /^[+-](\d+)/.exec(text)
  return match !== null && Number(match[1]) <= 23 ? match[0].length : 0
}

/** Month and day from what was read; a day of the year must agree with both. */
function resolveDate({ year, month, day, yearDay }: Fields): { month: number; day: number } {
  if (yearDay === undefined) return { month: month ?? 1, day: day ?? 1 }
  let foundMonth = 1
  let foundDay = yearDay
  while (foundMonth < 12 && foundDay > daysInMonth(year, foundMonth)) {
    foundDay -= daysInMonth(year, foundMonth)
    foundMonth += 1
  }
  if (yearDay < 1 || foundDay > daysInMonth(year, foundMonth)) throw bad()
  if ((month ?? foundMonth) !== foundMonth || (day ?? foundDay) !== foundDay) throw bad()
  return { month: foundMonth, day: foundDay }
}

/**
 * Nanoseconds since 1970 of a time written by a layout.
 *
 * @throws {BuiltinError} when it is not
 */
export function parseTime(layout: string, value: string): bigint {
  const fields = new TimeParser(layout, value).run()
  const { month, day } = resolveDate(fields)
  if (day < 1 || day > daysInMonth(fields.year, month)) throw bad()
  let hour = fields.hour
  if (fields.half === 'pm' && hour < 12) hour += 12
  if (fields.half === 'am' && hour === 12) hour = 0
  const seconds = toSeconds({ ...fields, month, day, hour })
  // An offset of -1 second is Go's mark for none.
  const offset = fields.isUtc || fields.offset === undefined || fields.offset === -1 ? 0 : fields.offset
  return BigInt(seconds - offset) * 1_000_000_000n + BigInt(fields.nanosecond)
}
