/** Adds entries to a client's file without losing what is there. What cannot be kept for certain is refused. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { UsageError } from '../errors.ts'
import { parseExact, stringifyExact } from '../json/exact.ts'
import { JsonRefusal, scanText } from '../json/scan.ts'
import type { ClientPlan, JsonAddition, TomlAddition } from './clients.ts'

/** What became of the entries. */
export interface Merged {
  /** Names of those that were not there. */
  readonly added: readonly string[]
  /** Names of those that stood there already, just so. */
  readonly unchanged: readonly string[]
}

/** Far above any file of settings. */
const MAX_BYTES = 4 * 1024 * 1024

/** The text to paste into an empty file, or to copy from. */
export function toSnippet({ addition }: ClientPlan): string {
  if (addition.format === 'toml') return tomlText(addition)
  return `${JSON.stringify(jsonDocument(addition), null, 2)}\n`
}

/**
 * Adds them to the file, which is made when it is missing and replaced in one step when it is not. Throws UsageError
 * `not_mergeable` (comments, or another shape than expected), `exists` (an entry of that name with other settings) or
 * `usage` (it cannot be written); then nothing was changed.
 */
export async function mergeIntoFile({ file, addition }: ClientPlan): Promise<Merged> {
  const existing = await readExisting(file)
  const merged =
    addition.format === 'json' ? mergeJson(file, existing, addition) : mergeToml(file, existing, addition)
  if (merged.text !== existing) await replace(file, merged.text)
  return merged
}

interface MergedText extends Merged {
  readonly text: string
}

function mergeJson(file: string, existing: string | null, addition: JsonAddition): MergedText {
  const document = parseObject(file, existing)
  const servers = objectIn(file, document, addition.member)
  const { added, unchanged } = sortOut(file, addition.servers, servers)
  for (const name of added) servers[name] = addition.servers[name]
  document[addition.member] = servers
  const isNew = addInputs(file, document, addition.inputs)
  if (existing !== null && added.length === 0 && !isNew) return { text: existing, added, unchanged }
  return { text: layOut(document, existing), added, unchanged }
}

