/**
 * Package `gateway`: how the author's rules become one decision. It is compiled, instrumented and traced like any other
 * source; its name tells a trace reader that it is the product's.
 */
import { PRODUCT_FILE_PREFIX } from './dictionary.ts'

/** Name of the module among the sources. */
export const PRODUCT_FILE = `${PRODUCT_FILE_PREFIX}gateway.rego`

/** What the module is built for: the decision on a call, and the verdicts on the targets of a list. */
export const ENTRYPOINTS = ['gateway/decision', 'gateway/visible'] as const

/**
 * An entrypoint that the compiler adds: its value names the fields of the input that the verdict on one target may depend on,
 * each as an array of names; an empty one stands for all of the input.
 */
export const LIST_READS = { of: 'gateway/judged', as: 'gateway/list_reads' } as const

/**
 * An entrypoint that the compiler adds where it can: the reasons for and against all targets of a list at once, which is the
 * same as `visible` and many times as fast. The targets are of one kind, which stands in `input.target`; of each, `input.targets`
 * holds at least what {@link LIST_READS} names. What comes of it is read by `parseListed`.
 */
export const LISTED = {
  sets: ['gateway/allowed_by', 'gateway/denied_by'],
  shared: 'kind',
  as: 'gateway/listed_of_kind',
} as const

/** First segment of the packages that are the product's. */
export const OWNED_PACKAGE = 'gateway'

/** Packages below it that authors write; the first one holds the rules of the decision. */
export const AUTHOR_PACKAGES = ['authz', 'server'] as const

/** The one of them that has a package for each upstream. */
export const SERVER_PACKAGE = AUTHOR_PACKAGES[1]

/** The author's rules that the decision is made of. Each is a set; all but `allow` may be left out. */
export const DECISION_RULES = ['allow', 'deny', 'limits', 'obligations', 'mask'] as const

const IN_DECISION_PACKAGE = /^data\.gateway\.(?:authz|server(?:\.\w+|\["[^"]+"\]))\.(\w+)/

/** Name of the rule of a path such as `data.gateway.authz.deny`; null when it is in no package that the decision asks. */
export function nameInDecision(path: string): string | null {
  return IN_DECISION_PACKAGE.exec(path)?.[1] ?? null
}

/**
 * Default deny, deny wins, an allow needs at least one reason. A rule that the author left out is an undefined reference,
 * which gives no elements.
 */
const PRODUCT_MODULE = `package gateway

# METADATA
# title: The decision on a call
decision := {
	"allow": allow,
	"allowed_by": allowed_by,
	"denied_by": denied_by,
	"limits": limits,
	"obligations": obligations,
	"mask": mask,
}

# METADATA
# title: The verdicts on the targets of a list, in their order
visible := [verdict |
	some candidate in input.targets
	verdict := judged with input.target as candidate
]

# Limits and the like are of calls: for a list they are not even evaluated.
judged := {
	"name": input.target.name,
	"allow": allow,
	"allowed_by": allowed_by,
	"denied_by": denied_by,
}

# METADATA
# title: Something allows it and nothing denies it
default allow := false

allow if {
	count(allowed_by) > 0
	count(denied_by) == 0
}

allowed_by contains reason if some reason in data.gateway.authz.allow

denied_by contains reason if some reason in data.gateway.authz.deny

limits contains limit if some limit in data.gateway.authz.limits

obligations contains obligation if some obligation in data.gateway.authz.obligations

mask contains masked if some masked in data.gateway.authz.mask
`

/** A counter of an upstream's own: what its owners count must not use up what others may still do. */
const COUNTED_APART = `
counted_apart(server, limit) := object.union(limit, {"key": array.concat(["server", server], limit.key)}) if {
	is_object(limit)
	is_array(limit.key)
}

else := limit
`

/**
 * The module for policies in which these upstreams have packages of their own: they are asked for calls to their upstream
 * alone, and what they say is added to what the organisation says. A limit that is not of the right shape passes as it is: the
 * decision is then malformed, which denies.
 */
export function productModule(upstreams: readonly string[]): string {
  if (upstreams.length === 0) return PRODUCT_MODULE
  const size = upstreams.length <= FEW ? upstreams.length : Math.ceil(Math.sqrt(upstreams.length))
  const groups: string[] = []
  for (let from = 0; from < upstreams.length; from += size)
    groups.push(groupRules(`group_${groups.length}`, upstreams.slice(from, from + size)))
  return `${PRODUCT_MODULE}${COUNTED_APART}${groups.join('')}`
}

/** Of more upstreams groups are made, so that a call passes by the many that it does not concern in a few steps. */
const FEW = 8

/** What is added to the decision, and the rule that it comes from. */
const ADDED = [
  ['allowed_by', 'allow'],
  ['denied_by', 'deny'],
  ['limits', 'limits'],
  ['obligations', 'obligations'],
  ['mask', 'mask'],
] as const

function groupRules(group: string, upstreams: readonly string[]): string {
  const names = upstreams.map((upstream) => JSON.stringify(upstream))
  const rules = ADDED.flatMap(([set, rule]) => [
    `
${set} contains element if {
	${group}
	some element in ${set}_${group}
}
`,
    ...names.map((name) => serverRule(`${set}_${group}`, name, rule)),
  ])
  return `
${group} := input.server.name in {${names.join(', ')}}
${rules.join('')}`
}

function serverRule(set: string, name: string, rule: (typeof ADDED)[number][1]): string {
  const element = rule === 'limits' ? `counted_apart(${name}, element)` : 'element'
  return `
${set} contains ${element} if {
	input.server.name == ${name}
	some element in data.gateway.server[${name}].${rule}
}
`
}
