/** Policies and calls that the policy benchmark evaluates. */
import { resolve } from 'node:path'
import type { PolicySources } from '../../src/policy/build-sources.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'

/** A policy and a call that it allows. */
export interface PolicySubject {
  readonly name: string
  readonly sources: PolicySources
  /** The input without its arguments. */
  readonly head: typeof HEAD
  readonly argumentsText: string
  /** Name of the n-th tool of a list: no two are the same. */
  listed(n: number): { readonly name: string }
}

const HEAD = {
  phase: 'call',
  request: {
    id: 'r',
    time: '2026-01-01T00:00:00Z',
    now_ns: 1,
    method: 'tools/call',
    protocol_version: '2026-07-28',
    ip: '192.0.2.1',
  },
  principal: {
    id: 'ada',
    kind: 'user',
    roles: ['developer'],
    tenant: 'acme',
    teams: [],
    scopes: [],
    claims: {},
    auth_method: 'api_key',
  },
  server: { name: 'support', labels: { tenant: 'acme', env: 'prod' } },
  target: { kind: 'tool' as const, name: 'search_tickets', annotations: { readOnlyHint: true } },
}
const ARGUMENTS = '{"query":"refund for order 4711","status":"open","limit":20}'

/** The policy that ships with the gateway. */
export async function shippedPolicy(): Promise<PolicySubject> {
  return {
    name: 'the shipped policy',
    sources: await loadPolicySources(resolve('policies')),
    head: HEAD,
    argumentsText: ARGUMENTS,
    listed: (n) => ({ name: SUPPORT_TOOLS[n / 2] ?? `tool-${n}` }),
  }
}

/** What the shipped data say of the upstream `support`. */
const SUPPORT_TOOLS = [
  'search_tickets',
  'get_ticket',
  'run_sql',
  'generate_report',
  'export_tickets',
  'create_ticket',
  'update_ticket',
  'delete_ticket',
]
const RULES = 25
const TOOLS = 500

/** 25 rules that allow and 25 that deny, over 500 tools in groups; each looks at role, group, argument or tenant. */
export function largePolicy(): PolicySubject {
  const groups = Array.from({ length: RULES }, (_, group) => [
    `group-${group}`,
    Array.from({ length: TOOLS / RULES }, (_tool, index) => `tool-${group}-${index}`),
  ])
  const allow = Array.from(
    { length: RULES },
    (_, n) => `allow contains "role-${n}" if {
	"role-${n}" in input.principal.roles
	input.target.name in data.groups["group-${n}"]
}
`,
  )
  const deny = Array.from(
    { length: RULES },
    (_, n) => `deny contains "bound-${n}" if {
	input.phase == "call"
	input.target.name in data.groups["group-${n}"]
	not input.arguments.limit <= ${10 + n}
	not input.principal.claims.unbounded
}
`,
  )
  return {
    name: '50 rules and 500 tools',
    sources: {
      rego: { 'authz/large.rego': `package gateway.authz\n\n${[...allow, ...deny].join('\n')}` },
      data: { groups: Object.fromEntries(groups) },
    },
    head: {
      ...HEAD,
      principal: { ...HEAD.principal, roles: ['role-7', 'role-20'] },
      target: { ...HEAD.target, name: 'tool-20-3' },
    },
    argumentsText: ARGUMENTS,
    listed: (n) => ({ name: `tool-${n % RULES}-${Math.floor(n / RULES)}` }),
  }
}
