# Which tools each role may use. Whatever no rule allows is denied, so this opens the listed tools and nothing else.
package gateway.authz

# role -> upstream -> its tools
@IDENT@_tools := {"developer": {"desk": ["search", "create_ticket"]}}

# METADATA
# title: A role of the principal may use this tool
allow contains "@NAME@" if {
	input.target.kind == "tool"
	some role in input.principal.roles
	input.target.name in @IDENT@_tools[role][input.server.name]
}
