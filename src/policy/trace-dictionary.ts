/** The trace dictionary prepared for reading traces: everything that is the same in every trace is worked out once. */

import type { StoredText } from '../json/stored-text.ts'
import { compareNames } from '../json/stored-text.ts'
import type { ClosurePart, Dictionary, ExprProbe, LogicPart, Part, Read, RuleProbe } from './dictionary.ts'
import { PRODUCT_FILE_PREFIX } from './dictionary.ts'
import type { Probe } from './host-events.ts'
import type { Path } from './trace-lookup.ts'
import { toPath } from './trace-lookup.ts'
import { isJsonText, toJsonText, toStoredValue } from './trace-value.ts'

/** A value by its name. They are listed in the order in which they are stored. */
export interface Slot {
  /** Its place among the values of the probe. */
  readonly index: number
  /** `"name": ` */
  readonly key: string
}

/** Expressions that are evaluated one after the other, and the closures of the head behind them. */
export interface PreparedBody {
  /** In the order of evaluation. */
  readonly exprs: readonly PreparedExpr[]
  /** Expression id -> its position. */
  readonly position: ReadonlyMap<number, number>
  readonly heads: readonly PreparedPart[]
}

export type PreparedPart =
  | {
      readonly kind: 'closure'
      /** Whether its body is evaluated whenever the expression is; else a `begin` tells. */
      readonly always: boolean
      readonly body: PreparedBody
      /** Ids of all expressions inside, at any depth. */
      readonly members: ReadonlySet<number>
    }
  | {
      readonly kind: 'and' | 'or'
      readonly lhs: readonly PreparedPart[]
      readonly rhs: readonly PreparedPart[]
      readonly members: ReadonlySet<number>
    }

export interface PreparedExpr {
  readonly probe: ExprProbe
  /** `{"at": "file:row", "ok": ` */
  readonly at: string
  /** `, "expr": "..", "vars": {` */
  readonly expr: string
  readonly vars: readonly Slot[]
  readonly reads: readonly Slot[]
  /** Of each read; null when it goes by a variable. */
  readonly paths: readonly (Path | null)[]
  /** Variables that this expression binds: while it has not held they have no value. */
  readonly binds: ReadonlySet<string>
  readonly parts: readonly PreparedPart[]
  /** Ids of all expressions in the closures inside. */
  readonly members: ReadonlySet<number>
  readonly replacesInput: boolean
  readonly replacesData: boolean
}

export interface PreparedRule {
  readonly probe: RuleProbe
  /** `{"at": "file:row"` */
  readonly at: string
  /** `, "rule": ".."` */
  readonly rule: string
  /** `, "title": ".."` */
  readonly title: string
  readonly args: readonly Slot[]
  /** The step that says that a term of the head was undefined. */
  readonly headFailure: string
  /** `contains` rules: the value is the list of what this definition contributes. */
  readonly isSet: boolean
  /** The constant head. */
  readonly constant: StoredText
  readonly body: PreparedBody
  /** Last name of the path: how expressions refer to it. */
  readonly name: string
}

export interface PreparedDictionary {
  readonly rules: ReadonlyMap<number, PreparedRule>
  readonly exprs: ReadonlyMap<number, PreparedExpr>
  /** Rule that an expression reads -> its definitions, in the order of evaluation. */
  readonly documents: ReadonlyMap<string, readonly PreparedRule[]>
  /** Whether an expression of an author's has a `with`. */
  readonly replaces: boolean
  /** Whether a probe of that kind and id exists. */
  knows(probe: Probe): boolean
  /** Whether it stands in a rule of the product itself: not shown, what the rule evaluates stands in its place. */
  hides(probe: Probe): boolean
  /** All ready-made parts, one a line: what the policy's own text can contribute to a trace. */
  readonly words: string
}

