/**
 * The trace dictionary: what each probe of an instrumented module stands for. The compiler emits it together with the
 * module, as JSON; the trace reader turns the bare events of an evaluation back into rules, expressions and bindings.
 *
 * A probe is a void builtin whose NAME carries operation and id: `gwtr.<op><id>`, for example `gwtr.enter12`,
 * `gwtr.ok13`, `gwtr.leave12`, `gwtr.begin14`. Up to four values are direct arguments; more travel as one array argument.
 *
 * - `enter<id>(args...)`  a rule definition (or one branch of its else chain) was entered
 * - `ok<id>(vars...)`     the expression held with these values; again for each further solution
 * - `begin<id>(vars...)`  the body of a closure was reached
 * - `leave<id>(rows)`     the definition is finished; `rows` is an array with one entry per solution, empty = undefined
 *
 * An `enter` without its `leave` is a frame that was aborted.
 */

/** Source files whose name starts with this are the product's own, not the author's; a trace reader may hide them. */
export const PRODUCT_FILE_PREFIX = '<product>/'

/** Everything the probes of one module stand for. Ids are unique over both lists, small and dense. */
export interface Dictionary {
  /** Version of this format. */
  readonly v: 1
  readonly rules: readonly RuleProbe[]
  readonly exprs: readonly ExprProbe[]
}

/** One definition of a rule. Each branch of an else chain is a definition of its own; `default` rules have none. */
export interface RuleProbe {
  readonly id: number
  /** `fact`: a constant head and no body, so entering it is all that can happen. */
  readonly kind: 'rule' | 'else' | 'fact'
  /** Full path with the author's variable names, such as `data.gateway.authz.deny`. */
  readonly path: string
  /** `title` of the rule's METADATA block. */
  readonly title: string | null
  readonly file: string
  /** 1-based. */
  readonly row: number
  /** 1-based, counted in code points. */
  readonly col: number
  /** The head as written. */
  readonly text: string
  /** Author's names of the function's arguments; their values travel with `enter`. */
  readonly args: readonly string[]
  /** Head terms that depend on the body: one row holds one such value, or an array of them when there are several. 0 = constant head. */
  readonly outs: number
  /** With `outs` 0, the constant key or value of the head as Rego text. */
  readonly constant: string | null
  /** Expressions of the body, in the order in which they are evaluated. */
  readonly body: readonly number[]
  /** Closures inside head terms; evaluated after the body. */
  readonly head: readonly Part[]
}

/** One expression of a body. */
export interface ExprProbe {
  readonly id: number
  /** The definition it belongs to. */
  readonly rule: number
  readonly file: string
  /** 1-based. */
  readonly row: number
  /** 1-based, counted in code points. */
  readonly col: number
  /** The expression as written. */
  readonly text: string
  /** Author's names of the variables, in the order of the probe's arguments. */
  readonly vars: readonly string[]
  readonly negated: boolean
  /** A probe of ours that tells "this body was reached"; no expression of the author's. */
  readonly begin: boolean
  readonly reads: readonly Read[]
  /** What `with` replaces, such as `input.user`; reads under it are of the replaced documents. */
  readonly withTargets: readonly string[]
  /** Bodies of the closures inside the expression, in source order. */
  readonly parts: readonly Part[]
}

/** A body inside an expression or head. */
export type Part = ClosurePart | LogicPart

/** A closure: a comprehension, an `every`, a `not { .. }` or an operand of `and`/`or` with its own body. */
export interface ClosurePart {
  readonly kind: 'comprehension' | 'every' | 'not' | 'operand'
  /** Its expressions, in the order in which they are evaluated. */
  readonly body: readonly number[]
  /** Closures inside the comprehension's head terms. */
  readonly heads: readonly Part[]
}

/** `lhs and rhs` or `lhs or rhs`. */
export interface LogicPart {
  readonly kind: 'and' | 'or'
  readonly lhs: readonly Part[]
  readonly rhs: readonly Part[]
}

/** A reference that an expression reads, so that its value can be looked up when the expression failed. */
export interface Read {
  /** As written by the author: `input.principal.claims.mfa`. */
  readonly text: string
  readonly root: 'input' | 'data' | { readonly var: string } | Document
  /** Segments after the root; null = a segment that cannot be known statically. */
  readonly path: readonly (string | number | { readonly var: string } | null)[]
}

/** The document of a rule without arguments. */
export interface Document {
  /** Its path: `data.gateway.authz.level`. */
  readonly rule: string
  /** Its default value as Rego text; null = none. */
  readonly default: string | null
}
