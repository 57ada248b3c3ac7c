package gateway.server.wiki

# METADATA
# title: Everybody whom the organisation lets in may read
allow contains "anyone-may-read" if {
	input.target.kind == "tool"
	input.target.name in {"read_page", "search_pages"}
}

# METADATA
# title: Drafts stay with their authors
deny contains "draft" if {
	input.phase == "call"
	input.target.name == "read_page"
	not published
	not "knowledge" in input.principal.teams
}

published if {
	is_string(input.arguments.title)
	not startswith(lower(trim_space(input.arguments.title)), "draft:")
}
