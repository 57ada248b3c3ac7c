/** RFC 3339 with up to nine digits of a second -> nanoseconds; null when there is no such day or hour. */
export function parseMoment(text: string): bigint | null {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (match === null) return null
  const [, day = '', hour = '', fraction = '', zone = ''] = match
  // Date takes 30 February for 2 March.
  const exists =
    Number.isFinite(Date.parse(`${day}T00:00:00Z`)) &&
    new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)
  const ms = Date.parse(`${day}T${hour}${zone}`)
  if (!exists || !Number.isFinite(ms)) return null
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0') || '0')
}
