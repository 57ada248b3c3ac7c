/** A YAML text in which every value knows where it stands, and whose numbers keep their digits. */
import type { Document, Node, Pair, YAMLMap } from 'yaml'
import { isAlias, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import type { PolicyError } from '../compiler.ts'

/** A way from the top of the document: keys and list positions. */
export type YamlPath = readonly (string | number)[]

/** A place in a file; 1-based. */
export interface Place {
  readonly file: string
  readonly row: number
  readonly col: number
}

/** What an error says besides where. */
export interface YamlProblem {
  readonly code: string
  readonly message: string
  readonly hint?: string | null
  /** Point at the key instead of the value. */
  readonly key?: boolean
}

/** The YAML parser takes three seconds for 1 MiB. */
const MAX_CHARACTERS = 512 * 1024
const MAX_ALIASES = 100
const MAX_DEPTH = 64
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

/** By the codes of the YAML library: its words are those of the grammar. */
const INDENT_HINT =
  'what belongs together begins in the same column; keys of a list item stand below its first key'
const YAML_HINTS: Readonly<Record<string, string>> = {
  BAD_INDENT: INDENT_HINT,
  UNEXPECTED_TOKEN: INDENT_HINT,
  MISSING_CHAR: `something is not closed or not separated: a bracket, a quote, the - or : of an item; ${INDENT_HINT}`,
  TAB_AS_INDENT: 'YAML is indented with spaces',
  BAD_SCALAR_START: 'put the text in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'put a text that holds ": " in quotes, or the key on a line of its own',
}

/** A parsed file. */
export class YamlDocument {
  readonly file: string
  readonly text: string
  /** The whole as JavaScript values; numbers as doubles. */
  readonly value: unknown
  readonly #lines: readonly string[]
  readonly #counter: LineCounter
  readonly #document: Document

  private constructor(file: string, text: string, counter: LineCounter, document: Document) {
    this.file = file
    this.text = text
    this.#lines = text.split('\n')
    this.#counter = counter
    this.#document = document
    this.value = document.toJS({ maxAliasCount: MAX_ALIASES })
  }

  /** Parses; all syntax errors at once, duplicate keys are among them. */
  static parse(file: string, text: string): YamlDocument | readonly PolicyError[] {
    const whole = { file, row: 0, col: 0, code: 'yaml_error', hint: null, line: null }
    if (text.length > MAX_CHARACTERS) {
      const message = `the file has more than ${MAX_CHARACTERS} characters`
      return [{ ...whole, message, hint: 'split it into several' }]
    }
    const counter = new LineCounter()
    const document = parseDocument(text, {
      lineCounter: counter,
      prettyErrors: false,
      schema: 'core',
      stringKeys: true,
    })
    const lines = text.split('\n')
    const problems = [...document.errors, ...document.warnings].map((problem) => {
      const { row, col } = placeAt(counter, lines, problem.pos[0])
      const hint = YAML_HINTS[problem.code] ?? null
      return { ...whole, row, col, message: problem.message, hint, line: lines[row - 1] ?? null }
    })
    if (problems.length > 0) return problems
    try {
      return new YamlDocument(file, text, counter, document)
    } catch (error) {
      return [{ ...whole, message: error instanceof Error ? error.message : String(error) }]
    }
  }

  /** What is written at a path, for writing it anew; null when nothing is, or when it is written elsewhere, as an anchor. */
  writtenAt(path: YamlPath): Node | null {
    let node: Node | null = this.#document.contents
    for (const step of path) {
      const inner: unknown = node === null ? null : childOf(node, step)
      node = isNode(inner) && !isAlias(inner) ? inner : null
    }
    return node
  }

  /** Where a value stands; the nearest value around it when there is none at the path. */
  placeOf(path: YamlPath, key = false): Place {
    const [start] = this.#rangeOf(path, key)
    return { file: this.file, ...placeAt(this.#counter, this.#lines, start) }
  }

  /** How much of a path leads to values. */
  reach(path: YamlPath): number {
    for (let length = path.length; length > 0; length -= 1) {
      if (this.#nodeAt(path.slice(0, length)) !== null) return length
    }
    return 0
  }

  /** An error at a place of the file. */
  error(path: YamlPath, problem: YamlProblem): PolicyError {
    const [start, end] = this.#rangeOf(path, problem.key === true)
    const { row, col } = placeAt(this.#counter, this.#lines, start)
    const last = placeAt(this.#counter, this.#lines, end)
    const { code, message, hint = null } = problem
    const line = (this.#lines[row - 1] ?? '').replace(/\r$/, '')
    const endCol = last.row === row ? last.col : [...line].length + 1
    return { file: this.file, row, col, endCol, code, message, hint, line }
  }

  /** The value as JSON text with its numbers' own digits; null when it holds something JSON cannot. */
  jsonAt(path: YamlPath): string | null {
    const node = this.#nodeAt(path)
    return node === null ? 'null' : this.#json(node, 0)
  }

  #json(node: Node, depth: number): string | null {
    const target = this.#resolve(node)
    if (depth > MAX_DEPTH || target === null) return null
    if (isScalar(target)) return scalarJson(target.value, target.source)
    if (isSeq(target)) {
      const items = target.items.map((item) => (isNode(item) ? this.#json(item, depth + 1) : 'null'))
      return items.includes(null) ? null : `[${items.join(',')}]`
    }
    if (!isMap(target)) return null
    const members = target.items.map((pair) => this.#member(pair, depth))
    return members.includes(null) ? null : `{${members.join(',')}}`
  }

  #member(pair: Pair, depth: number): string | null {
    const value = isNode(pair.value) ? this.#json(pair.value, depth + 1) : 'null'
    return value === null ? null : `${JSON.stringify(keyOf(pair))}:${value}`
  }

  #resolve(node: Node): Node | null {
    return isAlias(node) ? (node.resolve(this.#document) ?? null) : node
  }

  #nodeAt(path: YamlPath): Node | null {
    let node: Node | null = this.#document.contents
    for (const step of path) {
      const inner: unknown = node === null ? null : childOf(node, step)
      node = isNode(inner) ? this.#resolve(inner) : null
      if (node === null) return null
    }
    return node
  }

  #rangeOf(path: YamlPath, key: boolean): readonly [start: number, end: number] {
    if (key) {
      const parent = this.#nodeAt(path.slice(0, -1))
      const pair = isMap(parent) ? pairOf(parent, path.at(-1)) : undefined
      const range = isNode(pair?.key) ? pair.key.range : undefined
      if (range != null) return [range[0], range[1]]
    }
    const range = this.#nodeAt(path.slice(0, this.reach(path)))?.range
    return range == null ? [0, 0] : [range[0], range[1]]
  }
}

function childOf(node: Node, step: string | number): unknown {
  if (isSeq(node)) return typeof step === 'number' ? node.items[step] : null
  return isMap(node) ? pairOf(node, step)?.value : null
}

function pairOf(map: YAMLMap, name: string | number | undefined): Pair | undefined {
  return map.items.find((pair) => isPair(pair) && keyOf(pair) === String(name))
}

function keyOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : String(pair.key)
}

function scalarJson(value: unknown, source: string | undefined): string | null {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return JSON.stringify(value)
  if (typeof value !== 'number') return null
  if (source !== undefined && NUMBER.test(source)) return source
  return Number.isFinite(value) ? JSON.stringify(value) : null
}

function placeAt(
  counter: LineCounter,
  lines: readonly string[],
  offset: number,
): { readonly row: number; readonly col: number } {
  const { line, col } = counter.linePos(offset)
  const row = Math.max(line, 1)
  return { row, col: [...(lines[row - 1] ?? '').slice(0, Math.max(col, 1) - 1)].length + 1 }
}
