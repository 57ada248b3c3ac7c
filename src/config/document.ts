/** gateway.yaml as a value tree that still knows where each setting stands in the file. */

import type { Document } from 'yaml'
import { isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import type { Problem } from './problems.ts'
import { ConfigError } from './problems.ts'

/** A path into the file: member names and list positions. */
export type SettingPath = readonly (string | number)[]

/** The parsed file. */
export interface ConfigDocument {
  readonly file: string
  /** Plain values as written: nothing replaced, nothing filled in. */
  readonly value: Readonly<Record<string, unknown>>
  /** `file:line:col` of the setting's name (`key`) or value; of the nearest thing that exists when it does not. */
  at(path: SettingPath, part: 'key' | 'value'): string
}

/** A config of 1,000 upstreams stays below this; larger is a mistake or an attack. */
const MAX_FILE_BYTES = 1_048_576
/** Anchors are allowed for convenience; this stops a file from growing into billions of values. */
const MAX_ALIASES = 100

/** Parses YAML text. Throws ConfigError with the position of every syntax error, duplicate key or unknown tag. */
export function parseConfigDocument(file: string, text: string): ConfigDocument {
  if (Buffer.byteLength(text) > MAX_FILE_BYTES) {
    throw new ConfigError([
      { at: file, path: '', message: `larger than ${MAX_FILE_BYTES} bytes`, hint: null },
    ])
  }
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    version: '1.2',
  })
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${line}:${col}`
  }
  const faults = [...document.errors, ...document.warnings]
  if (faults.length > 0) {
    throw new ConfigError(faults.slice(0, 20).map((fault) => syntaxProblem(fault, place(fault.pos[0]))))
  }
  return {
    file,
    value: toRoot(document, file),
    at: (path, part) => place(offsetOf(document.contents, path, part)),
  }
}

function syntaxProblem(fault: { code: string; message: string }, at: string): Problem {
  if (fault.code === 'DUPLICATE_KEY') {
    return { at, path: '', message: 'the same key twice in one mapping', hint: 'Keep one of them' }
  }
  return { at, path: '', message: `not valid YAML: ${fault.message}`, hint: null }
}

function toRoot(document: Document.Parsed, file: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES })
  } catch (cause) {
    // The only thing that throws here is the guard against exponential aliases.
    const message = cause instanceof Error ? cause.message : 'cannot be read'
    throw new ConfigError([{ at: `${file}:1:1`, path: '', message, hint: 'Write the values out' }])
  }
  if (value === null || value === undefined) return {}
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new ConfigError([
      {
        at: `${file}:1:1`,
        path: '',
        message: 'must be a mapping of settings',
        hint: 'listen: 127.0.0.1:8080',
      },
    ])
  }
  return value as Record<string, unknown>
}

function offsetOf(root: unknown, path: SettingPath, part: 'key' | 'value'): number {
  let node = root
  let offset = startOf(node) ?? 0
  for (const [depth, step] of path.entries()) {
    const found = child(node, step)
    if (found === null) return offset
    const isLast = depth === path.length - 1
    const key = startOf(found.key)
    const value = startOf(found.value)
    offset = (isLast && part === 'key' ? key : (value ?? key)) ?? value ?? offset
    node = found.value
  }
  return offset
}

function child(node: unknown, step: string | number): { key: unknown; value: unknown } | null {
  if (isSeq(node)) {
    const value = node.items[Number(step)]
    return value === undefined ? null : { key: value, value }
  }
  if (!isMap(node)) return null
  for (const pair of node.items) {
    if (!isPair(pair)) continue
    const name = isScalar(pair.key) ? String(pair.key.value) : null
    if (name === String(step)) return { key: pair.key, value: pair.value }
  }
  return null
}

function startOf(node: unknown): number | null {
  return isNode(node) && node.range ? node.range[0] : null
}
