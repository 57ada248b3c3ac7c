package @IDENT@_test

import data.gateway.authz

call(arguments) := {
	"phase": "call",
	"target": {"kind": "tool", "name": "refund"},
	"arguments": arguments,
}

test_amounts_in_bounds_pass if {
	every amount in [1, 99.5, 100] {
		not "@NAME@" in authz.deny with input as call({"amount": amount})
	}
}

test_everything_else_is_denied if {
	every arguments in [{"amount": 0}, {"amount": 100.01}, {"amount": -1}, {"amount": "50"}, {"amount": null}, {}] {
		"@NAME@" in authz.deny with input as call(arguments)
	}
}

test_the_tool_is_shown_in_lists if {
	not "@NAME@" in authz.deny with input as {"phase": "list", "target": {"kind": "tool", "name": "refund"}}
}