function parseObject(file: string, text: string | null): Record<string, unknown> {
  if (text === null || text.trim() === '') return {}
  try {
    // Refuses what a parser would drop without a word: the first of two members of the same name.
    scanText(text)
    const value = parseExact(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>
  } catch (cause) {
    if (!(cause instanceof SyntaxError || cause instanceof JsonRefusal)) throw cause
    throw notMergeable(file, 'holds comments or is no plain JSON', cause)
  }
  throw notMergeable(file, 'is no JSON object')
}

function objectIn(file: string, document: Record<string, unknown>, member: string): Record<string, unknown> {
  const value = document[member] ?? {}
  if (typeof value === 'object' && !Array.isArray(value)) return value as Record<string, unknown>
  throw notMergeable(file, `has a member "${member}" that is no object`)
}

/** true when there was something to add. */
function addInputs(file: string, document: Record<string, unknown>, inputs: JsonAddition['inputs']): boolean {
  if (inputs.length === 0) return false
  const existing = document['inputs'] ?? []
  if (!Array.isArray(existing)) throw notMergeable(file, 'has a member "inputs" that is no list')
  const ids = new Set(existing.map((input: unknown) => (input as { id?: unknown } | null)?.id))
  const missing = inputs.filter(({ id }) => !ids.has(id))
  document['inputs'] = [...(existing as unknown[]), ...missing]
  return missing.length > 0
}

function sortOut(
  file: string,
  wanted: Readonly<Record<string, unknown>>,
  present: Readonly<Record<string, unknown>>,
): Merged {
  const names = Object.keys(wanted)
  const unchanged = names.filter((name) => isDeepStrictEqual(present[name], wanted[name]))
  const added = names.filter((name) => !Object.hasOwn(present, name))
  const other = names.filter((name) => !(unchanged.includes(name) || added.includes(name)))
  if (other.length > 0) throw entryExists(file, other)
  return { added, unchanged }
}

/** With the indentation, line ends and last line of the file as it was. */
function layOut(document: Record<string, unknown>, existing: string | null): string {
  const text = stringifyExact(document, 2)
  if (existing === null || existing.trim() === '') return `${text}\n`
  const indent = /^([ \t]+)"/m.exec(existing)?.[1] ?? '  '
  const indented = text.replace(/^(?: {2})+/gm, (spaces) => indent.repeat(spaces.length / 2))
  const lines = existing.includes('\r\n') ? indented.replaceAll('\n', '\r\n') : indented
  return lines + (/\r?\n$/.exec(existing)?.[0] ?? '')
}

function jsonDocument(addition: JsonAddition): Record<string, unknown> {
  const inputs = addition.inputs.length === 0 ? {} : { inputs: addition.inputs }
  return { ...inputs, [addition.member]: addition.servers }
}

/**
 * A table at the end changes nothing that stands before it. What would make that untrue is refused: the same table in
 * another spelling, or text of several lines, in which a line that looks like a table need not be one.
 */
function mergeToml(file: string, existing: string | null, addition: TomlAddition): MergedText {
  const text = existing ?? ''
  if (/"""|'''/.test(text)) throw notMergeable(file, 'holds texts of several lines')
  const lines = text.split(/\r?\n/)
  const isSpelledOtherwise = lines.some((line) =>
    /^\s*(\[\[?\s*)?(["']mcp_servers["']|mcp_servers\s*(=|\]|\.\s*["']|\.[^\]]*=))/.test(line),
  )
  if (isSpelledOtherwise) throw notMergeable(file, 'names its servers in another way than [mcp_servers.NAME]')
  const present = Object.fromEntries(
    Object.keys(addition.tables).flatMap((name) => {
      const found = readTable(lines, name)
      return found === null ? [] : [[name, found]]
    }),
  )
  const { added, unchanged } = sortOut(file, addition.tables, present)
  const tables = Object.fromEntries(Object.entries(addition.tables).filter(([name]) => added.includes(name)))
  const names = { added: added.map(lastPart), unchanged: unchanged.map(lastPart) }
  if (added.length === 0) return { text, ...names }
  const gap = text.trim() === '' ? '' : text.endsWith('\n') ? '\n' : '\n\n'
  return { text: text + gap + tomlText({ format: 'toml', tables }), ...names }
}

function lastPart(table: string): string {
  return table.slice(table.lastIndexOf('.') + 1)
}

/** The plain texts of a table; null when there is none of that name. */
function readTable(lines: readonly string[], name: string): Record<string, string> | null {
  const header = (line: string): string | null =>
    /^\s*\[\s*([^[\]]+?)\s*\]\s*(#.*)?$/.exec(line)?.[1]?.replace(/\s*\.\s*/g, '.') ?? null
  const start = lines.findIndex((line) => header(line) === name)
  if (start === -1) return null
  const rest = lines.slice(start + 1)
  const end = rest.findIndex((line) => /^\s*\[/.test(line))
  const members = (end === -1 ? rest : rest.slice(0, end)).filter((line) => !/^\s*(#.*)?$/.test(line))
  return Object.fromEntries(
    members.map((line) => {
      const [, key = line, value = ''] = /^\s*([A-Za-z0-9_-]+)\s*=\s*"([^"\\]*)"\s*(?:#.*)?$/.exec(line) ?? []
      return [key, value]
    }),
  )
}

function tomlText({ tables }: TomlAddition): string {
  return Object.entries(tables)
    .map(([name, members]) => {
      const lines = Object.entries(members).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
      return `[${name}]\n${lines.join('')}`
    })
    .join('\n')
}

async function readExisting(file: string): Promise<string | null> {
  try {
    const facts = await stat(file)
    if (!facts.isFile()) throw new UsageError('usage', `${file} is no file.`)
    if (facts.size > MAX_BYTES) throw notMergeable(file, `is larger than ${MAX_BYTES} bytes`)
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readFile(file))
  } catch (cause) {
    if (cause instanceof UsageError) throw cause
    if (cause instanceof TypeError) throw notMergeable(file, 'is not UTF-8 text', cause)
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return null
    throw cannotWrite(file, cause)
  }
}

/** All or nothing, with the mode it had; a link stays one. */
async function replace(file: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true })
    const target = await realpath(file).catch(() => file)
    const mode = (await stat(target).catch(() => null))?.mode ?? 0o644
    const draft = `${target}.${randomBytes(6).toString('hex')}`
    try {
      await writeFile(draft, text, { mode: mode & 0o777, flag: 'wx' })
      await rename(draft, target)
    } finally {
      await rm(draft, { force: true })
    }
  } catch (cause) {
    throw cannotWrite(file, cause)
  }
}

function notMergeable(file: string, what: string, cause?: unknown): UsageError {
  return new UsageError(
    'not_mergeable',
    `${file} ${what}, so it was left as it is. Paste the entry by hand: the same command without --write shows it.`,
    { cause },
  )
}

function entryExists(file: string, names: readonly string[]): UsageError {
  return new UsageError(
    'exists',
    `${file} has ${names.join(', ')} already, with other settings. Remove it there, or choose another name with --as.`,
  )
}

function cannotWrite(file: string, cause: unknown): UsageError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown reason'
  return new UsageError('usage', `${file} cannot be read or written (${code}).`, { cause })
}
