/**
 * Flat events -> what was evaluated: rules, their expressions, and which of them failed with which values.
 *
 * A body is evaluated like nested loops: when an expression holds the next one is tried, when it fails the ones before it
 * are asked for another solution. Probes only tell what held. So the expression behind the last one that held is the
 * one that failed, whenever an earlier one is heard of again or the body ends; and what happened in between (rules,
 * closures) was evaluated for it.
 */
import type { RecordedEvent, Recording } from './host-values.ts'
import type {
  PreparedBody,
  PreparedDictionary,
  PreparedExpr,
  PreparedPart,
  PreparedRule,
} from './trace-dictionary.ts'
import type { Bindings, Reads, World } from './trace-reads.ts'
import { readsOf } from './trace-reads.ts'
import { splitArray } from './trace-value.ts'

/** Rego texts; null = too large to have been read, undefined = unknown. */
type Values = readonly (string | null | undefined)[]

/** One definition that was entered. */
export interface RuleNode {
  readonly rule: PreparedRule
  readonly outcome: 'defined' | 'undefined' | 'aborted'
  readonly args: Values
  /** Rego text of the array of solutions; null = too large. */
  readonly rows: string | null
  readonly steps: readonly StepNode[]
  /** The whole body held, but a term of the head was undefined. */
  readonly headFailed: boolean
  /** Rules that were evaluated for the head. */
  readonly rules: readonly RuleNode[]
}

/** One expression that held or failed. */
export interface StepNode {
  readonly expr: PreparedExpr
  readonly ok: boolean
  /** The evaluation ended while this was evaluated. */
  readonly aborted: boolean
  /** Part of a solution of its body. */
  witness: boolean
  readonly vars: Values
  /** On what failed and on every `not`. */
  readonly reads: Reads | null
  readonly steps: readonly StepNode[]
  readonly rules: readonly RuleNode[]
}

interface Held {
  readonly kind: 'held'
  readonly expr: PreparedExpr
  readonly values: Values
}
interface Frame {
  readonly kind: 'frame'
  readonly rule: PreparedRule
  readonly args: Values
  readonly items: Item[]
  /** Undefined while it is open. */
  rows: string | null | undefined
}
/** Events of the body were left out here. */
interface Gap {
  readonly kind: 'gap'
}
type Item = Held | Frame | Gap

const GAP: Gap = { kind: 'gap' }
/** Most lists are empty, and rows are many. */
const NONE: readonly never[] = []
const EMPTY_ROWS = '[]'
/** More values than this travel as one array. */
const MAX_DIRECT_VALUES = 4
/** Longest text that is taken apart. */
const MAX_SPLIT = 8192

/** The rules that were entered from outside, in the order of evaluation. */
export function buildTree(
  dictionary: PreparedDictionary,
  recording: Recording,
  world: World,
): readonly RuleNode[] {
  return ruleNodes(readFrames(dictionary, recording), world)
}

function readFrames(dictionary: PreparedDictionary, recording: Recording): readonly Item[] {
  const items: Item[] = []
  const open: Frame[] = []
  const here = () => open.at(-1)?.items ?? items
  for (const event of recording.events) {
    if (event.gap) here().push(GAP)
    if (event.op === 'leave') leave(open.pop(), event)
    else {
      const item = itemOf(dictionary, event)
      if (item !== null) here().push(item)
      if (item?.kind === 'frame') open.push(item)
    }
  }
  if (recording.endsInGap) here().push(GAP)
  return items
}

function leave(frame: Frame | undefined, event: RecordedEvent): void {
  if (frame !== undefined) frame.rows = event.values[0] ?? null
}

function itemOf(dictionary: PreparedDictionary, event: RecordedEvent): Held | Frame | null {
  if (event.op === 'enter') {
    const rule = dictionary.rules.get(event.id)
    if (rule === undefined) return null
    return {
      kind: 'frame',
      rule,
      args: valuesFor(rule.probe.args.length, event.values),
      items: [],
      rows: undefined,
    }
  }
  const expr = dictionary.exprs.get(event.id)
  return expr === undefined
    ? null
    : { kind: 'held', expr, values: valuesFor(expr.probe.vars.length, event.values) }
}

function valuesFor(count: number, values: readonly (string | null)[]): Values {
  if (count <= MAX_DIRECT_VALUES) return values
  const [all] = values
  const list = typeof all === 'string' && all.length <= MAX_SPLIT ? splitArray(all) : null
  return list !== null && list.length === count ? list : Array.from({ length: count }, () => null)
}

