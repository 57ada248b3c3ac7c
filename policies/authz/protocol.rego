# Everything in the protocol besides tools.
package gateway.authz

# METADATA
# title: Whoever has a known role may open a session, ping, and ask for lists
# description: >-
#   A list is filtered by the same rules element by element, so asking for it gives nothing away. Not so the list of tasks,
#   which belong to whoever started them: tasks are closed until rules of yours open them.
allow contains "protocol" if {
	input.target.kind == "server"
	input.request.method != "tasks/list"
	count(known_roles) > 0
}

# METADATA
# title: A listed resource, or one below a listed prefix (an entry that ends with a slash)
is_listed_resource(uri) if uri in data.servers[input.server.name].resources

is_listed_resource(uri) if {
	some prefix in data.servers[input.server.name].resources
	endswith(prefix, "/")
	startswith(uri, prefix)
}

# METADATA
# title: Listed resources may be read by whoever may read
allow contains "resource-listed" if {
	input.target.kind in {"resource", "resource_template"}
	"read" in may_use
	is_listed_resource(input.target.name)
}

# METADATA
# title: A resource is asked for without dot segments
# description: >-
#   The rules judge the address with its dot segments resolved, but the upstream gets it as it was written, and may take it
#   for another one.
deny contains "uri-has-dot-segments" if {
	input.phase == "call"
	input.target.kind == "resource"
	regex.match(`(?i)(^|[/\\])(\.|%2e){1,2}([/\\?#]|$)`, input.arguments.uri)
}

# METADATA
# title: Listed prompts may be used by whoever may read
allow contains "prompt-listed" if {
	input.target.kind == "prompt"
	"read" in may_use
	input.target.name in data.servers[input.server.name].prompts
}

# METADATA
# title: Completions are given for listed prompts
allow contains "completion-listed" if {
	input.target.kind == "completion"
	"read" in may_use
	input.target.name in data.servers[input.server.name].prompts
}

# METADATA
# title: Completions are given for listed resources
allow contains "completion-listed" if {
	input.target.kind == "completion"
	"read" in may_use
	is_listed_resource(input.target.name)
}

# METADATA
# title: Servers may not turn to the client (sampling, elicitation, roots)
# description: A server's request could make a model say or a person type what the server wants to know.
deny contains "server-request" if input.target.kind == "server_request"
