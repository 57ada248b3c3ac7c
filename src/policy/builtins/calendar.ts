/** The proleptic Gregorian calendar on plain numbers. */

/** A date and time of day without a zone. `month` 1..12, `day` 1..31. */
export interface CivilTime {
  readonly year: number
  readonly month: number
  readonly day: number
  readonly hour: number
  readonly minute: number
  readonly second: number
  readonly nanosecond: number
}

const SECONDS_PER_DAY = 86_400
const DAYS_PER_ERA = 146_097

/** Days since 1970-01-01. Months beyond 1..12 and days beyond the month carry over. */
export function daysFromCivil(year: number, month: number, day: number): number {
  const carried = year + Math.floor((month - 1) / 12)
  const zeroMonth = (((month - 1) % 12) + 12) % 12
  // Years start in March here, so that the leap day is the last one.
  const shifted = zeroMonth < 2 ? carried - 1 : carried
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const monthFromMarch = (zeroMonth + 10) % 12
  const dayOfYear = Math.floor((153 * monthFromMarch + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * DAYS_PER_ERA + dayOfEra - 719_468
}

function civilFromDays(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468
  const era = Math.floor(shifted / DAYS_PER_ERA)
  const dayOfEra = shifted - era * DAYS_PER_ERA
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1_460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1,
  }
}

/** Date and time of day of seconds since 1970. */
export function toCivil(seconds: number, nanosecond: number): CivilTime {
  const days = Math.floor(seconds / SECONDS_PER_DAY)
  const rest = seconds - days * SECONDS_PER_DAY
  return {
    ...civilFromDays(days),
    hour: Math.floor(rest / 3_600),
    minute: Math.floor(rest / 60) % 60,
    second: rest % 60,
    nanosecond,
  }
}

/** Seconds since 1970, as if the time were UTC. Parts beyond their range carry over. */
export function toSeconds(time: CivilTime): number {
  const days = daysFromCivil(time.year, time.month, time.day)
  return days * SECONDS_PER_DAY + time.hour * 3_600 + time.minute * 60 + time.second
}

/** 0 = Sunday. */
export function weekdayOf(time: CivilTime): number {
  return (((daysFromCivil(time.year, time.month, time.day) + 4) % 7) + 7) % 7
}

/** 1 = 1 January. */
export function dayOfYear(time: CivilTime): number {
  return daysFromCivil(time.year, time.month, time.day) - daysFromCivil(time.year, 1, 1) + 1
}

/** Number of days of the month. */
export function daysInMonth(year: number, month: number): number {
  return daysFromCivil(year, month + 1, 1) - daysFromCivil(year, month, 1)
}

/** English names, January first. */
export const MONTHS: readonly string[] = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]

/** English names, Sunday first. */
export const WEEKDAYS: readonly string[] = [
  'Sunday',
  'Monday',
  'Tuesday',
  'Wednesday',
  'Thursday',
  'Friday',
  'Saturday',
]
