/**
 * Finds expressions that hold in lists only because lists have no arguments: `not input.arguments.confirm` is true of every
 * target there, and with it the rule it stands in shows or hides them all.
 *
 * Told apart are: what cannot hold in a list (it needs `input.arguments`, or `input.phase == "call"`), and what holds because
 * of that (a `not` of it, a count of nothing that is 0). OPA looks up what operators and functions are given before their
 * `not`: `not startswith(input.arguments.path, "..")` is of the first kind. Only rules that can hold in a list and that allow or
 * deny, or are used by such rules, are looked at; where it is not certain, nothing is said.
 */
import type { PolicyError } from '../compiler.ts'
import type { Dictionary, ExprProbe, RuleProbe } from '../dictionary.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import { nameInDecision } from '../product-module.ts'
import type { RuleGraph } from './rule-graph.ts'
import { createRuleGraph } from './rule-graph.ts'

/** The warnings of a policy, in the order of its files. */
export function lintListPhase(
  dictionary: Dictionary,
  sources: Readonly<Record<string, string>>,
): readonly PolicyError[] {
  const lint = new ListPhase(createRuleGraph(dictionary, sources), sources)
  return [...lint.warnings()].sort((a, b) =>
    a.file === b.file ? a.row - b.row || a.col - b.col : a.file < b.file ? -1 : 1,
  )
}

/** Rules that open or close, of the organisation or of an upstream's owners. */
const DECIDES: ReadonlySet<string | null> = new Set(['allow', 'deny'])
const CALL_ONLY =
  /^(?:input\.phase\s*={1,2}\s*"call"|"call"\s*={1,2}\s*input\.phase|input\.phase\s*!=\s*"list"|"list"\s*!=\s*input\.phase|not\s+input\.phase\s*={1,2}\s*"list")$/
/** An expression that holds in lists alone. */
export const LIST_ONLY = /^(?:input\.phase\s*={1,2}\s*"list"|"list"\s*={1,2}\s*input\.phase)$/
const COUNT = String.raw`count\((.*)\)`
const IS_NONE = new RegExp(
  String.raw`^(?:${COUNT}\s*(?:==|<=)\s*0|${COUNT}\s*<\s*1|0\s*(?:==|>=)\s*${COUNT}|(.*)\s==\s(?:set\(\)|\[\]|\{\}))$`,
  's',
)
const MAX_DEPTH = 32

/** Why something cannot hold in a list. `reads`: the expression that needs the arguments; null: for its phase alone. */
export interface Gone {
  readonly reads: ExprProbe | null
}

/** What is certain about the list phase of a policy. */
export class ListPhase {
  readonly #graph: RuleGraph
  readonly #sources: Readonly<Record<string, string>>
  readonly #known = new Map<string, Gone | null>()

  constructor(graph: RuleGraph, sources: Readonly<Record<string, string>>) {
    this.#graph = graph
    this.#sources = sources
  }

  /** Why a definition cannot hold in a list; null = it can, or it is not certain. */
  goneFromLists(rule: RuleProbe): Gone | null {
    return this.#definitionGone(rule, 0)
  }

