/**
 * What was evaluated -> the JSON text of a trace, within its bounds. Fixed parts come ready-made from the dictionary and
 * values as the JSON text they have, so nothing is parsed or stringified as a whole.
 *
 * When the whole is too large it is written again with less and less detail. Kept are, in this order: rules that were
 * defined, the steps of a solution, what failed and every `not`, the rest.
 */
import type { StoredText } from '../json/stored-text.ts'
import { storedArray, storedJson } from '../json/stored-text.ts'
import type { PreparedExpr, Slot } from './trace-dictionary.ts'
import type { Reads } from './trace-reads.ts'
import type { RuleNode, StepNode } from './trace-tree.ts'
import { cutJsonText, splitArray, toJsonText, toStoredValue } from './trace-value.ts'

/** Bounds of a trace's text. */
export interface TraceBounds {
  /** UTF-8 bytes. */
  readonly maxBytes: number
  /** Rules and steps. */
  readonly maxEvents: number
}

/** 64 KiB and 500 rules and steps. */
export const DEFAULT_TRACE_BOUNDS: TraceBounds = { maxBytes: 65_536, maxEvents: 500 }

interface Detail {
  /** Characters of a value. */
  readonly value: number
  /** Steps of one kind in one list. */
  readonly steps: number
  /** Rules in one list. */
  readonly rules: number
  /** Rules at the top. */
  readonly top: number
}

const ALL = Number.POSITIVE_INFINITY
const DETAILS: readonly Detail[] = [
  { value: 2048, steps: ALL, rules: ALL, top: ALL },
  { value: 512, steps: 24, rules: 24, top: ALL },
  { value: 256, steps: 8, rules: 8, top: 200 },
  { value: 128, steps: 3, rules: 3, top: 100 },
  { value: 64, steps: 1, rules: 1, top: 50 },
  { value: 32, steps: 1, rules: 0, top: 20 },
  { value: 0, steps: 0, rules: 0, top: 20 },
]
const ENVELOPE_BYTES = 64
/** Longest list of solutions that is taken apart, in characters. */
const MAX_ROWS = 8192
const UNREADABLE = toStoredValue('"… a value too large to be read …"')

/** A trace as JSON text, and the fragments of it that hold values. */
export interface RenderedTrace {
  readonly text: StoredText
  /** Members and values in the text that the policy did not write itself. */
  readonly values: string
}

/** The trace as JSON text. `dropped`: events that were not even logged. */
export function renderTrace(rules: readonly RuleNode[], dropped: number, bounds: TraceBounds): RenderedTrace {
  for (const detail of DETAILS) {
    const writer = new TraceWriter(detail, bounds)
    writer.rules(rules, detail.top)
    const text = writer.text()
    const fits = !writer.isOver() && Buffer.byteLength(text) + ENVELOPE_BYTES <= bounds.maxBytes
    if (fits) return { text: envelope(text, dropped + writer.dropped), values: writer.values() }
  }
  return { text: envelope('', dropped + countRules(rules)), values: '' }
}

function envelope(rules: string, dropped: number): StoredText {
  return `{"v": 1, "rules": [${rules}], "dropped": ${dropped}, "truncated": ${dropped > 0}}` as StoredText
}

class TraceWriter {
  dropped = 0
  private readonly detail: Detail
  private readonly bounds: TraceBounds
  private written = 0
  private readonly out: string[] = []
  private characters = 0
  /** The same value is read again and again: each is kept once. */
  private readonly seen = new Set<string>()

  constructor(detail: Detail, bounds: TraceBounds) {
    this.detail = detail
    this.bounds = bounds
  }

  /** Whether what has been written is too much already; then there is no point in going on. */
  isOver(): boolean {
    return this.written > this.bounds.maxEvents || this.characters > this.bounds.maxBytes
  }

  text(): string {
    return this.out.join('')
  }

  values(): string {
    return [...this.seen].join(',')
  }

  rules(nodes: readonly RuleNode[], max: number): void {
    this.list(this.keptRules(nodes, max), (node) => this.rule(node))
  }

  private list<T>(nodes: readonly T[], write: (node: T) => void): void {
    let isFirst = true
    for (const node of nodes) {
      if (!isFirst) this.put(', ')
      isFirst = false
      write(node)
    }
  }

  private put(text: string): void {
    this.out.push(text)
    this.characters += text.length
  }

  private rule(node: RuleNode): void {
    this.written += 1
    if (this.isOver()) return
    const { rule, outcome } = node
    this.put(rule.at)
    if (rule.args.length > 0) {
      this.put(', "args": {')
      this.members(rule.args, node.args)
      this.put('}')
    }
    this.put(rule.rule)
    this.inner(node.rules)
    this.put(', "steps": [')
    const steps = this.keptSteps(node.steps)
    this.list(steps, (step) => this.step(step))
    if (node.headFailed) this.put(steps.length === 0 ? rule.headFailure : `, ${rule.headFailure}`)
    this.put(`]${rule.title}`)
    if (outcome === 'defined') this.put(`, "value": ${this.ruleValue(node)}`)
    this.put(`, "outcome": "${outcome}"}`)
  }

