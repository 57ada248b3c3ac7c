/** How often the probes of one module were heard of. Counting knows no bounds, other than the log of an evaluation. */
import type { Dictionary, ExprProbe, LogicPart, Part, RuleProbe } from '../dictionary.ts'
import type { Probe } from '../host-events.ts'

/** Probe id -> how often its rule was entered, its expression held, its closure begun. */
export type ProbeCounts = Map<number, number>

/** Counts one event. */
export function countProbe(counts: ProbeCounts, { op, id }: Probe): void {
  // A rule's `leave` has the id of its `enter`.
  if (op !== 'leave') counts.set(id, (counts.get(id) ?? 0) + 1)
}

/** Adds counts of the same module. */
export function addCounts(to: ProbeCounts, from: ProbeCounts): void {
  for (const [id, count] of from) to.set(id, (to.get(id) ?? 0) + count)
}

/** One definition, and how often. */
export interface CountedRule {
  readonly probe: RuleProbe
  readonly entered: number
  /** How often its body held; of one without a body, how often it was entered. */
  readonly held: number
  /** Its expressions, those in closures behind the ones that they are in. */
  readonly exprs: readonly CountedExpr[]
}

/** One expression, and how often. */
export interface CountedExpr {
  readonly probe: ExprProbe
  /** How often it was evaluated for the first time in its body; solutions of a loop count under `held` alone. */
  readonly reached: number
  readonly held: number
  /** The expression that has to hold before this one is evaluated; null = the first of its body. */
  readonly behind: ExprProbe | null
}

/**
 * What the counts say of each definition. A body is evaluated in order, so an expression was reached as often as the one
 * before it held; no trace is needed for that.
 */
export function readCounts(dictionary: Dictionary, counts: ProbeCounts): readonly CountedRule[] {
  const probes = new Map(dictionary.exprs.map((probe) => [probe.id, probe]))
  return dictionary.rules.map((probe) => {
    const entered = counts.get(probe.id) ?? 0
    const walk = new CountWalk(probes, counts)
    const held = walk.body(probe.body, entered)
    walk.parts(probe.head, held)
    return { probe, entered, held, exprs: walk.exprs }
  })
}

class CountWalk {
  readonly exprs: CountedExpr[] = []
  readonly #probes: ReadonlyMap<number, ExprProbe>
  readonly #counts: ProbeCounts

  constructor(probes: ReadonlyMap<number, ExprProbe>, counts: ProbeCounts) {
    this.#probes = probes
    this.#counts = counts
  }

  /** Returns how often the body held. */
  body(ids: readonly number[], started: number): number {
    let reached = started
    let behind: ExprProbe | null = null
    for (const id of ids) {
      const probe = this.#probes.get(id)
      if (probe === undefined) throw new Error(`the trace dictionary has no expression ${id}`)
      const held = this.#counts.get(id) ?? 0
      if (!probe.begin) {
        this.exprs.push({ probe, reached: Math.max(reached, held === 0 ? 0 : 1), held, behind })
        this.parts(probe.parts, reached)
        behind = probe
      }
      reached = held
    }
    return reached
  }

  /** Returns how often all of them held. */
  parts(parts: readonly Part[], reached: number): number {
    return parts.reduce((left, part) => this.#part(part, left), reached)
  }

  #part(part: Part, reached: number): number {
    if (!isLogic(part)) {
      const held = this.body(part.body, reached)
      this.parts(part.heads, held)
      // A closure holds whatever its body does, except where it is an operand.
      return part.kind === 'operand' ? held : reached
    }
    const left = this.parts(part.lhs, reached)
    if (part.kind === 'and') return this.parts(part.rhs, left)
    return left + this.parts(part.rhs, Math.max(0, reached - left))
  }
}

function isLogic(part: Part): part is LogicPart {
  return part.kind === 'and' || part.kind === 'or'
}
