package @IDENT@_test

import data.gateway.authz

asked(moment, annotations) := {
	"request": {"now_ns": time.parse_rfc3339_ns(moment)},
	"target": {"kind": "tool", "name": "deploy", "annotations": annotations},
}

# Berlin is an hour ahead of UTC in winter, two in summer.
test_inside_business_hours_it_passes if {
	every moment in ["2026-11-20T07:00:00Z", "2026-11-20T16:59:59Z", "2026-07-01T06:00:00Z"] {
		not "@NAME@" in authz.deny with input as asked(moment, {})
	}
}

test_outside_it_is_denied if {
	every moment in ["2026-11-20T06:59:59Z", "2026-11-20T17:00:00Z", "2026-07-01T05:59:59Z", "2026-11-21T10:00:00Z"] {
		"@NAME@" in authz.deny with input as asked(moment, {"destructiveHint": false})
	}
}

test_reading_is_possible_at_any_time if {
	not "@NAME@" in authz.deny with input as asked("2026-11-21T10:00:00Z", {"readOnlyHint": true})
}
