# A role that may look and never change anything. What an upstream says about its own tools can only close here, never open.
package gateway.authz

# METADATA
# title: Observers use nothing but what claims to change nothing
deny contains "@NAME@" if {
	"observer" in input.principal.roles
	input.target.kind == "tool"
	not input.target.annotations.readOnlyHint == true
}
