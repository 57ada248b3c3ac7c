// Command compiler is the gateway's Rego compiler: OPA's own, plus the
// instrumentation that makes an evaluation tell what it does. It is built for
// js/wasm and run by Node (see src/policy/compiler.ts), and works the same as a
// native program: one JSON request per line on stdin, one JSON answer per line
// on stdout, until stdin ends.
package main

import (
	"fmt"
	"os"

	"mcp-policy-gateway/compiler/protocol"
)

func main() {
	if err := protocol.Serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