function ruleNodes(items: readonly Item[], world: World): readonly RuleNode[] {
  if (items.length === 0) return NONE
  const nodes: RuleNode[] = []
  for (const item of items) if (item.kind === 'frame') nodes.push(ruleNode(item, world))
  return nodes
}

function ruleNode(frame: Frame, world: World): RuleNode {
  const { rule, args, rows } = frame
  const known: Bindings = new Map()
  bindAll(known, rule.probe.args, args)
  const walk = new BodyWalk(rule.body, known, world, [])
  const rest = walk.run(frame.items, rows === undefined)
  const held = walk.reached || rule.body.exprs.length === 0
  const outcome = outcomeOf(rows, held)
  const headFailed = outcome === 'undefined' && held
  const rules = ruleNodes(rest, world)
  return { rule, outcome, args, rows: rows ?? null, steps: walk.steps, headFailed, rules }
}

/** Without the rows (there are too many to be read) the body tells. */
function outcomeOf(rows: string | null | undefined, held: boolean): RuleNode['outcome'] {
  if (rows === undefined) return 'aborted'
  const isDefined = rows === null ? held : rows !== EMPTY_ROWS
  return isDefined ? 'defined' : 'undefined'
}

function bindAll(known: Bindings, names: readonly string[], values: Values): void {
  for (let index = 0; index < names.length; index += 1) {
    const [name, value] = [names[index], values[index]]
    if (name !== undefined && value !== undefined) known.set(name, value)
  }
}

/** Under a `with` that replaces input or data, what was read from them is not known; nor, under any, what rules came to. */
function seenUnder(expr: PreparedExpr, world: World): World {
  if (expr.probe.withTargets.length === 0) return world
  return {
    ...world,
    rules: null,
    input: expr.replacesInput ? null : world.input,
    data: expr.replacesData ? null : world.data,
  }
}

/** One evaluation of a body. */
class BodyWalk {
  readonly steps: StepNode[]
  /** Whether the whole body held at least once. */
  reached = false
  private readonly body: PreparedBody
  private readonly known: Bindings
  private readonly world: World
  /** The latest step of each expression: a solution when all of them are there. */
  private readonly path: StepNode[] = []
  /** Position of the expression that is being tried. */
  private next = 0
  /** False behind a gap: nothing can be said about what failed. */
  private sure = true
  /** What happened since the last expression held. */
  private pending: Item[] = []
  /** What was evaluated behind the last expression and belongs to none. */
  private readonly rest: Item[] = []

  constructor(body: PreparedBody, known: Bindings, world: World, steps: StepNode[]) {
    this.body = body
    this.known = known
    this.world = world
    this.steps = steps
  }

  /** Reads the events of one evaluation; `aborted` when it did not end. Returns what belongs to no expression. */
  run(items: readonly Item[], aborted: boolean): readonly Item[] {
    for (const item of items) {
      const position = item.kind === 'held' ? this.body.position.get(item.expr.probe.id) : undefined
      if (item.kind === 'gap') this.sure = false
      if (item.kind !== 'held' || position === undefined) this.pending.push(item)
      else this.hold(item, position)
    }
    this.finish(this.pending, aborted)
    return this.rest
  }

  private hold(item: Held, position: number): void {
    if (position < this.next) this.retry(item.expr)
    bindAll(this.known, item.expr.probe.vars, item.values)
    // What the domain of an `every` needed came before its body.
    if (item.expr.probe.begin) this.rest.push(...this.pending)
    else {
      const step = this.step(item.expr, item.values, this.pending, { ok: true, aborted: false })
      this.steps.push(step)
      this.path[position] = step
    }
    if (this.pending.length > 0) this.pending = []
    this.next = position + 1
    this.sure = true
    if (this.next === this.body.exprs.length) this.reach()
  }

  private reach(): void {
    this.reached = true
    for (const step of this.path) if (step !== undefined) step.witness = true
  }

  /** An earlier expression is asked for another solution: what was being tried has failed. */
  private retry(earlier: PreparedExpr): void {
    const current = this.body.exprs[this.next]
    const theirs = this.pending.filter((item) => belongsTo(item, earlier, current))
    const mine = this.pending.filter((item) => !theirs.includes(item))
    this.finish(mine, false)
    this.pending = theirs
  }

