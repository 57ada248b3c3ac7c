// Reads a bundle with OPA's own package, verifies it, and evaluates its sources.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/rego"
)

func main() {
	file, pemFile, alg, input := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	reader, err := os.Open(file)
	check(err)
	read := bundle.NewReader(reader)
	if pemFile != "" {
		pem, err := os.ReadFile(pemFile)
		check(err)
		keys := map[string]*bundle.KeyConfig{"k": {Key: string(pem), Algorithm: alg}}
		read = read.WithBundleVerificationConfig(bundle.NewVerificationConfig(keys, "k", "", nil))
	}
	found, err := read.Read()
	check(err)
	var value any
	check(json.Unmarshal([]byte(input), &value))
	result, err := rego.New(
		rego.ParsedBundle("policies", &found),
		rego.Query("data.gateway.decision"),
		rego.Input(value),
	).Eval(context.Background())
	check(err)
	out, err := json.Marshal(map[string]any{
		"revision": found.Manifest.Revision,
		"roots":    found.Manifest.Roots,
		"modules":  len(found.Modules),
		"data":     found.Data,
		"decision": result[0].Expressions[0].Value,
	})
	check(err)
	fmt.Println(string(out))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
