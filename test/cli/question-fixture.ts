/** One policy and questions to it, for the commands that ask. */
/** Allows, denies and limits. */
export const POLICY = `package gateway.authz

allow contains "engineers-may-call" if "engineer" in input.principal.roles

# METADATA
# title: What destroys needs a second factor
deny contains "destructive-without-mfa" if {
	destroys
	not input.principal.claims.mfa
}

destroys if input.target.annotations.destructiveHint == true

limits contains {"name": "calls", "key": [input.principal.id], "limit": 3, "window_s": 60} if input.phase == "call"
`
/** Its table. */
export const CASES = `fixtures:
  principals: { eng: { roles: [engineer] } }
  tools: { delete_repo: { server: github, annotations: { destructiveHint: true } }, read: { server: github } }
cases:
  - { name: denied, principal: eng, tool: [delete_repo, read], expect: [{ tool: read, allow: true }] }
  - { name: shown, phase: list, principal: eng, tool: read, expect: { allow: true } }
`
/** A call that it denies. */
export const INPUT = {
  phase: 'call',
  request: {
    id: 'r',
    time: '2026-11-21T10:00:00.000Z',
    now_ns: 1795255200000000000,
    method: 'tools/call',
    ip: '10.1.2.3',
  },
  principal: {
    ...{
      id: 'ada',
      kind: 'user',
      roles: ['engineer'],
      tenant: 'acme',
      teams: [],
      scopes: [],
      auth_method: 'api_key',
    },
    claims: { mfa: false },
  },
  server: { name: 'github', labels: {} },
  target: { kind: 'tool', name: 'delete_repo', annotations: { destructiveHint: true } },
}
/** A list with that tool and another. */
export const LIST = {
  ...{ phase: 'list', server: INPUT.server, request: { ...INPUT.request, method: 'tools/list' } },
  principal: INPUT.principal,
  targets: [INPUT.target, { kind: 'tool', name: 'read', annotations: {} }],
}
