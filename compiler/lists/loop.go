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
	if table == "" || readsTarget(loop) {
		out = append(out, each())
	}
	loop.Body = numbered(append(out, loop.Body...))
	return ast.NewTerm(loop)
}

func readsTarget(x any) bool {
	found := false
	ast.WalkVars(x, func(v ast.Var) bool {
		found = found || v.Equal(target().Value)
		return found
	})
	return found
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
// same for all targets, and returns what has to stand before the loop.
func (l *lister) bind(loop *ast.ArrayComprehension, table string) ast.Body {
	before := ast.Body{}
	bound := map[string]*ast.Term{}
	variable := func(value *ast.Term) *ast.Term {
		key := value.String()
		if bound[key] == nil {
			bound[key] = ast.VarTerm(fmt.Sprintf("%s_b%d", instrument.Prefix, len(before)))
			before = append(before, ast.Equality.Expr(bound[key], value))
		}
		return bound[key]
	}
	l.replace(loop, func(ref ast.Ref) ast.Value {
		defined, known := l.values[l.ownName(ref)]
		if !known {
			return l.ofRow(ref, table)
		}
		value, rest := ast.NewTerm(ref[:len(l.pkg)+1]), ref[len(l.pkg)+1:]
		switch {
		case defined:
			return extended(variable(value), rest)
		case len(rest) > 0:
			// Nothing is found in an empty object, either.
			return extended(variable(ast.NewTerm(l.orEmpty(ref))), rest)
		}
		return extended(variable(held(value)), []*ast.Term{ast.IntNumberTerm(0)})
	})
	return before
}

func extended(v *ast.Term, rest []*ast.Term) ast.Value {
	if len(rest) == 0 {
		return v.Value
	}
	return append(ast.Ref{v}, rest...)
}

// held puts a value that may be undefined into an array: it is not the loop
// that must fail without it, but what uses it.
func held(value *ast.Term) *ast.Term {
	v := ast.VarTerm(instrument.Prefix + "_v")
	return ast.ArrayComprehensionTerm(v, numbered(ast.Body{ast.Equality.Expr(v.Copy(), value)}))
}

// orEmpty is a value, or an empty object when it is undefined.
func (l *lister) orEmpty(ref ast.Ref) ast.Ref {
	key := "or empty " + l.ownName(ref)
	name, ok := l.made[key]
	if !ok {
		name = l.fresh()
		l.made[key] = name
		value := ast.NewTerm(l.own(l.ownName(ref)))
		otherwise := &ast.Rule{Head: l.head(name, nil, ast.ObjectTerm()), Body: always()}
		l.rule(&ast.Rule{Head: l.head(name, nil, value), Body: always(), Else: otherwise})
	}
	return l.own(name)
}

// taken is what a function of the target is given besides.
type taken struct {
	table string // of which it takes the row
	terms []*ast.Term
}

// take has a function of the target alone take the row of the table that it
// begins with, and values that are never undefined, instead of asking for them.
func (l *lister) take(function string, defs []*ast.Rule) {
	alone := len([]*ast.Term{index(), target()})
	if len(defs) == 0 || defs[0].Default || len(defs[0].Head.Args) > alone {
		return
	}
	given := taken{table: l.tableIn(defs[0].Body)}
	args := []*ast.Term{}
	if given.table != "" {
		args, given.terms = append(args, rowVar()), append(given.terms, ast.NewTerm(l.row(given.table)))
	}
	bound := map[string]*ast.Term{}
	each := func(ref ast.Ref) ast.Value {
		name := l.ownName(ref)
		if !l.values[name] {
			return l.ofRow(ref, given.table)
		}
		if bound[name] == nil {
			bound[name] = ast.VarTerm(fmt.Sprintf("%s_b%d", instrument.Prefix, len(bound)))
			args, given.terms = append(args, bound[name]), append(given.terms, ast.NewTerm(l.own(name)))
		}
		return extended(bound[name], ref[len(l.pkg)+1:])
	}
	for _, r := range defs {
		l.replace(r, each)
	}
	for _, r := range defs {
		for branch := r; branch != nil; branch = branch.Else {
			branch.Head.Args = append(branch.Head.Args, args...)
		}
	}
	l.taken[function] = given
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
