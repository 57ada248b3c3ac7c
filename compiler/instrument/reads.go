package instrument

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// targets lists what the expression's `with` modifiers replace.
func (in *instrumenter) targets(e *ast.Expr) []string {
	out := []string{}
	for _, w := range e.With {
		out = append(out, in.render(w.Target))
	}
	return out
}

// reads lists the references whose values decide whether e holds: those of its
// own terms and of a plain `not`, not those inside closures with probes of
// their own. bound
// are the variables that have a value before e.
func (in *instrumenter) reads(e *ast.Expr, bound ast.VarSet) []Read {
	out := []Read{}
	seen := map[string]bool{}
	var visit func(x any) bool
	visit = func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension, *ast.TemplateString,
			*ast.LogicalAnd, *ast.LogicalOr, *ast.With:
			return true
		case *ast.Not:
			return x.ExplicitBody
		case *ast.Every:
			ast.NewGenericVisitor(visit).Walk(x.Domain)
			return true
		case *ast.Expr:
			if ts, ok := x.Terms.([]*ast.Term); ok && len(ts) > 0 {
				for _, t := range ts[1:] {
					ast.NewGenericVisitor(visit).Walk(t)
				}
				return true
			}
		case ast.Call:
			for _, t := range x[1:] {
				ast.NewGenericVisitor(visit).Walk(t)
			}
			return true
		case ast.Ref:
			if r, ok := in.read(x, bound); ok && !seen[r.Text] {
				seen[r.Text] = true
				out = append(out, r)
			}
		}
		return false
	}
	ast.NewGenericVisitor(visit).Walk(e)
	return out
}

func (in *instrumenter) read(ref ast.Ref, bound ast.VarSet) (Read, bool) {
	root, ok := ref[0].Value.(ast.Var)
	if !ok || len(ref) < 2 {
		return Read{}, false
	}
	r := Read{Path: make([]any, 0, len(ref)-1)}
	named := 1 // terms that the root stands for
	switch {
	case root.Equal(ast.InputRootDocument.Value):
		r.Root = "input"
	case root.Equal(ast.DefaultRootDocument.Value):
		r.Root = "data"
		if len(in.compiler.GetRules(ref)) > 0 {
			document, n := in.document(ref)
			if document == nil {
				return Read{}, false
			}
			r.Root, named = document, n
		}
	default:
		name, ok := in.named(root)
		if !ok || !bound.Contains(root) {
			return Read{}, false
		}
		r.Root = Variable{Var: name}
	}
	// A loop (`input.roles[_]`, `some i; input.roles[i]`) reads the whole
	// collection; what lies behind its variable has no single value. A constant
	// that is no key of JSON (`data.flags[true]`) is looked for in all of it.
	end := len(ref)
	for i := named; i < len(ref); i++ {
		if ast.IsConstant(ref[i].Value) && in.segment(ref[i]) == nil {
			end = i
			break
		}
		if v, ok := ref[i].Value.(ast.Var); ok {
			if _, named := in.named(v); !named || !bound.Contains(v) {
				end = i
				break
			}
		}
	}
	if end < 2 {
		return Read{}, false
	}
	for _, t := range ref[named:end] {
		r.Path = append(r.Path, in.segment(t))
	}
	r.Text = in.render(ast.NewTerm(ref[:end]))
	return r, true
}

// segment is one step of a reference, nil when it is not known before
// evaluation.
func (in *instrumenter) segment(t *ast.Term) any {
	switch v := t.Value.(type) {
	case ast.String:
		return string(v)
	case ast.Number:
		return v
	case ast.Var:
		if name, ok := in.named(v); ok {
			return Variable{Var: name}
		}
	}
	return nil
}
