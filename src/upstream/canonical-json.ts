/** One text for equal JSON values: for digests and for comparing. */

/** Values that nest deeper have no canonical text: recursion over untrusted input needs a floor. */
export const MAX_CANONICAL_DEPTH = 100

/**
 * JSON text that is the same for equal values: keys sorted by UTF-16 code units, no white space, numbers and strings as
 * ECMAScript writes them (RFC 8785 for all that JSON.parse returns). null when the value nests deeper than {@link MAX_CANONICAL_DEPTH}.
 */
export function canonicalJson(value: unknown, depth = 0): string | null {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (depth >= MAX_CANONICAL_DEPTH) return null
  const parts: string[] = []
  const isArray = Array.isArray(value)
  const members = isArray ? value.entries() : sortedMembers(value)
  for (const [key, member] of members) {
    const text = canonicalJson(member, depth + 1)
    if (text === null) return null
    parts.push(isArray ? text : `${JSON.stringify(key)}:${text}`)
  }
  return isArray ? `[${parts.join(',')}]` : `{${parts.join(',')}}`
}

function sortedMembers(value: object): [string, unknown][] {
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
}
