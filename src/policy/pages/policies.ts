/** Pages of the errors in policies and data files: P1.. */
import type { MessagePage } from './page.ts'
import { authzFolder } from './page.ts'

/** By id. */
export const POLICY_PAGES: Readonly<Record<string, MessagePage>> = {
  P100: {
    what: 'The compiler says something that has no page of its own.',
    why: 'Usually it has failed itself, which is a fault to report. The policies in force stay in force.',
    wrong: null,
    right: null,
  },
  P101: {
    what: 'The input has no field of this name.',
    why: 'A misspelt field is undefined whatever the call is: the rule would never hold, or with `not` always. The fields stand in schemas/policy-input.schema.json.',
    wrong: authzFolder('deny contains "no-mfa" if not input.principal.clams.mfa\n'),
    right: authzFolder('deny contains "no-mfa" if not input.principal.claims.mfa\n'),
  },
  P102: {
    what: 'A builtin of OPA that policies cannot call here.',
    why: 'A decision depends on input and data alone, so that it can be replayed and nobody waits for another service. What the outside world knows belongs into a data file or into the claims of the caller.',
    wrong: authzFolder(
      'deny contains "not-on-call" if http.send({"method": "GET", "url": "https://oncall.example.com"}).status_code != 200\n',
    ),
    right: authzFolder('deny contains "not-on-call" if not input.principal.claims.on_call\n'),
  },
  P103: {
    what: 'No builtin and no rule has this name.',
    why: 'A rule that calls it could not be evaluated. Often it is a typing error, or a rule of another package that has to be imported.',
    wrong: authzFolder('deny contains "admin-tool" if startwith(input.target.name, "admin_")\n'),
    right: authzFolder('deny contains "admin-tool" if startswith(input.target.name, "admin_")\n'),
  },
  P104: {
    what: 'Nothing gives this variable a value.',
    why: 'Rego cannot try all values there are. Bind it with `some x in ..` or `x := ..`; a text needs quotes, and the name of a rule may be misspelt.',
    wrong: authzFolder('deny contains "frozen" if input.target.name == delete_repo\n'),
    right: authzFolder('deny contains "frozen" if input.target.name == "delete_repo"\n'),
  },
  P105: {
    what: 'The compiler cannot read this as Rego.',
    why: 'Often something is not closed, or the word `if` or `contains` is missing. The mark stands where reading ended; the mistake is there or before.',
    wrong: authzFolder('deny contains "frozen" {\n\tinput.target.name == "delete_repo"\n}\n'),
    right: authzFolder('deny contains "frozen" if {\n\tinput.target.name == "delete_repo"\n}\n'),
  },
  P106: {
    what: 'A name that begins with `gwtr` belongs to the trace.',
    why: 'The trace of a decision is written by functions of this name: a policy that could call them could forge it.',
    wrong: authzFolder(
      'deny contains "frozen" if {\n\tgwtr := input.target.name\n\tgwtr == "delete_repo"\n}\n',
    ),
    right: authzFolder(
      'deny contains "frozen" if {\n\tname := input.target.name\n\tname == "delete_repo"\n}\n',
    ),
  },
  P107: {
    what: 'The gateway has to be able to read the decision, and this would get in its way.',
    why: 'Package `gateway` is the gateway’s; allow, deny, limits, obligations and mask of `gateway.authz` and of `gateway.server.<upstream>` are sets: a rule of another kind would be read as "no reason given". A file in `server/<upstream>/` defines that upstream’s package alone, so that its owners cannot decide for others.',
    wrong: authzFolder('deny := "frozen" if input.target.name == "delete_repo"\n'),
    right: authzFolder('deny contains "frozen" if input.target.name == "delete_repo"\n'),
  },
  P108: {
    what: 'These values cannot go together: their types differ.',
    why: 'The comparison could never hold, or the function would always fail. The types of the input stand in its schema.',
    wrong: authzFolder('deny contains "not-alone" if input.principal.roles == "admin"\n'),
    right: authzFolder('deny contains "not-alone" if input.principal.roles == ["admin"]\n'),
  },
  P109: {
    what: 'A variable, an argument or an import that nothing uses.',
    why: 'It was meant for something: the rule may be without the condition that its author believes in.',
    wrong: authzFolder(
      'deny contains "frozen" if {\n\tfrozen := ["delete_repo"]\n\tinput.target.kind == "tool"\n}\n',
    ),
    right: authzFolder(
      'deny contains "frozen" if {\n\tfrozen := ["delete_repo"]\n\tinput.target.name in frozen\n}\n',
    ),
  },
  P110: {
    what: 'A builtin that Rego is giving up.',
    why: 'It may be gone from the next version. The message says what has taken its place.',
    wrong: authzFolder('deny contains "admin-tool" if re_match("^admin_", input.target.name)\n'),
    right: authzFolder('deny contains "admin-tool" if regex.match("^admin_", input.target.name)\n'),
  },
  P111: {
    what: 'A rule that depends on itself.',
    why: 'Its evaluation would not end. The builtins `walk` and `graph.reachable` cover trees and graphs.',
    wrong: authzFolder(
      'reports_to(id, boss) if data.boss[id] == boss\n\nreports_to(id, boss) if reports_to(data.boss[id], boss)\n\ndeny contains "not-in-line" if not reports_to(input.principal.id, "cto")\n',
    ),
    right: authzFolder(
      'line[id] := [boss] if some id, boss in data.boss\n\ndeny contains "not-in-line" if not "cto" in graph.reachable(line, {input.principal.id})\n',
    ),
  },
  P112: {
    what: 'The rules contradict each other, or something that they name.',
    why: 'One name is one kind of rule with one default and a fixed number of arguments; otherwise there is no one value to decide on.',
    wrong: authzFolder(
      'default frozen := false\n\ndefault frozen := true\n\ndeny contains "frozen" if frozen\n',
    ),
    right: authzFolder('default frozen := true\n\ndeny contains "frozen" if frozen\n'),
  },
  P113: {
    what: 'The policy is right, but the WebAssembly compiler cannot express it.',
    why: 'OPA’s compiler for WebAssembly knows a little less than its interpreter: rules that differ only behind a variable in their names are one function, which cannot use itself.',
    wrong: authzFolder(
      'quota[team].calls := 10 if some team in ["core", "web"]\n\nquota[team].burst := quota[team].calls * 2 if some team in ["core", "web"]\n\ndeny contains "big-team" if quota.core.burst > 100\n',
    ),
    right: authzFolder(
      'calls[team] := 10 if some team in ["core", "web"]\n\nburst[team] := calls[team] * 2 if some team in ["core", "web"]\n\ndeny contains "big-team" if burst.core > 100\n',
    ),
  },
  P120: {
    what: 'A data file that cannot be read for certain.',
    why: 'Data stand below the path of their folder, so a file holds names with values. A value that was left out, or read differently by another reader, could be the one that a rule needs.',
    wrong: {
      ...authzFolder('deny contains "frozen" if input.target.name in data.frozen\n'),
      'data.yaml': '- delete_repo\n',
    },
    right: {
      ...authzFolder('deny contains "frozen" if input.target.name in data.frozen\n'),
      'data.yaml': 'frozen: [delete_repo]\n',
    },
  },
  P121: {
    what: 'A file or folder that cannot be used.',
    why: 'A file that is silently left out could hold the rule that denies: links that lead out of the folder, files that are no UTF-8, folders without any rule are refused.',
    wrong: { 'rules.txt': 'Nobody may delete a repository.\n' },
    right: authzFolder('deny contains "frozen" if input.target.name == "delete_repo"\n'),
  },
}
