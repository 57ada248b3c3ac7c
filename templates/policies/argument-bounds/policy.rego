# What an argument of a tool may be. A missing argument, or one of another type, is out of bounds as well.
package gateway.authz

# METADATA
# title: The amount is a number from 1 to 100
@IDENT@_in_bounds if {
	is_number(input.arguments.amount)
	input.arguments.amount >= 1
	input.arguments.amount <= 100
}

# METADATA
# title: The amount is out of bounds
# description: In phase call only, because a list has no arguments.
deny contains "@NAME@" if {
	input.phase == "call"
	input.target.kind == "tool"
	input.target.name == "refund"
	not @IDENT@_in_bounds
}
