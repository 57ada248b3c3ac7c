# What may stand in a tool's arguments.
#
# These rules hold in phase `call` only: a list has no arguments, and `not good` would be true there.
package gateway.authz

# METADATA
# title: The argument of this tool that holds SQL
sql_argument := data.servers[input.server.name].sql[input.target.name] if input.target.kind == "tool"

# METADATA
# title: One SELECT and nothing else
# description: >-
#   A second look, not the lock: the lock is a database role that cannot write. Comments, a second statement and
#   words that write are refused wherever they stand, also inside a quoted text.
reads_only(sql) if {
	regex.match(`(?is)^\s*select\b`, sql)
	not regex.match(`;|--|/\*`, sql)
	not regex.match(`(?i)\b(insert|update|delete|merge|drop|alter|create|truncate|grant|revoke|copy|call|do|into|set|lock|replace|attach|pragma|vacuum)\b`, sql)
}

# METADATA
# title: The call's SQL is there and only reads
# description: A rule without arguments, because `not reads_only(x)` is undefined instead of true when x is missing.
sql_only_reads if reads_only(input.arguments[sql_argument])

# METADATA
# title: SQL that may write needs a role for destructive tools
deny contains "sql-must-only-read" if {
	input.phase == "call"
	sql_argument
	not sql_only_reads
	not "destructive" in may_use
}

# METADATA
# title: The arguments of this tool that hold a path
path_arguments := data.servers[input.server.name].paths[input.target.name] if input.target.kind == "tool"

# METADATA
# title: A relative path that does not climb
stays_inside(path) if {
	is_string(path)
	not startswith(path, "/")
	not contains(path, "\\")
	not contains(path, ":")
	not ".." in split(path, "/")
}

# METADATA
# title: Paths stay inside the folder the upstream serves
deny contains "path-leads-outside" if {
	input.phase == "call"
	some name, path in input.arguments
	name in path_arguments
	not stays_inside(path)
}
