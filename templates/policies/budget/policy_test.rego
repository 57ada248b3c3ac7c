package @IDENT@_test

import data.gateway.authz

call(teams, tool) := {
	"phase": "call",
	"principal": {"teams": teams},
	"target": {"kind": "tool", "name": tool},
}

own(given) := {[limit.key, limit.cost] |
	some limit in authz.limits with input as given
	limit.name == "@NAME@"
}

test_each_team_is_charged_what_the_tool_costs if {
	own(call(["core"], "generate_report")) == {[["core"], 5]}
	own(call(["core", "web"], "export_tickets")) == {[["core"], 1], [["web"], 1]}
}

test_other_tools_cost_nothing if {
	own(call(["core"], "search")) == set()
	not "@NAME@" in authz.deny with input as call([], "search")
}

test_nobody_escapes_by_being_in_no_team if {
	"@NAME@" in authz.deny with input as call([], "generate_report")
}
