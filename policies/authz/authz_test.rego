# Tests of the rules in this folder, with data of their own, so that they hold whatever your servers/ folder says.
package authz_test

import data.gateway.authz

servers := {"desk": {
	"tools": {"read": ["find", "query", "open"], "write": ["edit"], "destructive": ["drop"]},
	"sql": {"query": "sql"},
	"paths": {"open": ["path"]},
	"resources": ["desk://handbook", "desk://tickets/"],
	"prompts": ["draft"],
}}

roles := {
	"admin": {"may": ["read", "write", "destructive"]},
	"developer": {"may": ["read", "write"]},
	"readonly": {"may": ["read"]},
}

hints := {
	"find": {"readOnlyHint": true},
	"query": {"readOnlyHint": true},
	"open": {"readOnlyHint": true},
	"edit": {"destructiveHint": false},
	"drop": {"destructiveHint": true},
}

principal(role) := {
	"id": "ada",
	"kind": "user",
	"roles": [role],
	"tenant": "acme",
	"teams": [],
	"scopes": [],
	"claims": {"mfa": true},
	"auth_method": "api_key",
}

request := {"id": "r", "time": "2026-11-21T10:00:00.000Z", "now_ns": 1795255200000000000, "method": "tools/call"}

server := {"name": "desk", "labels": {"tenant": "acme"}}

call(role, tool, arguments) := {
	"phase": "call",
	"request": request,
	"principal": principal(role),
	"server": server,
	"target": {"kind": "tool", "name": tool, "annotations": object.get(hints, tool, {})},
	"arguments": arguments,
}

target(role, kind, name) := {
	"phase": "call",
	"request": object.union(request, {"method": "other"}),
	"principal": principal(role),
	"server": server,
	"target": {"kind": kind, "name": name, "annotations": {}},
}

may(given) if {
	count(authz.allow) > 0 with input as given with data.servers as servers with data.organisation.roles as roles
	count(authz.deny) == 0 with input as given with data.servers as servers with data.organisation.roles as roles
}

denied(given) := reasons if {
	reasons := authz.deny with input as given with data.servers as servers with data.organisation.roles as roles
}

test_roles_may_use_the_kinds_of_tools_they_are_given if {
	every role, tools in {"admin": ["find", "edit", "drop"], "developer": ["find", "edit"], "readonly": ["find"]} {
		every tool in tools {
			may(call(role, tool, {}))
		}
	}
}

test_other_kinds_are_denied if {
	every role, tools in {"developer": ["drop"], "readonly": ["edit", "drop"]} {
		every tool in tools {
			denied(call(role, tool, {})) == {"role-may-not-use-tool"}
		}
	}
}

test_a_principal_without_a_known_role_gets_nothing if {
	every role in ["", "Admin", "root"] {
		"no-known-role" in denied(call(role, "find", {}))
		not may(target(role, "server", "desk"))
	}
}

test_a_tool_that_is_not_listed_is_for_nobody if {
	denied(call("admin", "new", {})) == {"tool-not-listed"}
}

test_destructive_tools_need_a_second_factor if {
	without := json.patch(call("admin", "drop", {}), [{"op": "replace", "path": "/principal/claims", "value": {}}])
	denied(without) == {"destructive-without-mfa"}
	text := json.patch(call("admin", "drop", {}), [{"op": "replace", "path": "/principal/claims/mfa", "value": "true"}])
	denied(text) == {"destructive-without-mfa"}
}

test_missing_or_contrary_hints_make_a_tool_destructive if {
	every annotations in [{}, {"readOnlyHint": false}, {"readOnlyHint": "true"}] {
		given := json.patch(call("developer", "find", {}), [{"op": "replace", "path": "/target/annotations", "value": annotations}])
		"role-may-not-use-tool" in denied(given)
	}
	every annotations in [{}, {"destructiveHint": true}] {
		given := json.patch(call("developer", "edit", {}), [{"op": "replace", "path": "/target/annotations", "value": annotations}])
		"role-may-not-use-tool" in denied(given)
	}
}

