package @IDENT@_test

import data.gateway.authz

test_the_argument_is_masked if {
	"/arguments/ssn" in authz.mask with input as {"target": {"kind": "tool", "name": "find_patient"}}
}

test_other_tools_are_recorded_whole if {
	not "/arguments/ssn" in authz.mask with input as {"target": {"kind": "tool", "name": "find_ward"}}
}
