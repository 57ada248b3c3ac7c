package instrument

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// document finds the rule without arguments whose document ref reads, and how
// many terms of ref name it; nil when there is none, or when more than one rule
// makes it.
func (in *instrumenter) document(ref ast.Ref) (*Document, int) {
	for n := 2; n <= len(ref) && ast.IsConstant(ref[n-1].Value); n++ {
		rules := in.compiler.GetRulesExact(ref[:n])
		if len(rules) == 0 {
			continue
		}
		if len(in.compiler.GetRulesWithPrefix(ref[:n])) != len(rules) {
			return nil, 0
		}
		out := &Document{Rule: in.render(ast.NewTerm(ref[:n]))}
		for _, r := range rules {
			if len(r.Head.Args) > 0 || len(r.Ref()) > n+1 {
				return nil, 0
			}
			if r.Default {
				if !ast.IsConstant(r.Head.Value.Value) {
					return nil, 0
				}
				text := clip(r.Head.Value.String())
				out.Default = &text
			}
		}
		return out, n
	}
	return nil, 0
}