test_hints_open_nothing if {
	given := json.patch(call("developer", "drop", {}), [{"op": "replace", "path": "/target/annotations", "value": {"readOnlyHint": true, "destructiveHint": false}}])
	not may(given)
}

test_the_upstream_of_a_tenant_is_closed_to_others if {
	other := json.patch(call("admin", "find", {}), [{"op": "replace", "path": "/principal/tenant", "value": "globex"}])
	denied(other) == {"other-tenant"}
	none := json.remove(call("admin", "find", {}), ["/principal/tenant"])
	denied(none) == {"other-tenant"}
	all := json.patch(other, [{"op": "replace", "path": "/principal/scopes", "value": ["tenants:all"]}])
	may(all)
}

test_an_upstream_without_a_tenant_is_shared if {
	shared := json.patch(call("readonly", "find", {}), [{"op": "replace", "path": "/server/labels", "value": {}}])
	may(shared)
}

test_sql_only_reads if {
	may(call("developer", "query", {"sql": "SELECT id FROM tickets WHERE status = 'open'"}))
	every sql in [
		"DELETE FROM tickets",
		"select 1; drop table tickets",
		"select 1 -- x",
		"select 1 /* x */",
		"select * into copy from tickets",
		"with x as (delete from tickets returning *) select * from x",
		"",
		7,
		null,
	] {
		denied(call("developer", "query", {"sql": sql})) == {"sql-must-only-read"}
	}
	denied(call("developer", "query", {})) == {"sql-must-only-read"}
	may(call("admin", "query", {"sql": "DELETE FROM tickets"}))
}

test_paths_stay_inside if {
	every path in ["a.txt", "a/b.txt", "a..b", ""] {
		may(call("readonly", "open", {"path": path}))
	}
	every path in ["../a", "a/../../b", "/etc/passwd", "..\\a", "C:/a", "..", 7, false, ["../a"]] {
		denied(call("readonly", "open", {"path": path})) == {"path-leads-outside"}
	}
	may(call("readonly", "open", {}))
}

test_lists_show_what_may_be_called if {
	every tool in ["find", "query", "open"] {
		may(json.patch(json.remove(call("readonly", tool, {}), ["/arguments"]), [{"op": "replace", "path": "/phase", "value": "list"}]))
	}
}

test_the_protocol_is_open_to_known_roles if {
	may(target("readonly", "server", "desk"))
	not may(json.patch(target("admin", "server", "desk"), [{"op": "replace", "path": "/request/method", "value": "tasks/list"}]))
}

test_listed_resources_and_prompts_may_be_read if {
	every kind, names in {"resource": ["desk://handbook", "desk://tickets/1"], "resource_template": ["desk://tickets/{id}"], "prompt": ["draft"], "completion": ["draft", "desk://tickets/{id}"]} {
		every name in names {
			may(target("readonly", kind, name))
		}
	}
	every kind, names in {"resource": ["desk://handbook2", "desk://secrets/1", "file:///etc/passwd"], "prompt": ["other"], "completion": ["other"]} {
		every name in names {
			not may(target("admin", kind, name))
		}
	}
}

reading(uri) := object.union(target("admin", "resource", "desk://tickets/x"), {"arguments": {"uri": uri}})

test_dot_segments_are_denied_as_they_are_written if {
	every uri in ["desk://tickets/../x", "desk://tickets/%2e%2E/x", "desk://tickets/./x", "desk://..", "desk:\\\\a\\..\\b"] {
		denied(reading(uri)) == {"uri-has-dot-segments"}
	}
	every uri in ["desk://tickets/a..b", "desk://tickets/.a", "desk://tickets/a."] {
		may(reading(uri))
	}
}

test_tasks_and_requests_of_servers_are_closed if {
	not may(target("admin", "task", "1"))
	denied(target("admin", "server_request", "sampling/createMessage")) == {"server-request"}
}