/** A head such as `deny contains x` or `by_team[t].names contains n`. */
const SET_HEAD = /^[^\s(:=]+(?:\[[^\]]*\][^\s(:=]*)*\s+contains\s/

/** @throws Error when ids of the dictionary lead nowhere */
export function prepareDictionary(dictionary: Dictionary): PreparedDictionary {
  const probes = new Map(dictionary.exprs.map((probe) => [probe.id, probe]))
  const exprs = new Map<number, PreparedExpr>()
  const preparer = new Preparer(probes, exprs)
  const rules = new Map(dictionary.rules.map((probe) => [probe.id, prepareRule(probe, preparer)]))
  const heads = [...rules.values()].flatMap((rule) => [
    rule.rule,
    rule.title,
    rule.headFailure,
    rule.constant,
  ])
  return {
    rules,
    exprs,
    documents: documentsRead(dictionary, [...rules.values()]),
    replaces: dictionary.exprs.some(
      ({ file, withTargets }) => withTargets.length > 0 && !file.startsWith(PRODUCT_FILE_PREFIX),
    ),
    words: [...heads, ...[...exprs.values()].flatMap((expr) => [expr.at, expr.expr])].join('\n'),
    knows({ op, id }) {
      if (op === 'enter' || op === 'leave') return rules.has(id)
      return exprs.get(id)?.probe.begin === (op === 'begin')
    },
    hides: ({ id }) => (rules.get(id) ?? exprs.get(id))?.probe.file.startsWith(PRODUCT_FILE_PREFIX) ?? false,
  }
}

function documentsRead(
  { exprs }: Dictionary,
  rules: readonly PreparedRule[],
): ReadonlyMap<string, readonly PreparedRule[]> {
  const read = exprs.flatMap((probe) =>
    probe.reads.flatMap(({ root }) => (typeof root === 'object' && 'rule' in root ? [root.rule] : [])),
  )
  return new Map(
    [...new Set(read)].map((name) => [
      name,
      rules.filter(({ probe: { path } }) => path === name || path.startsWith(`${name}[`)),
    ]),
  )
}

function prepareRule(probe: RuleProbe, preparer: Preparer): PreparedRule {
  const at = `{"at": ${place(probe)}`
  return {
    probe,
    at,
    rule: `, "rule": ${JSON.stringify(probe.path)}`,
    title: probe.title === null ? '' : `, "title": ${JSON.stringify(probe.title)}`,
    args: toSlots(probe.args),
    isSet: SET_HEAD.test(probe.text),
    headFailure: `${at}, "ok": false, "expr": ${JSON.stringify(probe.text)}, "vars": {}}`,
    constant: constantOf(probe),
    body: preparer.body(probe.body, probe.head, new Set(probe.args)),
    name: /[^.]*$/.exec(probe.path.replace(/\[.*$/, ''))?.[0] ?? probe.path,
  }
}

/** The constant is source text: a template string without variables is one, and no value's text. */
function constantOf({ constant }: RuleProbe): StoredText {
  if (constant === null) return toStoredValue('true')
  const json = toJsonText(constant)
  return toStoredValue(isJsonText(json) ? json : JSON.stringify(constant))
}

class Preparer {
  private readonly probes: ReadonlyMap<number, ExprProbe>
  private readonly made: Map<number, PreparedExpr>

  constructor(probes: ReadonlyMap<number, ExprProbe>, made: Map<number, PreparedExpr>) {
    this.probes = probes
    this.made = made
  }

  /** `bound`: variables that have a value before the body begins. */
  body(ids: readonly number[], heads: readonly Part[], bound: ReadonlySet<string>): PreparedBody {
    const known = new Set(bound)
    const exprs = ids.map((id) => {
      const expr = this.expr(id, known)
      for (const name of expr.probe.vars) known.add(name)
      return expr
    })
    return {
      exprs,
      position: new Map(ids.map((id, index) => [id, index])),
      heads: heads.map((part) => this.part(part, known)),
    }
  }

  private expr(id: number, known: ReadonlySet<string>): PreparedExpr {
    const probe = this.probes.get(id)
    if (probe === undefined || this.made.has(id))
      throw new Error(`trace dictionary: expression ${id} is missing or used twice`)
    const parts = probe.parts.map((part) => this.part(part, known))
    const expr: PreparedExpr = {
      probe,
      at: `{"at": ${place(probe)}, "ok": `,
      expr: `, "expr": ${JSON.stringify(probe.text)}, "vars": {`,
      vars: toSlots(probe.vars),
      reads: toSlots(probe.reads.map(({ text }) => text)),
      paths: probe.reads.map(fixedPath),
      binds: new Set(probe.vars.filter((name) => !known.has(name))),
      parts,
      members: membersOf(parts),
      replacesInput: replaces(probe, 'input'),
      replacesData: replaces(probe, 'data'),
    }
    this.made.set(id, expr)
    return expr
  }

  private part(part: Part, known: ReadonlySet<string>): PreparedPart {
    return isLogic(part) ? this.logic(part, known) : this.closure(part, known)
  }

  private logic(part: LogicPart, known: ReadonlySet<string>): PreparedPart {
    const lhs = part.lhs.map((inner) => this.part(inner, known))
    const rhs = part.rhs.map((inner) => this.part(inner, known))
    return { kind: part.kind, lhs, rhs, members: membersOf([...lhs, ...rhs]) }
  }

  private closure(part: ClosurePart, known: ReadonlySet<string>): PreparedPart {
    const body = this.body(part.body, part.heads, known)
    const inner = [...body.exprs.flatMap((expr) => [...expr.members]), ...membersOf(body.heads)]
    const always = body.exprs[0]?.probe.begin !== true
    return { kind: 'closure', always, body, members: new Set([...part.body, ...inner]) }
  }
}

function isLogic(part: Part): part is LogicPart {
  return part.kind === 'and' || part.kind === 'or'
}

function membersOf(parts: readonly PreparedPart[]): ReadonlySet<number> {
  return new Set(parts.flatMap((part) => [...part.members]))
}

function replaces(probe: ExprProbe, root: Exclude<Read['root'], object>): boolean {
  return probe.withTargets.some(
    (target) => target === root || target.startsWith(`${root}.`) || target.startsWith(`${root}[`),
  )
}

function place(probe: { readonly file: string; readonly row: number }): string {
  return JSON.stringify(`${probe.file}:${probe.row}`)
}

function fixedPath({ path }: Read): Path | null {
  const steps = path.filter((step) => typeof step !== 'object')
  return steps.length === path.length ? toPath(steps) : null
}

/** Of equal names the last one counts. */
function toSlots(names: readonly string[]): readonly Slot[] {
  const last = new Map(names.map((name, index) => [name, index]))
  return [...last]
    .sort(([left], [right]) => compareNames(left, right))
    .map(([name, index]) => ({ index, key: `${JSON.stringify(name)}: ` }))
}
