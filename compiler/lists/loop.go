package lists

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
)

// To ask for a rule takes longer than to read an array, so a loop over the
// targets asks for the rules it needs before it begins.

// loop makes an array of what holds for each target. It goes through the rows
// of a table, if one is named, and reads the target only if it is needed.
func (l *lister) loop(lead ast.Body, element *ast.Term, body ast.Body, table string) *ast.Term {
	loop := &ast.ArrayComprehension{Term: element, Body: body}
	bound := l.bind(loop, table)
	out := append(append(ast.Body{}, lead...), bound...)
	if table != "" {
		out = append(out, ast.Equality.Expr(rowVar(), ast.NewTerm(l.row(table))))
	}
	if table == "" || occurs(loop.Body, target().Value) || occurs(ast.NewBody(ast.NewExpr(element)), target().Value) {
		out = append(out, each())
	}
	loop.Body = numbered(append(out, loop.Body...))
	return ast.NewTerm(loop)
}

// rowVar is the target's row of the table that a loop goes through.
func rowVar() *ast.Term { return ast.VarTerm(instrument.Prefix + "_r") }

// row is a reference to a target's row of a table.
func (l *lister) row(table string) ast.Ref { return l.own(table, index()) }

// tableIn returns the table that the first expression of a body reads of every
// target; empty when there is none. One that is read in a closure, or later,
// may not be read at all.
func (l *lister) tableIn(body ast.Body) string {
	found := ""
	if len(body) == 0 {
		return found
	}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.Every:
			return true
		case ast.Ref:
			if name := l.ownName(x); l.tables[name] && x.HasPrefix(l.row(name)) && found == "" {
				found = name
			}
		}
		return false
	}).Walk(body[0])
	return found
}

// ownName is the name of the made rule that a reference is to; empty when it
// is to another.
func (l *lister) ownName(ref ast.Ref) string {
	if len(ref) > len(l.pkg) && ref.HasPrefix(l.pkg) {
		if name, ok := ref[len(l.pkg)].Value.(ast.String); ok {
			return string(name)
		}
	}
	return ""
}

// bind replaces references to the rows of a table, and to values that are the
// same for all targets, and returns what has to stand before the loop. A value
// that may be undefined is put into an array: only its use must fail.
func (l *lister) bind(loop *ast.ArrayComprehension, table string) ast.Body {
	before := ast.Body{}
	bound := map[string]*ast.Term{}
	l.replace(loop, func(ref ast.Ref) ast.Value {
		name := l.ownName(ref)
		constant, known := l.values[name]
		if !known {
			return l.ofRow(ref, table)
		}
		v := bound[name]
		if v == nil {
			v = ast.VarTerm(fmt.Sprintf("%s_b%d", instrument.Prefix, len(before)))
			bound[name] = v
			before = append(before, ast.Equality.Expr(v, held(l.own(name), constant)))
		}
		rest := ref[len(l.pkg)+1:]
		if !constant {
			return append(ast.Ref{v, ast.IntNumberTerm(0)}, rest...)
		}
		if len(rest) == 0 {
			return v.Value
		}
		return append(ast.Ref{v}, rest...)
	})
	return before
}

func held(ref ast.Ref, constant bool) *ast.Term {
	if constant {
		return ast.NewTerm(ref)
	}
	v := ast.VarTerm(instrument.Prefix + "_v")
	return ast.ArrayComprehensionTerm(v, numbered(ast.Body{ast.Equality.Expr(v.Copy(), ast.NewTerm(ref))}))
}

// takeRow has a function of the target alone take the row of the table that it
// begins with, instead of looking for it.
func (l *lister) takeRow(function string, defs []*ast.Rule) {
	if len(defs) == 0 || defs[0].Default || len(defs[0].Head.Args) > len([]*ast.Term{index(), target()}) {
		return
	}
	table := l.tableIn(defs[0].Body)
	if table == "" {
		return
	}
	l.taken[function] = table
	for _, r := range defs {
		for branch := r; branch != nil; branch = branch.Else {
			branch.Head.Args = append(branch.Head.Args, rowVar())
			l.replace(branch, func(ref ast.Ref) ast.Value { return l.ofRow(ref, table) })
		}
	}
}

// ofRow is what a reference reads of the row of a table.
func (l *lister) ofRow(ref ast.Ref, table string) ast.Value {
	if table == "" || !ref.HasPrefix(l.row(table)) {
		return ref
	}
	rest := ref[len(l.pkg)+2:]
	if len(rest) == 0 {
		return rowVar().Value
	}
	return append(ast.Ref{rowVar()}, rest...)
}

// replace changes all references in a node in place.
func (l *lister) replace(x any, by func(ast.Ref) ast.Value) {
	_, err := ast.TransformRefs(x, func(ref ast.Ref) (ast.Value, error) { return by(ref), nil })
	l.unsupported = l.unsupported || err != nil
}
