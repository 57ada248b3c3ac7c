# An upstream with the label `tenant` (gateway.yaml) is closed to everybody else; one without it is shared.
package gateway.authz

# METADATA
# title: The upstream belongs to another tenant
# description: A principal without a tenant is of none, so it is somebody else, too.
deny contains "@NAME@" if {
	input.server.labels.tenant
	not input.principal.tenant == input.server.labels.tenant
}
