package @IDENT@_test

import data.gateway.authz

call(tool, arguments) := {
	"phase": "call",
	"target": {"kind": "tool", "name": tool},
	"arguments": arguments,
}

test_paths_below_the_folder_pass if {
	every path in ["/srv/shared/a.txt", "/srv/shared/a/b..txt", "/srv/shared/.hidden"] {
		not "@NAME@" in authz.deny with input as call("read_file", {"path": path})
	}
}

test_other_paths_are_denied if {
	every path in [
		"/etc/passwd",
		"/srv/shared",
		"/srv/shared2/a",
		"/srv/shared/../secret",
		"/srv/shared/..",
		"/srv/shared/./a",
		"/srv/shared/%2e%2e/a",
		"/srv/shared/..\\a",
		"srv/shared/a",
		"",
		7,
		null,
		["/srv/shared/a"],
	] {
		"@NAME@" in authz.deny with input as call("read_file", {"path": path})
	}
}

test_every_argument_counts_and_must_be_there if {
	"@NAME@" in authz.deny with input as call("move_file", {"source": "/srv/shared/a", "destination": "/tmp/a"})
	"@NAME@" in authz.deny with input as call("move_file", {"source": "/srv/shared/a"})
	"@NAME@" in authz.deny with input as call("read_file", {})
}

test_other_tools_and_lists_are_left_alone if {
	not "@NAME@" in authz.deny with input as call("search", {"path": "/etc/passwd"})
	not "@NAME@" in authz.deny with input as {"phase": "list", "target": {"kind": "tool", "name": "read_file"}}
}
