package instrument

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// Place is where a definition or an expression stands in its source.
type Place struct {
	File     string
	Row, Col int
}

func placeOf(loc *ast.Location) Place { return Place{File: loc.File, Row: loc.Row, Col: loc.Col} }

// RulePlace is where the dictionary says that a definition stands.
func RulePlace(r *ast.Rule) Place { return placeOf(r.Head.Location) }

// ExprPlace is where the dictionary says that an expression stands.
func ExprPlace(e *ast.Expr) Place { return placeOf(written(e)) }

// Traced returns the expressions that get a probe, each with its place in the
// dictionary. The modules are those of a compiler that has just rewritten the
// local variables: what it makes of an expression later on tells the
// expression by BaseCogeneratedExpr.
func Traced(modules map[string]*ast.Module) map[*ast.Expr]Place {
	t := traced{}
	for _, m := range modules {
		for _, first := range m.Rules {
			for r := first; r != nil; r = r.Else {
				if r.Default {
					continue
				}
				t.head(r.Head)
				t.written(r.Body)
			}
		}
	}
	return t
}

type traced map[*ast.Expr]Place

func (t traced) head(h *ast.Head) {
	for _, term := range h.Args {
		t.closures(term)
	}
	for _, term := range h.Reference {
		t.closures(term)
	}
	for _, term := range []*ast.Term{h.Key, h.Value} {
		if term != nil {
			t.closures(term)
		}
	}
}

// written walks a body that has probes only when the author wrote one.
func (t traced) written(b ast.Body) {
	if !always(b) {
		t.body(b)
	}
}

func (t traced) body(b ast.Body) {
	for _, e := range b {
		if isPrint(e) {
			continue
		}
		t[e] = ExprPlace(e)
		t.closures(e)
	}
}

// closures finds the bodies under x that have probes of their own.
func (t traced) closures(x any) {
	operand := func(b ast.Body, explicit bool) {
		if explicit || len(b) != 1 || !isLogic(b[0]) {
			t.body(b)
			return
		}
		t.closures(b[0])
	}
	visit := func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension:
			t.closures(x.Term)
			t.written(x.Body)
		case *ast.SetComprehension:
			t.closures(x.Term)
			t.written(x.Body)
		case *ast.ObjectComprehension:
			t.closures(x.Key)
			t.closures(x.Value)
			t.written(x.Body)
		case *ast.Every:
			t.closures(x.Domain)
			t.body(x.Body)
		case *ast.Not:
			if x.ExplicitBody {
				t.body(x.Body)
				return true
			}
			for _, e := range x.Body {
				t.closures(e)
			}
		case *ast.LogicalAnd:
			operand(x.Lhs, x.ExplicitLhs)
			operand(x.Rhs, x.ExplicitRhs)
		case *ast.LogicalOr:
			operand(x.Lhs, x.ExplicitLhs)
			operand(x.Rhs, x.ExplicitRhs)
		default:
			return false
		}
		return true
	}
	ast.NewGenericVisitor(visit).Walk(x)
}