  /** Rules that were evaluated for a rule or step. */
  private inner(nodes: readonly RuleNode[]): void {
    const kept = this.keptRules(nodes, this.detail.rules)
    if (kept.length === 0) return
    this.put(', "rules": [')
    this.list(kept, (node) => this.rule(node))
    this.put(']')
  }

  private step(node: StepNode): void {
    this.written += 1
    if (this.isOver()) return
    const { expr, reads } = node
    this.put(expr.at)
    this.put(node.ok ? 'true' : 'false')
    this.put(expr.expr)
    this.members(expr.vars, node.vars)
    this.put('}')
    if (reads !== null) this.reads(expr, reads)
    this.inner(node.rules)
    this.closures(node.steps)
    if (node.aborted) this.put(', "aborted": true')
    if (reads !== null && reads.missing.length > 0) this.put(`, "missing": ${storedJson(reads.missing)}`)
    this.put('}')
  }

  private closures(nodes: readonly StepNode[]): void {
    const kept = this.keptSteps(nodes)
    if (kept.length === 0) return
    this.put(', "steps": [')
    this.list(kept, (node) => this.step(node))
    this.put(']')
  }

  private reads({ reads }: PreparedExpr, { values }: Reads): void {
    this.put(', "reads": {')
    let isFirst = true
    for (const { index, key } of reads) {
      const json = values[index]
      if (json === undefined || json === null) continue
      this.member(`${key}${toStoredValue(cutJsonText(json, this.detail.value))}`, isFirst)
      isFirst = false
    }
    this.put('}')
  }

  private members(slots: readonly Slot[], values: readonly (string | null | undefined)[]): void {
    let isFirst = true
    for (const { index, key } of slots) {
      const value = values[index]
      if (value === undefined) continue
      this.member(`${key}${this.value(value)}`, isFirst)
      isFirst = false
    }
  }

  private member(text: string, isFirst: boolean): void {
    this.seen.add(text)
    if (!isFirst) this.put(', ')
    this.put(text)
  }

  private value(rego: string | null): StoredText {
    if (rego === null) return UNREADABLE
    const { value } = this.detail
    return toStoredValue(cutJsonText(rego.length > value ? rego : toJsonText(rego), value))
  }

  /** A set's definition contributes a list; any other has one value, or several when it was given several. */
  private ruleValue({ rule, rows }: RuleNode): StoredText {
    if (rule.probe.outs === 0) return rule.isSet ? storedArray([rule.constant]) : rule.constant
    const value = this.computedValue(rule.isSet, rows)
    this.seen.add(value)
    return value
  }

  private computedValue(isSet: boolean, rows: string | null): StoredText {
    if (rows === null || rows.length > MAX_ROWS) return this.value(rows)
    const solutions = [...new Set(splitArray(rows))]
    const [first] = solutions
    if (first !== undefined && solutions.length === 1 && !isSet) return this.value(first)
    return toStoredValue(cutJsonText(`[${solutions.map(toJsonText).join(',')}]`, this.detail.value))
  }

  private keptRules(nodes: readonly RuleNode[], max: number): readonly RuleNode[] {
    if (nodes.length <= max) return nodes
    return this.keep(nodes, [max, max / 2], (node) => (node.outcome === 'undefined' ? 1 : 0), countRule)
  }

  private keptSteps(nodes: readonly StepNode[]): readonly StepNode[] {
    const max = this.detail.steps
    if (nodes.length <= max) return nodes
    const rank = (node: StepNode) => (node.witness ? 0 : node.reads !== null ? 1 : 2)
    return this.keep(nodes, [max, max, max / 2], rank, countStep)
  }

  /** The first so many of each rank, in their order. */
  private keep<T>(
    nodes: readonly T[],
    room: number[],
    rank: (node: T) => number,
    count: (node: T) => number,
  ): T[] {
    return nodes.filter((node) => {
      const left = (room[rank(node)] ?? 0) - 1
      room[rank(node)] = left
      if (left < 0) this.dropped += count(node)
      return left >= 0
    })
  }
}

function countRule(node: RuleNode): number {
  return 1 + countSteps(node.steps) + countRules(node.rules)
}

function countStep(node: StepNode): number {
  return 1 + countSteps(node.steps) + countRules(node.rules)
}

function countRules(nodes: readonly RuleNode[]): number {
  return nodes.reduce((sum, node) => sum + countRule(node), 0)
}

function countSteps(nodes: readonly StepNode[]): number {
  return nodes.reduce((sum, node) => sum + countStep(node), 0)
}
