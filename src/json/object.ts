/** Parsed JSON of unknown shape: objects are told from arrays, null and everything else. */

/** A JSON object; its members are still unknown. */
export type JsonObject = Readonly<Record<string, unknown>>

/** Whether a value is a JSON object, and not an array. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value as a JSON object; null for everything else. */
export function asObject(value: unknown): JsonObject | null {
  return isObject(value) ? value : null
}
