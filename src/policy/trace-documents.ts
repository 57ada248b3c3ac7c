/** What rules without arguments came to in one evaluation: their documents, put together from the events of their definitions. */
import type { Document } from './dictionary.ts'
import type { Recording } from './host-values.ts'
import type { PreparedDictionary, PreparedRule } from './trace-dictionary.ts'
import { splitArray, toJsonText } from './trace-value.ts'

/** The document of a rule as an expression sees it. */
export interface DocumentValue {
  readonly json: string
  /** A set is written as an array, but is looked into by element. */
  readonly isSet: boolean
}

/** Undefined when the rule was undefined, null when that is not known. */
export type Documents = (document: Document) => DocumentValue | undefined | null

/** Longest text that is taken apart or put together, in characters. */
const MAX_DOCUMENT = 8192

/** Solutions of one definition. */
interface Definition {
  readonly rule: PreparedRule
  /** Rego texts, one for each solution; null = not evaluated, too large, cut short, or different under a `with`. */
  readonly rows: readonly string[] | null
}

/** Reads documents when they are asked for, each once. */
export function createDocuments(dictionary: PreparedDictionary, recording: Recording): Documents {
  // What was left out could be an evaluation under another input.
  if (recording.dropped > 0 && dictionary.replaces) return () => null
  const known = new Map<string, DocumentValue | undefined | null>()
  let texts: ReadonlyMap<number, string | null> | null = null
  return (document) => {
    if (known.has(document.rule)) return known.get(document.rule)
    texts ??= rowTexts(recording)
    const rows = texts
    const definitions = (dictionary.documents.get(document.rule) ?? []).map((rule) => ({
      rule,
      rows: rowsOf(rows.get(rule.probe.id)),
    }))
    const value = together(document, definitions)
    const bounded = value != null && value.json.length > MAX_DOCUMENT ? null : value
    known.set(document.rule, bounded)
    return bounded
  }
}

function rowsOf(text: string | null | undefined): readonly string[] | null {
  return text == null || text.length > MAX_DOCUMENT ? null : splitArray(text)
}

/** Definition id -> text of its rows; null = too large, not finished, or more than one text. */
function rowTexts({ events }: Recording): ReadonlyMap<number, string | null> {
  const texts = new Map<number, string | null>()
  const open = new Set<number>()
  for (const { op, id, values } of events) {
    if (op === 'enter') open.add(id)
    if (op !== 'leave') continue
    open.delete(id)
    const [text = null] = values
    texts.set(id, texts.has(id) && texts.get(id) !== text ? null : text)
  }
  for (const id of open) texts.set(id, null)
  return texts
}

function together(document: Document, definitions: readonly Definition[]): DocumentValue | undefined | null {
  const [first] = definitions
  if (first === undefined) return null
  if (first.rule.probe.path !== document.rule) return asObject(definitions)
  return first.rule.isSet ? asSet(definitions) : asValue(document, definitions)
}

/** A branch `else` is entered only when those before it are undefined. */
function asValue(document: Document, definitions: readonly Definition[]): DocumentValue | undefined | null {
  for (const { rule, rows } of definitions) {
    const [row] = rows ?? []
    if (row !== undefined) return { json: elementOf(rule, row), isSet: false }
  }
  if (definitions.some(({ rule, rows }) => rows === null && rule.probe.kind !== 'else')) return null
  return document.default === null ? undefined : { json: toJsonText(document.default), isSet: false }
}

function asSet(definitions: readonly Definition[]): DocumentValue | null {
  const elements = new Set<string>()
  for (const { rule, rows } of definitions) {
    if (rows === null) return null
    for (const row of rows) elements.add(elementOf(rule, row))
  }
  return { json: `[${[...elements].sort().join(',')}]`, isSet: true }
}

function asObject(definitions: readonly Definition[]): DocumentValue | null {
  const members: string[] = []
  for (const { rule, rows } of definitions) {
    if (rows === null || rule.probe.outs !== 2) return null
    for (const row of rows) {
      const [key, value] = splitArray(row) ?? []
      if (key === undefined || value === undefined) return null
      members.push(`${key}: ${value}`)
    }
  }
  return { json: toJsonText(`{${members.join(', ')}}`), isSet: false }
}

function elementOf({ probe, constant }: PreparedRule, row: string): string {
  return probe.outs === 0 ? constant : toJsonText(row)
}
