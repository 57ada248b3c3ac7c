# Outside business hours only tools that claim to change nothing may be used.
package gateway.authz

@IDENT@_zone := "Europe/Berlin"

# METADATA
# title: It is a weekday, between eight and eighteen by the clock of the zone
@IDENT@_are_on if {
	now := [input.request.now_ns, @IDENT@_zone]
	not time.weekday(now) in {"Saturday", "Sunday"}
	[hour, _, _] := time.clock(now)
	hour >= 8
	hour < 18
}

# METADATA
# title: Outside business hours nothing is changed
deny contains "@NAME@" if {
	input.target.kind == "tool"
	not input.target.annotations.readOnlyHint == true
	not @IDENT@_are_on
}
