/** Pages of the warnings: P2.. Policies that get them are served. */
import type { MessagePage } from './page.ts'
import { authzFolder } from './page.ts'

/** By id. */
export const WARNING_PAGES: Readonly<Record<string, MessagePage>> = {
  P201: {
    what: 'An expression that holds for everything in a list, because a list has no arguments.',
    why: 'Lists are cut down by the same rules as calls, but there are no arguments then: `not inside` is true for every target, so the rule shows or hides them all. `not startswith(input.arguments.path, "/srv/")` would be undefined instead, in a call without a path too: then nothing is denied.',
    wrong: authzFolder(
      'deny contains "outside" if {\n\tinput.target.name == "read_file"\n\tnot inside\n}\n\ninside if startswith(input.arguments.path, "/srv/")\n',
    ),
    right: authzFolder(
      'deny contains "outside" if {\n\tinput.phase == "call"\n\tinput.target.name == "read_file"\n\tnot inside\n}\n\ninside if startswith(input.arguments.path, "/srv/")\n',
    ),
  },
  P202: {
    what: 'A mask that cannot be used.',
    why: 'What it was meant to hide is unknown, so the audit rows of all calls that it applies to are stored without payloads.',
    wrong: authzFolder('mask contains "/arguments.ssn" if input.target.name == "find_patient"\n'),
    right: authzFolder('mask contains "/arguments/ssn" if input.target.name == "find_patient"\n'),
  },
  P203: {
    what: 'A rule that no decision leads to.',
    why: 'Only allow, deny, limits, obligations and mask of `gateway.authz` and `gateway.server.<upstream>` decide, and what they use. A rule besides them says nothing, however much it looks like a protection: often its name is misspelt, or its package.',
    wrong: authzFolder('denied contains "frozen" if input.target.name == "delete_repo"\n'),
    right: authzFolder('deny contains "frozen" if input.target.name == "delete_repo"\n'),
  },
  P204: {
    what: 'A rule that says one thing of a list and another of the call.',
    why: 'A tool that may be called but is not listed is never found; one that is hidden from lists, but not denied, is still open to whoever knows its name; one that is listed but can never be called is a trap for clients.',
    wrong: authzFolder(
      'allow contains "small-refund" if {\n\tinput.target.name == "refund"\n\tinput.arguments.amount <= 100\n}\n',
    ),
    right: authzFolder(
      'allow contains "refund" if input.target.name == "refund"\n\ndeny contains "large-refund" if {\n\tinput.phase == "call"\n\tinput.target.name == "refund"\n\tnot small\n}\n\nsmall if input.arguments.amount <= 100\n',
    ),
  },
  P205: {
    what: 'A tool that its upstream does not offer.',
    why: 'The name may be misspelt, or the tool may have been renamed: then the rule protects nothing. Only upstreams of gateway.yaml that could be asked are compared; `--offline` asks none. Names of prompts and resources are told apart by input.target.kind.',
    wrong: authzFolder(
      'deny contains "frozen" if {\n\tinput.server.name == "github"\n\tinput.target.name == "delete_repos"\n}\n',
    ),
    right: authzFolder(
      'deny contains "frozen" if {\n\tinput.server.name == "github"\n\tinput.target.name == "delete_repo"\n}\n',
    ),
  },
  P206: {
    what: 'Policies of an upstream that gateway.yaml does not have.',
    why: 'A package `gateway.server.<upstream>`, data below the name of an upstream and rules about `input.server.name` count for the upstream of that very name: one that is misspelt, renamed or gone is guarded by nothing of what is written there.',
    wrong: {
      'server/github/policy.rego':
        'package gateway.server.github\n\nallow contains "team" if "github" in input.principal.teams\n',
      'server/githup/policy.rego':
        'package gateway.server.githup\n\ndeny contains "frozen" if input.target.name == "delete_repo"\n',
    },
    right: {
      'server/github/policy.rego':
        'package gateway.server.github\n\nallow contains "team" if "github" in input.principal.teams\n\ndeny contains "frozen" if input.target.name == "delete_repo"\n',
    },
  },
  P207: {
    what: 'A reason that no decision can hold.',
    why: 'Reasons stand in rows and metrics, so they are words, never sentences or values. A decision with another one is malformed: whatever the rule holds for is denied, for everybody.',
    wrong: authzFolder('deny contains "Deleting is frozen!" if input.target.name == "delete_repo"\n'),
    right: authzFolder('deny contains "frozen" if input.target.name == "delete_repo"\n'),
  },
}
