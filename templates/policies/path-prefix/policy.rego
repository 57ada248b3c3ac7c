# Paths stay below one folder. What the upstream makes of links inside that folder cannot be seen from here.
package gateway.authz

@IDENT@_folder := "/srv/shared/"

# tool -> its arguments that hold a path
@IDENT@_arguments := {"read_file": ["path"], "move_file": ["source", "destination"]}

# METADATA
# title: This argument is a path below the folder, written plainly
# description: Backslashes and percent signs are refused, because an upstream may take them for something else.
@IDENT@_is_inside(name) if {
	path := input.arguments[name]
	is_string(path)
	startswith(path, @IDENT@_folder)
	not regex.match(`[\\%\x00-\x1f]`, path)
	every segment in split(path, "/") {
		not segment in {".", ".."}
	}
}

# METADATA
# title: A path is missing, or leads out of the folder
# description: In phase call only, because a list has no arguments.
deny contains "@NAME@" if {
	input.phase == "call"
	input.target.kind == "tool"
	some name in @IDENT@_arguments[input.target.name]
	not @IDENT@_is_inside(name)
}
