/**
 * Finds rules that say one thing of a list and another of the call: what is allowed but never listed, listed but never allowed,
 * hidden but not denied. Only where no other rule of the kind can make up for it; where that is not certain, nothing is said.
 */
import type { PolicyError } from '../compiler.ts'
import type { Dictionary, ExprProbe, RuleProbe } from '../dictionary.ts'
import { PRODUCT_FILE_PREFIX } from '../dictionary.ts'
import { nameInDecision } from '../product-module.ts'
import { headWarning } from './head-warning.ts'
import { LIST_ONLY, ListPhase } from './list-phase.ts'
import { valuesIn } from './literals.ts'
import type { RuleGraph } from './rule-graph.ts'
import { createRuleGraph } from './rule-graph.ts'

/** The warnings of a policy. */
export function lintListContradictions(
  dictionary: Dictionary,
  sources: Readonly<Record<string, string>>,
): readonly PolicyError[] {
  const graph = createRuleGraph(dictionary, sources)
  const phase = new ListPhase(graph, sources)
  return [...graph.rules].flatMap(([path, definitions]) => {
    const kind = nameInDecision(path)
    if (kind !== 'allow' && kind !== 'deny') return []
    const sides = definitions
      .filter(({ file }) => !file.startsWith(PRODUCT_FILE_PREFIX))
      .map((rule) => sideOf(rule, graph, phase))
    return sides.flatMap((side) => {
      const says = contradiction(kind, side, sides)
      return says === null ? [] : [headWarning(side.rule, sources, { code: 'list_contradiction', ...says })]
    })
  })
}

/** When a definition can hold. */
interface Side {
  readonly rule: RuleProbe
  readonly inLists: boolean
  readonly inCalls: boolean
  readonly readsArguments: boolean
  /** Names and kinds of targets it is about; null = any. */
  readonly names: ReadonlySet<string> | null
  readonly kinds: ReadonlySet<string> | null
}

/** Kinds of targets that stand in lists. */
const LISTED: readonly string[] = ['tool', 'resource', 'resource_template', 'prompt']

function sideOf(rule: RuleProbe, graph: RuleGraph, phase: ListPhase): Side {
  const body = graph.bodyOf(rule)
  const gone = phase.goneFromLists(rule)
  return {
    rule,
    inLists: gone === null,
    inCalls: !body.some(isListOnly),
    readsArguments: gone?.reads != null,
    names: valuesIn(body, 'input.target.name'),
    kinds: valuesIn(body, 'input.target.kind'),
  }
}

function isListOnly({ text, negated }: ExprProbe): boolean {
  return !negated && LIST_ONLY.test(text.trim())
}

function contradiction(
  kind: 'allow' | 'deny',
  side: Side,
  all: readonly Side[],
): Pick<PolicyError, 'message' | 'hint'> | null {
  const { kinds, inLists, inCalls } = side
  if (kinds !== null && !LISTED.some((one) => kinds.has(one))) return null
  const others = all.filter((other) => other !== side && !isApart(side, other))
  if (!inCalls && others.every((other) => !other.inCalls)) return LIST_ALONE[kind]
  if (kind === 'allow' && !inLists && inCalls && others.every((other) => !other.inLists)) return CALL_ALONE
  return null
}

const LIST_ALONE = {
  allow: {
    message: 'what this shows in lists may not be called',
    hint: 'take input.phase == "list" out, or add a rule that allows the call',
  },
  deny: {
    message: 'what this hides from lists may still be called by its name',
    hint: 'take input.phase == "list" out, or deny the call, too',
  },
} as const

const CALL_ALONE = {
  message: 'what this allows to be called stands in no list',
  hint: 'allow it whatever the arguments are, and deny the wrong ones in a rule with input.phase == "call"; or allow it with input.phase == "list" as well',
} as const

/** Whether two definitions are certainly about different targets. */
function isApart(side: Side, other: Side): boolean {
  const isServer = other.kinds !== null && [...other.kinds].every((kind) => kind === 'server')
  return (
    areDisjoint(side.names, other.names) ||
    areDisjoint(side.kinds, other.kinds) ||
    (side.readsArguments && isServer)
  )
}

function areDisjoint(left: ReadonlySet<string> | null, right: ReadonlySet<string> | null): boolean {
  return left !== null && right !== null && [...left].every((one) => !right.has(one))
}
