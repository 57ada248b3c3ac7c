# METADATA
# title: The organisation's policy
# description: Who may come in at all (here), who may use which tool, with which arguments, and the rest of the protocol.
package gateway.authz

# METADATA
# title: The roles of this principal that the organisation knows
known_roles contains role if {
	some role in input.principal.roles
	data.organisation.roles[role]
}

# METADATA
# title: Kinds of tools that one of the principal's roles may use
may_use contains kind if {
	some role in known_roles
	some kind in data.organisation.roles[role].may
}

# METADATA
# title: Without a known role there is nothing to be had
deny contains "no-known-role" if count(known_roles) == 0

# METADATA
# title: The upstream of a tenant is closed to everybody else
# description: >-
#   An upstream belongs to a tenant when it has the label `tenant` in gateway.yaml; without the label all tenants share it.
#   A principal without a tenant is nobody's. The scope `tenants:all` is for those who look after all of them.
deny contains "other-tenant" if {
	input.server.labels.tenant
	not input.principal.tenant == input.server.labels.tenant
	not "tenants:all" in input.principal.scopes
}
