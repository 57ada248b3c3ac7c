/**
 * Changes to the text of a table. Only what has to be different is written anew, in its place, so comments, order and layout
 * of everything else stay as they are.
 */
import type { Node, Pair, YAMLMap } from 'yaml'
import { Document, isCollection, isMap, isNode, isPair, isScalar, isSeq, YAMLSeq } from 'yaml'
import type { YamlDocument, YamlPath } from './yaml-document.ts'

/** One change: the characters from `start` to `end` become `text`. */
export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** A value that stands where it cannot be changed in its place. */
export class NotEditable extends Error {}

/** Applies edits that do not overlap. */
export function applyEdits(text: string, edits: readonly Edit[]): string {
  const sorted = [...edits].sort((a, b) => b.start - a.start)
  return sorted.reduce((made, edit) => made.slice(0, edit.start) + edit.text + made.slice(edit.end), text)
}

/** Members of an expectation that say for which combinations it is. */
export const SELECTORS: ReadonlySet<string> = new Set(['principal', 'tool', 'target', 'server'])

/** Lines that become other lines. */
export interface Hunk {
  /** 1-based, of the first of them in the text as it was. */
  readonly row: number
  readonly removed: readonly string[]
  readonly added: readonly string[]
}

/** The edits as a person compares them. */
export function hunksOf(text: string, edits: readonly Edit[]): readonly Hunk[] {
  const spans: { start: number; end: number; readonly edits: Edit[] }[] = []
  for (const edit of [...edits].sort((a, b) => a.start - b.start)) {
    const start = text.lastIndexOf('\n', edit.start - 1) + 1
    const end = lineEnd(text, edit.end)
    const last = spans.at(-1)
    if (last === undefined || start > last.end) spans.push({ start, end, edits: [edit] })
    else {
      last.end = Math.max(last.end, end)
      last.edits.push(edit)
    }
  }
  return spans.map((span) => {
    const before = text.slice(span.start, span.end)
    const moved = span.edits.map((edit) => ({
      ...edit,
      start: edit.start - span.start,
      end: edit.end - span.start,
    }))
    const row = text.slice(0, span.start).split('\n').length
    return withoutCommon(row, before.split(/\r?\n/), applyEdits(before, moved).split(/\r?\n/))
  })
}

function withoutCommon(row: number, removed: readonly string[], added: readonly string[]): Hunk {
  const most = Math.min(removed.length, added.length)
  let head = 0
  while (head < most && removed[head] === added[head]) head += 1
  let tail = 0
  while (tail < most - head && removed.at(-1 - tail) === added.at(-1 - tail)) tail += 1
  const cut = (lines: readonly string[]) => lines.slice(head, lines.length - tail)
  return { row: row + head, removed: cut(removed), added: cut(added) }
}

/** Gives members of the mapping at `path` new values; those it does not have come first, behind what it is for. */
export function setMembers(
  document: YamlDocument,
  path: YamlPath,
  members: Readonly<Record<string, unknown>>,
): readonly Edit[] {
  const map = document.writtenAt(path)
  if (!isMap(map)) throw new NotEditable()
  const edits: Edit[] = []
  const added: string[] = []
  for (const [name, value] of Object.entries(members)) {
    const pair = map.items.find(({ key }) => isScalar(key) && key.value === name)
    if (pair === undefined) added.push(`${name}: ${flowText(value)}`)
    else edits.push(replaceValue(document, writtenValue(pair), flowText(value)))
  }
  if (added.length > 0) edits.push(addFirst(document, map, added))
  return edits
}

/** Puts other values in the place of the mapping at `path`, an expectation in a list or alone. */
export function replaceEntry(
  document: YamlDocument,
  path: YamlPath,
  entries: readonly object[],
): readonly Edit[] {
  const map = document.writtenAt(path)
  const list = document.writtenAt(path.slice(0, -1))
  if (!isMap(map)) throw new NotEditable()
  if (!isSeq(list)) return [replaceByList(document, map, listText(document, path.slice(0, -1), entries))]
  return [replace(map, entries.map(flowText).join(separator(document, list)))]
}

/** Adds expectations to the case at `path`, which has a list of them or none. */
export function addEntries(
  document: YamlDocument,
  path: YamlPath,
  entries: readonly object[],
): readonly Edit[] {
  const there = document.writtenAt([...path, 'expect'])
  if (there === null) return [addExpect(document, path, entries)]
  if (isSeq(there)) return [addToList(document, there, entries)]
  throw new NotEditable()
}

