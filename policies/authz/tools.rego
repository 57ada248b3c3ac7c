# Who may use which tool.
#
# A tool is used only when it is listed under `data.servers`; a new one is invisible until somebody has looked at it. What an
# upstream says about its own tools (annotations) never allows anything, it only makes a rule stricter: a listed `read`
# tool counts as destructive unless it also says readOnlyHint: true, a `write` tool unless it says destructiveHint: false.
package gateway.authz

# METADATA
# title: How this tool is listed
listed_as contains kind if {
	input.target.kind == "tool"
	some kind in ["read", "write", "destructive"]
	input.target.name in data.servers[input.server.name].tools[kind]
}

# METADATA
# title: "The kind of this tool: read, write or destructive"
tool_kind := "read" if {
	listed_as == {"read"}
	input.target.annotations.readOnlyHint == true
} else := "write" if {
	listed_as == {"write"}
	input.target.annotations.destructiveHint == false
} else := "destructive" if {
	count(listed_as) > 0
}

# METADATA
# title: A role of the principal may use tools of this kind
allow contains "role-may-use-tool" if tool_kind in may_use

# METADATA
# title: Destructive tools need a second factor, whoever asks
deny contains "destructive-without-mfa" if {
	tool_kind == "destructive"
	not input.principal.claims.mfa == true
}

# METADATA
# title: A listed tool is closed to roles that may not use its kind
deny contains "role-may-not-use-tool" if {
	tool_kind
	not tool_kind in may_use
}

# METADATA
# title: A tool that nobody has listed is for nobody
deny contains "tool-not-listed" if {
	input.target.kind == "tool"
	count(listed_as) == 0
}
