/**
 * Stored JSON for people and programs without losing digits: a number that JavaScript cannot hold becomes a string that
 * begins with NUL, which no stored text can contain, and is written as a number again.
 */

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]{15,}/g
const KEPT = /"\\u0000(-?[\d.eE+-]+)"/g

/** Parses the text of a JSON column. */
export function parseExact(text: string): unknown {
  return JSON.parse(text.replace(TOKENS, (token) => (token.startsWith('"') ? token : `"\\u0000${token}"`)))
}

/** Writes what {@link parseExact} has read. */
export function stringifyExact(value: unknown, indent?: number): string {
  return (JSON.stringify(value, null, indent) ?? 'null').replace(KEPT, '$1')
}