function addExpect(document: YamlDocument, path: YamlPath, entries: readonly object[]): Edit {
  const map = document.writtenAt(path)
  const name = document.writtenAt([...path, 'name'])
  if (!isMap(map) || name === null) throw new NotEditable()
  const [only, ...more] = entries
  const isAlone =
    more.length === 0 && only !== undefined && !Object.keys(only).some((key) => SELECTORS.has(key))
  const value = isAlone ? ` ${flowText(only)}` : listText(document, path, entries)
  const last = writtenValue(map.items.at(-1))
  if (map.flow === true) return insert(rangeOf(last)[1], `, expect:${value}`)
  const isBlock = isCollection(last) && last.flow !== true
  const after = lineEnd(document.text, rangeOf(isBlock ? name : last)[1])
  return insert(after, `${eol(document)}${indentOf(document, map)}expect:${value}`)
}

function addToList(document: YamlDocument, list: YAMLSeq, entries: readonly object[]): Edit {
  const last = list.items.at(-1)
  if (!isNode(last)) throw new NotEditable()
  const text = separator(document, list) + entries.map(flowText).join(separator(document, list))
  const end = endOf(last)
  return insert(list.flow === true ? end : lineEnd(document.text, end), text)
}

/** What stands between the items of a list. */
function separator(document: YamlDocument, list: YAMLSeq): string {
  if (list.flow === true) return ', '
  const [start] = rangeOf(list)
  return `${eol(document)}${' '.repeat(columnOf(document.text, start))}- `
}

/** A list as the value of `expect`, with what stands behind the key: one line each where there may be lines. */
function listText(document: YamlDocument, path: YamlPath, entries: readonly object[]): string {
  const map = document.writtenAt(path)
  if (!isMap(map) || map.flow === true) return ` [${entries.map(flowText).join(', ')}]`
  const lead = `${eol(document)}${indentOf(document, map)}  - `
  return entries.map((entry) => lead + flowText(entry)).join('')
}

function addFirst(document: YamlDocument, map: YAMLMap, members: readonly string[]): Edit {
  const between = map.flow === true ? ', ' : `${eol(document)}${indentOf(document, map)}`
  const first = map.items.find(({ key }) => !(isScalar(key) && SELECTORS.has(String(key.value))))?.key
  if (isNode(first)) return insert(rangeOf(first)[0], members.map((member) => member + between).join(''))
  const last = endOf(writtenValue(map.items.at(-1)))
  return insert(last, members.map((member) => between + member).join(''))
}

function writtenValue(pair: Pair | undefined): Node {
  const value = pair?.value
  if (!isNode(value)) throw new NotEditable()
  return value
}

function replace(node: Node, text: string): Edit {
  return { start: rangeOf(node)[0], end: endOf(node), text }
}

/** What stood on lines of its own moves up beside its key. */
function replaceValue({ text }: YamlDocument, node: Node, value: string): Edit {
  const { start, end } = replace(node, value)
  const from = text.slice(0, start).trimEnd().length
  const isBelow = text.slice(from, start).includes('\n') && text[from - 1] === ':'
  return isBelow ? { start: from, end, text: ` ${value}` } : { start, end, text: value }
}

/** The range of a block ends behind the comments that follow it. */
function endOf(node: Node): number {
  const last = isCollection(node) && node.flow !== true ? node.items.at(-1) : undefined
  const inner = isPair(last) ? last.value : last
  return isNode(inner) ? endOf(inner) : rangeOf(node)[1]
}

/** A list comes with the space behind the key, or the line break. */
function replaceByList({ text }: YamlDocument, node: Node, list: string): Edit {
  return { start: text.slice(0, rangeOf(node)[0]).trimEnd().length, end: endOf(node), text: list }
}

function insert(at: number, text: string): Edit {
  return { start: at, end: at, text }
}

function rangeOf(node: Node): readonly [start: number, end: number] {
  if (node.range == null || ('anchor' in node && node.anchor !== undefined)) throw new NotEditable()
  return [node.range[0], node.range[1]]
}

function indentOf(document: YamlDocument, map: YAMLMap): string {
  const key = map.items[0]?.key
  if (!isNode(key)) throw new NotEditable()
  return ' '.repeat(columnOf(document.text, rangeOf(key)[0]))
}

function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf('\n', offset - 1) + 1)
}

function lineEnd(text: string, offset: number): number {
  const end = text.indexOf('\n', offset)
  if (end < 0) return text.length
  return text[end - 1] === '\r' ? end - 1 : end
}

function eol({ text }: YamlDocument): string {
  return text.includes('\r\n') ? '\r\n' : '\n'
}

/** A value on one line. */
function flowText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flowText).join(', ')}]`
  if (typeof value !== 'object' || value === null) return scalarText(value)
  const members = Object.entries(value).map(([name, member]) => `${scalarText(name)}: ${flowText(member)}`)
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`
}

/** With quotes where YAML needs them between brackets. */
function scalarText(value: unknown): string {
  const list = new YAMLSeq()
  list.flow = true
  list.add(value)
  return new Document(list)
    .toString({ lineWidth: 0 })
    .trim()
    .replace(/^\[\s*|\s*\]$/g, '')
}
