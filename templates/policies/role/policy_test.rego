package @IDENT@_test

import data.gateway.authz

asked(phase, role, server, tool) := {
	"phase": phase,
	"principal": {"roles": [role]},
	"server": {"name": server},
	"target": {"kind": "tool", "name": tool},
}

test_a_listed_tool_may_be_used_and_is_shown if {
	every phase in ["call", "list"] {
		"@NAME@" in authz.allow with input as asked(phase, "developer", "desk", "search")
	}
}

test_other_tools_roles_and_upstreams_are_not_opened if {
	not "@NAME@" in authz.allow with input as asked("call", "developer", "desk", "delete_ticket")
	not "@NAME@" in authz.allow with input as asked("call", "intern", "desk", "search")
	not "@NAME@" in authz.allow with input as asked("call", "developer", "files", "search")
}
