/** A row as one JSON document, as `audit show --json` and exports give it. Pure. */
import { parseExact, stringifyExact } from '../json/exact.ts'
import type { StoredRow } from './query.ts'

/** The row's columns as JSON text on one line. JSON columns go in as they are stored, so numbers keep their digits. */
export function toJsonLine(row: StoredRow): string {
  const { request_json, response_json, decision, redaction, ...plain } = row
  const json = { request_json, response_json, decision, redaction }
  const members = Object.entries(json).map(([name, text]) => `,${JSON.stringify(name)}:${text ?? 'null'}`)
  return `${JSON.stringify(plain).slice(0, -1)}${members.join('')}}`
}

/** The same without needless spaces, or, with `indent`, laid out for a person. */
export function toJsonPage(row: StoredRow, indent?: number): string {
  return stringifyExact(parseExact(toJsonLine(row)), indent)
}