  *warnings(): Generator<PolicyError> {
    const seen = new Set<string>()
    const open = [...this.#graph.rules.keys()].filter((path) => DECIDES.has(nameInDecision(path)))
    for (let path = open.pop(); path !== undefined; path = open.pop()) {
      if (seen.has(path)) continue
      seen.add(path)
      for (const rule of this.#liveDefinitions(path)) {
        for (const expr of this.#everything(rule)) {
          const because = this.#holdsForWantOf(expr)
          if (because !== null) yield this.#warning(rule, expr, because)
          open.push(...this.#graph.references(expr))
        }
      }
    }
  }

  /** Definitions of the author's that can hold in a list. */
  #liveDefinitions(path: string): readonly RuleProbe[] {
    return (this.#graph.rules.get(path) ?? []).filter(
      (rule) => !rule.file.startsWith(PRODUCT_FILE_PREFIX) && this.#definitionGone(rule, 0) === null,
    )
  }

  /** The expressions of a body and of the closures in it. */
  #everything(rule: RuleProbe): readonly ExprProbe[] {
    const inside = (expr: ExprProbe): readonly ExprProbe[] => [
      expr,
      ...expr.parts.flatMap((part) => this.#graph.closureBody(part)).flatMap(inside),
    ]
    return this.#graph.bodyOf(rule).flatMap(inside)
  }

  /** Whether an expression holds in a list for want of arguments; the expression that wants them. */
  #holdsForWantOf(expr: ExprProbe): ExprProbe | null {
    if (replacesInput(expr)) return null
    const wants = expr.negated ? this.#wants(expr) : null
    if (wants !== null) return wants
    for (const part of expr.parts) {
      const isEmptied = part.kind === 'not' || (part.kind === 'comprehension' && IS_NONE.test(expr.text))
      const body = isEmptied ? this.#bodyGone(this.#graph.closureBody(part), 0) : null
      if (body?.reads != null) return body.reads
    }
    return this.#emptySet(expr) ?? this.#falseByDefault(expr)
  }

  /** What is negated, without its `not`: would it be undefined or false? */
  #wants(expr: ExprProbe): ExprProbe | null {
    if (readsArguments(expr)) return looksArgumentsUp(expr) ? expr : null
    for (const text of namesLookedUp(expr)) {
      const [path] = this.#graph.references({ ...expr, text })
      const reads = path === undefined ? null : this.#ruleGone(path, 0)?.reads
      if (reads != null) return reads
    }
    return null
  }

  /** `count(violations) == 0` where nothing can be in `violations`. */
  #emptySet(expr: ExprProbe): ExprProbe | null {
    const inner = IS_NONE.exec(expr.text)
      ?.slice(1)
      .find((text) => text !== undefined)
    if (inner === undefined || !/^[\w.]+$/.test(inner.trim())) return null
    const [path] = this.#graph.references(expr)
    if (path === undefined || !this.#isSet(path)) return null
    return this.#definitionsGone(path, 0)?.reads ?? null
  }

  /** `safe == false` where `default safe := false` is all that is left. */
  #falseByDefault(expr: ExprProbe): ExprProbe | null {
    if (!/^(?:[\w.]+\s*==\s*false|false\s*==\s*[\w.]+|[\w.]+\s*!=\s*true)$/.test(expr.text)) return null
    const [path] = this.#graph.references(expr)
    if (path === undefined || this.#graph.defaultOf(path) !== 'false') return null
    return this.#definitionsGone(path, 0)?.reads ?? null
  }

  #bodyGone(body: readonly ExprProbe[], depth: number): Gone | null {
    let gone: Gone | null = null
    for (const expr of body) {
      const one = this.#exprGone(expr, depth)
      if (one?.reads != null) return one
      gone ??= one
    }
    return gone
  }

  #definitionGone(rule: RuleProbe, depth: number): Gone | null {
    return this.#bodyGone(this.#graph.bodyOf(rule), depth)
  }

  #exprGone(expr: ExprProbe, depth: number): Gone | null {
    const text = expr.text.trim()
    if (CALL_ONLY.test(text)) return { reads: null }
    if (replacesInput(expr)) return null
    if (expr.negated && this.#isListOnly(text)) return { reads: null }
    if (readsArguments(expr)) return expr.negated && looksArgumentsUp(expr) ? null : { reads: expr }
    if (expr.negated) return null
    // A rule that is named alone has to hold; in a larger expression it may be one of several, or compared.
    if (!/^[\w.]+(?:\(.*\))?$/s.test(text)) return null
    const [path] = this.#graph.references(expr)
    return path === undefined ? null : this.#ruleGone(path, depth + 1)
  }

  /** `not is_list` where `is_list if input.phase == "list"`. */
  #isListOnly(text: string): boolean {
    const name = /^not\s+(\w+)$/.exec(text)?.[1]
    const found = [...this.#graph.rules].find(([path]) => name !== undefined && path.endsWith(`.${name}`))
    return (
      found?.[1].every((rule) => {
        const [only, ...more] = this.#graph.bodyOf(rule)
        return only !== undefined && more.length === 0 && LIST_ONLY.test(only.text.trim())
      }) ?? false
    )
  }

  /** Whether a rule is undefined in lists (or false, by its default). */
  #ruleGone(path: string, depth: number): Gone | null {
    const fallback = this.#graph.defaultOf(path)
    if (fallback !== null && fallback !== 'false') return null
    if (this.#isSet(path)) return null
    return this.#definitionsGone(path, depth)
  }

  #definitionsGone(path: string, depth: number): Gone | null {
    const known = this.#known.get(path)
    if (known !== undefined) return known
    if (depth > MAX_DEPTH) return null
    const all = (this.#graph.rules.get(path) ?? []).map((rule) => this.#definitionGone(rule, depth))
    const isGone = all.length > 0 && all.every((gone) => gone !== null)
    const gone = isGone ? { reads: all.find((one) => one?.reads != null)?.reads ?? null } : null
    this.#known.set(path, gone)
    return gone
  }

  #isSet(path: string): boolean {
    return (this.#graph.rules.get(path) ?? []).some(({ text }) => /^[\w.]+\s+contains\s/.test(text))
  }

  #warning(rule: RuleProbe, expr: ExprProbe, wants: ExprProbe): PolicyError {
    const { file, row, col, text } = expr
    const [first = ''] = text.split('\n')
    const where =
      wants === expr ? '' : `; ${wants.file}:${wants.row} needs the arguments: ${oneLine(wants.text)}`
    return {
      ...{ file, row, col, endCol: col + [...first].length, code: 'list_phase' },
      message: 'a list has no arguments, so this holds for every target of a list',
      hint: `add input.phase == "call" to the rule ${nameInDecision(rule.path) ?? rule.path} (${rule.file}:${rule.row})${where}`,
      line: this.#sources[file]?.split('\n')[row - 1] ?? null,
    }
  }
}

