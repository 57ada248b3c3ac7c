/** Which rules the expressions of a policy refer to. The trace dictionary knows expressions, not references to rules: those are read off their text. */
import type { Dictionary, ExprProbe, Part, RuleProbe } from '../dictionary.ts'
import { wordsOf } from '../testing/reference.ts'
import { findDefaults, packageOf, packagePath } from '../testing/rego-heads.ts'

/** The rules of a policy and how they refer to one another. */
export interface RuleGraph {
  /** All definitions of rules, by the rule's path. */
  readonly rules: ReadonlyMap<string, readonly RuleProbe[]>
  /** Paths of the rules that an expression names. */
  references(expr: ExprProbe): readonly string[]
  /** Text of the rule's `default` value; null without one. */
  defaultOf(path: string): string | null
  /** Expressions of a definition, without what stands in closures. */
  bodyOf(rule: RuleProbe): readonly ExprProbe[]
  /** Expressions of a closure, without what stands in closures inside. */
  closureBody(part: Part): readonly ExprProbe[]
}

/** @param sources Rego texts by file */
export function createRuleGraph(
  dictionary: Dictionary,
  sources: Readonly<Record<string, string>>,
): RuleGraph {
  const exprs = new Map(dictionary.exprs.map((expr) => [expr.id, expr]))
  const rules = new Map<string, RuleProbe[]>()
  for (const rule of dictionary.rules) {
    const path = basePath(rule.path)
    rules.set(path, [...(rules.get(path) ?? []), rule])
  }
  const scopes = new Map(Object.entries(sources).map(([file, text]) => [file, scopeOf(text)]))
  const defaults = new Map<string, string>()
  for (const text of Object.values(sources)) {
    const home = homeOf(text)
    for (const { name, row } of findDefaults(text)) {
      const line = text.split('\n')[row - 1] ?? ''
      defaults.set(`${home}.${name}`, /:?=\s*(\S.*?)\s*$/.exec(line)?.[1] ?? '')
    }
  }
  const listed = (ids: readonly number[]) =>
    ids.flatMap((id) => {
      const expr = exprs.get(id)
      return expr === undefined || expr.begin ? [] : [expr]
    })
  return {
    rules,
    references: (expr) => referencesIn(expr, scopes.get(expr.file), rules),
    defaultOf: (path) => defaults.get(path) ?? null,
    bodyOf: (rule) => listed(rule.body),
    closureBody: (part) => ('body' in part ? listed(part.body) : []),
  }
}

interface Scope {
  /** Path of the file's package. */
  readonly home: string
  /** Name -> path of what is imported. */
  readonly imports: ReadonlyMap<string, string>
}

const IMPORT = /^\s*import\s+(data(?:\.\w+|\["[^"\n]*"\])*)(?:\s+as\s+(\w+))?/gm

function scopeOf(text: string): Scope {
  const imports = [...text.matchAll(IMPORT)].map(([, path = '', alias]): [string, string] => [
    alias ?? /\w*$/.exec(path)?.[0] ?? path,
    path,
  ])
  return { home: homeOf(text), imports: new Map(imports) }
}

function homeOf(text: string): string {
  return packagePath(packageOf(text) ?? [])
}

function referencesIn(
  expr: ExprProbe,
  scope: Scope | undefined,
  rules: ReadonlyMap<string, unknown>,
): readonly string[] {
  if (scope === undefined) return []
  return wordsOf(expr.text).flatMap((word) => {
    const [first = '', ...rest] = word.split('.')
    if (expr.vars.includes(first)) return []
    const start = first === 'data' ? 'data' : (scope.imports.get(first) ?? `${scope.home}.${first}`)
    const steps = [start, ...rest]
    for (let length = steps.length; length > 0; length -= 1) {
      const path = steps.slice(0, length).join('.')
      if (rules.has(path)) return [path]
    }
    return []
  })
}

/** Without the variables of a rule's head: `data.p.by_team[team]` is `data.p.by_team`. */
function basePath(path: string): string {
  return path.replace(/\[[A-Za-z_]\w*\].*$/, '')
}
