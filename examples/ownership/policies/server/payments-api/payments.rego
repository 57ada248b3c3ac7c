# METADATA
# title: The payments team's policy for its own upstream
package gateway.server["payments-api"]

# METADATA
# title: The payments team may use all of it
allow contains "payments-team" if {
	input.target.kind == "tool"
	"payments" in input.principal.teams
}

# METADATA
# title: A refund has an amount, and a bounded one
deny contains "refund-too-large" if {
	input.phase == "call"
	input.target.name == "refund"
	not small_refund
}

small_refund if {
	is_number(input.arguments.amount)
	input.arguments.amount > 0
	input.arguments.amount <= data.server["payments-api"].largest_refund
}

# METADATA
# title: Refunds of one hour, counted for this upstream alone
limits contains {
	"name": "per-principal",
	"key": [input.principal.id],
	"limit": 5,
	"window_s": 3600,
} if {
	input.target.name == "refund"
}

# METADATA
# title: Card numbers are in no audit row
mask contains "/arguments/card"
