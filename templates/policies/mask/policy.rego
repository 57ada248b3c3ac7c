# What no audit row may hold. A mask changes the record alone, never the call.
package gateway.authz

# METADATA
# title: The social security number stays with the upstream
mask contains "/arguments/ssn" if {
	input.target.kind == "tool"
	input.target.name == "find_patient"
}