  private finish(items: readonly Item[], aborted: boolean): void {
    const current = this.body.exprs[this.next]
    if (current === undefined) this.rest.push(...this.parts(this.body.heads, items, aborted))
    else if (!this.sure || current.probe.begin) this.rest.push(...items)
    else this.steps.push(this.step(current, this.knownValues(current), items, { ok: false, aborted }))
  }

  /** Values of an expression's variables before it held. */
  private knownValues(expr: PreparedExpr): Values {
    return expr.probe.vars.map((name) => (expr.binds.has(name) ? undefined : this.known.get(name)))
  }

  private step(
    expr: PreparedExpr,
    vars: StepNode['vars'],
    items: readonly Item[],
    { ok, aborted }: { readonly ok: boolean; readonly aborted: boolean },
  ): StepNode {
    const world = seenUnder(expr, this.world)
    const reads = ok && !expr.probe.negated ? null : readsOf(expr, this.known, world)
    if (items.length === 0 && expr.parts.length === 0)
      return { expr, ok, aborted, witness: false, vars, reads, steps: NONE, rules: NONE }
    const steps: StepNode[] = []
    const rest = this.inside(expr, world, steps).parts(expr.parts, items, aborted)
    return { expr, ok, aborted, witness: false, vars, reads, steps, rules: ruleNodes(rest, world) }
  }

  /** A walk for what is inside an expression: closures see the bindings around them. */
  private inside(expr: PreparedExpr, world: World, steps: StepNode[]): BodyWalk {
    return expr.parts.length === 0 ? this : new BodyWalk(this.body, this.known, world, steps)
  }

  /** Reads closures; returns what belongs to none of them. */
  private parts(parts: readonly PreparedPart[], items: readonly Item[], aborted: boolean): readonly Item[] {
    return this.all(parts, items, aborted).rest
  }

  private all(parts: readonly PreparedPart[], items: readonly Item[], aborted: boolean): PartResult {
    let held = true
    let rest = items
    for (const part of parts) {
      const result =
        part.kind === 'closure' ? this.closure(part, rest, aborted) : this.logic(part, rest, aborted)
      held &&= result.held
      rest = result.rest
    }
    return { held, rest }
  }

  private logic(
    part: Extract<PreparedPart, { kind: 'and' | 'or' }>,
    items: readonly Item[],
    aborted: boolean,
  ): PartResult {
    const lhs = this.all(part.lhs, items, aborted)
    const decided = lhs.held !== (part.kind === 'and')
    return decided ? lhs : this.all(part.rhs, lhs.rest, aborted)
  }

  private closure(
    part: Extract<PreparedPart, { kind: 'closure' }>,
    items: readonly Item[],
    aborted: boolean,
  ): PartResult {
    const end = endOfClosure(part, items)
    if (end === 0 && !part.always) return { held: false, rest: items }
    const walk = new BodyWalk(part.body, new Map(this.known), this.world, this.steps)
    const rest = walk.run(items.slice(0, end), aborted && end === items.length)
    return { held: walk.reached, rest: [...rest.filter((item) => item.kind !== 'gap'), ...items.slice(end)] }
  }
}

interface PartResult {
  /** Whether the bodies held; decides which side of and/or was evaluated. */
  readonly held: boolean
  readonly rest: readonly Item[]
}

/** How many of the items were evaluated in the closure: up to its last event, and the rules behind that which it names. */
function endOfClosure(part: Extract<PreparedPart, { kind: 'closure' }>, items: readonly Item[]): number {
  let end = items.findLastIndex((item) => item.kind === 'held' && part.members.has(item.expr.probe.id)) + 1
  if (end === 0 && !part.always) return 0
  for (let item = items[end]; item?.kind === 'frame' && bodyMentions(part.body, item.rule); item = items[end])
    end += 1
  return end
}

function bodyMentions(body: PreparedBody, rule: PreparedRule): boolean {
  return body.exprs.some((expr) => !expr.probe.begin && mentions(expr, rule))
}

/** Whether an item was evaluated for `earlier` rather than for the expression tried behind it. */
function belongsTo(item: Item, earlier: PreparedExpr, current: PreparedExpr | undefined): boolean {
  if (item.kind === 'held') return earlier.members.has(item.expr.probe.id)
  if (item.kind === 'gap') return false
  return mentions(earlier, item.rule) && (current === undefined || !mentions(current, item.rule))
}

function mentions(expr: PreparedExpr, rule: PreparedRule): boolean {
  return expr.probe.text.includes(rule.name)
}
