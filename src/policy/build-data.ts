/** Data files of a policies folder: parsed exactly or refused, then merged by folder. */
import { parseDocument } from 'yaml'
import { JsonRefusal, scanText } from '../json/scan.ts'
import type { PolicyError } from './compiler.ts'
import { AUTHOR_PACKAGES, DECISION_RULES, OWNED_PACKAGE, SERVER_PACKAGE } from './product-module.ts'

/** A parsed JSON object. */
export interface JsonObject {
  readonly [name: string]: unknown
}

/** A place in a file. */
interface Place {
  readonly code?: string
  readonly row?: number
  readonly col?: number
  readonly hint?: string | null
  readonly line?: string | null
}

/** An error about a source file as a whole, or about a place in it. */
export function dataError(file: string, message: string, place: Place = {}): PolicyError {
  const { code = 'data_error', row = 0, col = 0, hint = null, line = null } = place
  return { file, row, col, code, message, hint, line }
}

/** Bounds of JSON data; the file's size bounds the rest. */
const JSON_BOUNDS = { maxDepth: 64, maxKeys: 1_000_000 }

/** How often one anchor may be used: the alias bomb of YAML. */
const MAX_ALIASES = 100

/** The YAML parser takes three seconds for 1 MiB. */
const MAX_YAML_CHARS = 512 * 1024

type Parsed = { readonly value: JsonObject } | { readonly error: PolicyError }

/** Parses a data file, JSON or YAML 1.2 by its name. */
export function parseData(file: string, text: string): Parsed {
  try {
    const value = file.endsWith('.json') ? readJson(text) : readYaml(text)
    const inexact = findInexact(value, 'data')
    if (inexact !== null) return { error: dataError(file, inexact.message, { hint: inexact.hint }) }
    if (isObject(value)) return { value }
    return {
      error: dataError(file, 'a data file holds an object', { hint: 'give the value a name: {"name": ..}' }),
    }
  } catch (error) {
    if (!(error instanceof BadData)) throw error
    return { error: dataError(file, error.message, placeOf(text, error.offset)) }
  }
}

/** A text that is no data file. */
class BadData extends Error {
  /** Index into the text; null when the error has no place. */
  readonly offset: number | null

  constructor(message: string, offset: number | null) {
    super(message)
    this.offset = offset
  }
}

function readJson(text: string): unknown {
  try {
    scanText(text, JSON_BOUNDS)
  } catch (error) {
    if (!(error instanceof JsonRefusal)) throw error
    throw new BadData(error.message.replace(/ \(at offset \d+\)$/, ''), error.offset)
  }
  return JSON.parse(text)
}

function readYaml(text: string): unknown {
  if (text.length > MAX_YAML_CHARS) {
    throw new BadData(`YAML larger than ${MAX_YAML_CHARS} characters: write data.json for so much`, null)
  }
  const document = parseDocument(text, { prettyErrors: false, schema: 'core', stringKeys: true })
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined) throw new BadData(problem.message, problem.pos[0])
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES })
  } catch (error) {
    throw new BadData(error instanceof Error ? error.message : String(error), null)
  }
}

function placeOf(text: string, offset: number | null): Place {
  if (offset === null) return {}
  const before = text.slice(0, offset).split('\n')
  const row = before.length
  return { row, col: [...(before.at(-1) ?? '')].length + 1, line: text.split('\n')[row - 1] ?? null }
}

interface Inexact {
  readonly message: string
  readonly hint: string
}

/** The first value that would not mean in a policy what is written in the file. */
function findInexact(value: unknown, path: string): Inexact | null {
  if (typeof value === 'number') {
    if (Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value))) return null
    return { message: `${path} is a number that cannot be kept exactly`, hint: 'write it as a string' }
  }
  if (typeof value !== 'object' || value === null) return null
  for (const [name, member] of Object.entries(value)) {
    if (name === '__proto__') return { message: `${path} has a key __proto__`, hint: 'choose another key' }
    const inexact = findInexact(member, Array.isArray(value) ? `${path}[${name}]` : `${path}.${name}`)
    if (inexact !== null) return inexact
  }
  return null
}

/** Puts every document under its folder's path; a value that two files give is an error, as is one that the product owns. */
export function mergeData(documents: readonly { readonly file: string; readonly value: JsonObject }[]): {
  readonly data: JsonObject
  readonly errors: readonly PolicyError[]
} {
  const data: Record<string, unknown> = {}
  const errors: PolicyError[] = []
  for (const { file, value } of documents) {
    let nested: JsonObject = value
    for (const folder of file.split('/').slice(0, -1).reverse()) nested = { [folder]: nested }
    const clash = merge(data, nested, 'data')
    if (clash !== null) {
      errors.push(
        dataError(file, `${clash} has a value in another data file, too`, { hint: 'keep one of them' }),
      )
    }
    const owned = ownedPath(nested)
    if (owned !== null) errors.push(ownedError(file, owned))
  }
  return { data, errors }
}

function merge(into: Record<string, unknown>, from: JsonObject, path: string): string | null {
  for (const [name, value] of Object.entries(from)) {
    const held = Object.hasOwn(into, name) ? into[name] : undefined
    if (held === undefined) into[name] = structuredClone(value)
    else if (isObject(held) && isObject(value)) {
      const clash = merge(held as Record<string, unknown>, value, `${path}.${name}`)
      if (clash !== null) return clash
    } else return `${path}.${name}`
  }
  return null
}

/**
 * Finds base documents where the gateway reads its decision from rules: anything under `data.gateway` that is not under
 * `authz` or `server`, and values for the decision's own rules. null = none.
 */
export function ownedPath(data: JsonObject): string | null {
  const owned = data[OWNED_PACKAGE]
  if (owned === undefined) return null
  const path = `data.${OWNED_PACKAGE}`
  if (!isObject(owned)) return path
  const foreign = Object.keys(owned).find((name) => !AUTHOR_PACKAGES.some((open) => open === name))
  if (foreign !== undefined) return `${path}.${foreign}`
  for (const name of AUTHOR_PACKAGES) {
    const open = owned[name]
    if (open !== undefined && !isObject(open)) return `${path}.${name}`
  }
  const packages = [
    [AUTHOR_PACKAGES[0], owned[AUTHOR_PACKAGES[0]]] as const,
    ...Object.entries(owned[SERVER_PACKAGE] ?? {}).map(
      ([upstream, given]) => [`${SERVER_PACKAGE}.${upstream}`, given] as const,
    ),
  ]
  const decided = packages.find(([, given]) => ruleIn(given) !== null)
  return decided === undefined ? null : `${path}.${decided[0]}.${ruleIn(decided[1])}`
}

/** A rule of the decision that base documents give a value. */
function ruleIn(given: unknown): string | null {
  return isObject(given) ? (DECISION_RULES.find((name) => Object.hasOwn(given, name)) ?? null) : null
}

/** The error about a base document at such a path. */
export function ownedError(file: string, path: string): PolicyError {
  return dataError(file, `${path} belongs to the gateway`, {
    code: 'contract_error',
    hint: 'decisions come from rules: put the data elsewhere and let a rule read it',
  })
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
