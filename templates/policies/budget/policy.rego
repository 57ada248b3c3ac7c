# How often the teams may use a costly tool. The calls of all members count together, on all gateways.
package gateway.authz

# tool -> what one call costs
@IDENT@_costs := {"generate_report": 5, "export_tickets": 1}

# METADATA
# title: A daily budget for each team of the principal; a call has to fit into all of them
limits contains {
	"name": "@NAME@",
	"key": [team],
	"limit": 100,
	"calendar": "day",
	"cost": @IDENT@_costs[input.target.name],
} if {
	input.phase == "call"
	input.target.kind == "tool"
	some team in input.principal.teams
}

# METADATA
# title: Whoever is in no team has no budget
deny contains "@NAME@" if {
	input.target.kind == "tool"
	@IDENT@_costs[input.target.name]
	count(input.principal.teams) == 0
}
