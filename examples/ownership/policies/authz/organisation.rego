# METADATA
# title: The organisation's policy
# description: What holds for every upstream. A reason to deny here outweighs whatever an upstream's owners allow.
package gateway.authz

# METADATA
# title: Staff may open sessions and see lists
allow contains "staff-session" if {
	"staff" in input.principal.roles
	input.target.kind == "server"
}

# METADATA
# title: Those who are suspended get nothing, wherever they ask
deny contains "principal-suspended" if input.principal.claims.suspended == true

# METADATA
# title: Only staff, unless an upstream is labelled public
deny contains "staff-only" if {
	not "staff" in input.principal.roles
	not input.server.labels.audience == "public"
}

# METADATA
# title: Everybody's calls of one minute, over all upstreams
limits contains {
	"name": "per-principal",
	"key": [input.principal.id],
	"limit": 120,
	"window_s": 60,
} if {
	input.target.kind == "tool"
}
