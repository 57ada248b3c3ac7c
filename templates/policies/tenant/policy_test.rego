package @IDENT@_test

import data.gateway.authz

asked(principal, labels) := {"principal": principal, "server": {"name": "desk", "labels": labels}}

test_the_tenant_gets_in if {
	not "@NAME@" in authz.deny with input as asked({"tenant": "acme"}, {"tenant": "acme"})
}

test_others_do_not if {
	"@NAME@" in authz.deny with input as asked({"tenant": "globex"}, {"tenant": "acme"})
	"@NAME@" in authz.deny with input as asked({}, {"tenant": "acme"})
}

test_a_shared_upstream_is_everybodys if {
	not "@NAME@" in authz.deny with input as asked({"tenant": "globex"}, {"env": "prod"})
}
