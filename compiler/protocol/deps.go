package protocol

import (
	"cmp"
	"slices"
	"sort"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
)

// RuleDeps is what one definition reads by itself; what it reads through other
// rules stands with those. An else chain is one definition.
type RuleDeps struct {
	Rule string `json:"rule"` // data.gateway.authz.deny
	File string `json:"file"`
	Row  int    `json:"row"`
	Col  int    `json:"col"`
	// Input and Data are references as far as they are constant, shortest
	// first where one contains another.
	Input []string `json:"input"`
	Data  []string `json:"data"`
	// Rules are the paths of the rules and functions it refers to.
	Rules []string `json:"rules"`
	// Reachable tells whether an entrypoint leads to it.
	Reachable bool `json:"reachable"`
}

// RulePosition names a definition and where it stands.
type RulePosition struct {
	Rule string `json:"rule"`
	File string `json:"file"`
	Row  int    `json:"row"`
	Col  int    `json:"col"`
}

// deps lists what the entrypoints read, directly and through rules (base:
// input and data; virtual: rules), and what every definition reads by itself.
//
//	{"op": "deps", "sources": {..}, "entrypoints": ["gateway/decision"], ..}
//	{"base": ["input.a"], "virtual": ["data.p.q"], "rules": [RuleDeps, ..]}
func deps(req *Request) (answer, error) {
	c, err := checked(req)
	if err != nil {
		return nil, err
	}
	base, virtual := map[string]bool{}, map[string]bool{}
	for _, e := range req.Entrypoints {
		ref, err := ast.PtrRef(ast.DefaultRootDocument, e)
		if err != nil {
			return nil, err
		}
		query := ast.NewBody(ast.NewExpr(ast.NewTerm(ref)))
		b, err := dependencies.Base(c, query)
		if err != nil {
			return nil, err
		}
		v, err := dependencies.Virtual(c, query)
		if err != nil {
			return nil, err
		}
		add(base, b)
		add(virtual, v)
	}
	reachable, err := reach(c, req.Entrypoints)
	if err != nil {
		return nil, err
	}
	rules := []RuleDeps{}
	for _, r := range definitions(c) {
		d, err := ruleDeps(c, r)
		if err != nil {
			return nil, err
		}
		d.Reachable = reachable[r]
		rules = append(rules, d)
	}
	return answer{"base": sortedKeys(base), "virtual": sortedKeys(virtual), "rules": rules}, nil
}

func ruleDeps(c *ast.Compiler, r *ast.Rule) (RuleDeps, error) {
	at := position(r)
	out := RuleDeps{Rule: at.Rule, File: at.File, Row: at.Row, Col: at.Col}
	refs, err := dependencies.All(r)
	if err != nil {
		return out, err
	}
	input, data, rules := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, ref := range refs {
		prefix := ref.ConstantPrefix()
		switch {
		case prefix.HasPrefix(ast.InputRootRef):
			input[prefix.String()] = true
		case len(c.GetRules(prefix)) > 0:
			for _, found := range c.GetRules(prefix) {
				rules[found.Ref().GroundPrefix().String()] = true
			}
		case prefix.HasPrefix(ast.DefaultRootRef):
			data[prefix.String()] = true
		}
	}
	for called := range c.Graph.Dependencies(r) {
		if f, ok := called.(*ast.Rule); ok && len(f.Head.Args) > 0 {
			rules[f.Ref().GroundPrefix().String()] = true
		}
	}
	out.Input, out.Data, out.Rules = sortedKeys(input), sortedKeys(data), sortedKeys(rules)
	return out, nil
}

// unreachable lists the definitions no entrypoint leads to, in the order of
// the sources.
func unreachable(c *ast.Compiler, entrypoints []string) ([]RulePosition, error) {
	reachable, err := reach(c, entrypoints)
	if err != nil {
		return nil, err
	}
	out := []RulePosition{}
	for _, r := range definitions(c) {
		if !reachable[r] {
			out = append(out, position(r))
		}
	}
	return out, nil
}

// reach returns every definition that evaluating the entrypoints may lead to.
func reach(c *ast.Compiler, entrypoints []string) (map[*ast.Rule]bool, error) {
	found := map[*ast.Rule]bool{}
	var visit func(r *ast.Rule)
	visit = func(r *ast.Rule) {
		if found[r] {
			return
		}
		found[r] = true
		for x := range c.Graph.Dependencies(r) {
			if next, ok := x.(*ast.Rule); ok {
				visit(next)
			}
		}
		if r.Else != nil {
			visit(r.Else)
		}
	}
	for _, e := range entrypoints {
		ref, err := ast.PtrRef(ast.DefaultRootDocument, e)
		if err != nil {
			return nil, err
		}
		for _, r := range c.GetRules(ref) {
			visit(r)
		}
	}
	return found, nil
}

// definitions lists all rules, an else chain as its first branch, in the order
// of the sources.
func definitions(c *ast.Compiler) []*ast.Rule {
	var out []*ast.Rule
	for _, m := range c.Modules {
		out = append(out, m.Rules...)
	}
	slices.SortFunc(out, func(a, b *ast.Rule) int {
		x, y := position(a), position(b)
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Row, y.Row), cmp.Compare(x.Col, y.Col))
	})
	return out
}

func position(r *ast.Rule) RulePosition {
	out := RulePosition{Rule: r.Ref().GroundPrefix().String()}
	if loc := r.Head.Location; loc != nil {
		out.File, out.Row, out.Col = loc.File, loc.Row, loc.Col
	}
	return out
}

func add(set map[string]bool, refs []ast.Ref) {
	for _, r := range refs {
		set[r.String()] = true
	}
}

func sortedKeys(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
