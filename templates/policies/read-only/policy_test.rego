package @IDENT@_test

import data.gateway.authz

asked(roles, annotations) := {
	"principal": {"roles": roles},
	"target": {"kind": "tool", "name": "any", "annotations": annotations},
}

test_observers_may_read if {
	not "@NAME@" in authz.deny with input as asked(["observer"], {"readOnlyHint": true})
}

test_observers_may_do_nothing_else_whatever_other_roles_they_have if {
	every annotations in [{}, {"readOnlyHint": false}, {"readOnlyHint": "true"}, {"destructiveHint": false}] {
		"@NAME@" in authz.deny with input as asked(["developer", "observer"], annotations)
	}
}

test_others_are_not_concerned if {
	not "@NAME@" in authz.deny with input as asked(["developer"], {})
}
