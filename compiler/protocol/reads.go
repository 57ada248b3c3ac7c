package protocol

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
)

// Reads asks for one more entrypoint, which tells what rules depend on: the
// module then says it itself, wherever it goes.
type Reads struct {
	// Of is the path of the rules, such as gateway/judged.
	Of string `json:"of"`
	// As is the path of the rule that is made. Its value is what
	// instrument.InputReads returns.
	As string `json:"as"`
}

// add adds a module with the rule.
func (r *Reads) add(modules map[string]*ast.Module, checked *ast.Compiler) error {
	of, err := ast.PtrRef(ast.DefaultRootDocument, r.Of)
	if err != nil {
		return err
	}
	paths, err := json.Marshal(instrument.InputReads(checked, of))
	if err != nil {
		return err
	}
	steps := strings.Split(r.As, "/")
	last := len(steps) - 1
	text := fmt.Sprintf("package %s\n\n%s := %s\n", strings.Join(steps[:last], "."), steps[last], paths)
	m, err := ast.ParseModuleWithOpts(r.As, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return err
	}
	modules[r.As] = m
	return nil
}