function readsArguments({ reads }: ExprProbe): boolean {
  return reads.some(({ root, path }) => root === 'input' && path[0] === 'arguments')
}

const ARGUMENTS = String.raw`\binput(?:\.arguments\b|\["arguments"\])`
const READS_ARGUMENTS = new RegExp(ARGUMENTS)
const IS_ARGUMENT = new RegExp(String.raw`^${ARGUMENTS}(?:\.\w+|\[(?:"[^"]*"|(?!${ARGUMENTS})[^"\]])*\])*$`)
const NAME = /^[\w.]+$/
const CALL = /^([\w.]+)\(.*\)$/s

/** What is negated: a reference or a call alone, or both sides of an equality. Of these `not` itself looks up references. */
function negatedSides({ text }: ExprProbe): readonly string[] {
  const negated = text.trim().replace(/^not\s+/, '')
  const alone = negated.replace(/\s+with\s.*$/s, '').replace(/^\((.*)\)$/s, '$1')
  return CALL.test(alone) ? [alone] : alone.split(/\s*(?<![!<>:=])={1,2}\s*/)
}

/** Whether without arguments the `not` holds; else the whole expression is undefined. */
function looksArgumentsUp(expr: ExprProbe): boolean {
  const readers = negatedSides(expr).filter((side) => READS_ARGUMENTS.test(side))
  return readers.length > 0 && readers.every((side) => IS_ARGUMENT.test(side))
}

/** Names of rules, and of the function that is called, without which the `not` holds. */
function namesLookedUp(expr: ExprProbe): readonly string[] {
  const sides = negatedSides(expr)
  const [called] = sides.length === 1 ? sides.map((side) => CALL.exec(side)?.[1]) : []
  return called === undefined ? sides.filter((side) => NAME.test(side)) : [called]
}

/** Under `with input` the arguments are those of somebody else. */
function replacesInput({ withTargets }: ExprProbe): boolean {
  return withTargets.some((target) => /^input\b/.test(target))
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}
