package instrument

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// rule rewrites one definition
//
//	head if { e1; e2 }
//
// into
//
//	head if {
//	    gwtr.enter1(args...)
//	    rows := [h | e1; gwtr.ok2(x); e2; gwtr.ok3(x, y); h = head terms]
//	    gwtr.leave1(rows)
//	    head variables = rows[_]
//	}
//
// The comprehension makes sure that leave is reached when the body fails, too.
// It is an array because a set would hash every value. A constant head needs
// no values out of the body, only that there is a row.
func (in *instrumenter) rule(r *ast.Rule, kind string, title *string) {
	head := &RuleProbe{ID: in.id(), Kind: kind, Title: title, Path: in.path(r)}
	in.place(r.Head.Location, &head.File, &head.Row, &head.Col)
	head.Text = in.headText(r)
	in.rules = append(in.rules, head)
	in.owner = head.ID
	in.modifying = in.builtinsInWith(r)
	in.withs = nil

	r.Body = withoutPrints(r.Body)
	in.moveArgumentClosures(r)
	args := in.visible(nil, varsOf(r.Head.Args, true))
	scope := in.visible(r.Body, args)
	argNames, argTerms := in.shown(args)
	head.Args = argNames
	entered := in.probe(r.Location, opEnter, head.ID, argTerms)

	moved := in.moveHeadTerms(r.Head, args)
	head.Outs = len(moved)
	if len(moved) == 0 {
		head.Constant = constantOf(r.Head)
		if always(r.Body) {
			if kind == "rule" {
				head.Kind = "fact"
			}
			head.Body, head.Head = []int{}, []Part{}
			left := in.probe(r.Location, opLeave, head.ID, []*ast.Term{ast.ArrayTerm(ast.BooleanTerm(true))})
			r.Body = numbered(ast.Body{entered, left})
			return
		}
	}

	end := r.Body[len(r.Body)-1].Location
	inner := ast.Body{}
	head.Body = []int{}
	if !always(r.Body) {
		inner, head.Body = in.body(r.Body, args, scope)
	}
	head.Head = []Part{}
	outs := make([]*ast.Term, len(moved))
	values := make([]*ast.Term, len(moved))
	for i, m := range moved {
		head.Head = append(head.Head, in.term(m.term, scope)...)
		outs[i], values[i] = m.out, m.term
	}
	row := in.fresh(end)
	inner = numbered(append(inner, equal(end, row, oneOrArray(values))))
	rows := in.fresh(end)
	collect := ast.ArrayComprehensionTerm(row.Copy(), inner)
	body := ast.Body{
		entered,
		equal(r.Location, rows, collect),
		in.probe(r.Location, opLeave, head.ID, []*ast.Term{rows.Copy()}),
	}
	if len(moved) == 0 {
		// No builtin here: an author's `with` could replace it.
		first := ast.RefTerm(rows.Copy(), ast.IntNumberTerm(0))
		body = append(body, located(end, ast.NewExpr(first)))
	} else {
		each := ast.RefTerm(rows.Copy(), in.fresh(end))
		body = append(body, equal(end, oneOrArray(outs), each))
	}
	r.Body = numbered(body)
}

// movedTerm is a head term that is computed inside the body and comes out of
// it through a variable.
type movedTerm struct{ term, out *ast.Term }

// moveHeadTerms replaces every head term that depends on the body by a
// variable. Terms that occur twice (a key is also the last part of the head's
// reference) share one.
func (in *instrumenter) moveHeadTerms(h *ast.Head, args ast.VarSet) []movedTerm {
	var moved []movedTerm
	move := func(t *ast.Term) *ast.Term {
		for _, m := range moved {
			if m.term.Equal(t) {
				return m.out.Copy()
			}
		}
		out := in.fresh(t.Location)
		moved = append(moved, movedTerm{term: t, out: out})
		return out.Copy()
	}
	for i := 1; i < len(h.Reference); i++ {
		if v, ok := h.Reference[i].Value.(ast.Var); ok && !args.Contains(v) {
			h.Reference[i] = move(h.Reference[i])
		}
	}
	if h.Key != nil && !ast.IsConstant(h.Key.Value) {
		h.Key = move(h.Key)
	}
	if h.Value != nil && !ast.IsConstant(h.Value.Value) {
		h.Value = move(h.Value)
	}
	return moved
}

// moveArgumentClosures matches an argument pattern that holds a closure
// (a template string, say) inside the body, because it may read variables of
// the body.
func (in *instrumenter) moveArgumentClosures(r *ast.Rule) {
	for i, a := range r.Head.Args {
		if !hasClosure(a) {
			continue
		}
		v := in.fresh(a.Location)
		r.Head.Args[i] = v
		match := equal(a.Location, v.Copy(), a)
		if len(varsOf(a, false).Intersect(varsOf(r.Body, true))) > 0 {
			r.Body = append(r.Body, match)
		} else {
			r.Body = append(ast.Body{match}, r.Body...)
		}
	}
	numbered(r.Body)
}

func oneOrArray(terms []*ast.Term) *ast.Term {
	switch len(terms) {
	case 0:
		return ast.BooleanTerm(true)
	case 1:
		return terms[0]
	}
	return ast.ArrayTerm(terms...)
}

// always tells whether a body is the `true` that the parser puts where none
// is written.
func always(b ast.Body) bool {
	if len(b) != 1 || b[0].Negated || len(b[0].With) > 0 {
		return false
	}
	t, ok := b[0].Terms.(*ast.Term)
	return ok && t.Equal(ast.BooleanTerm(true))
}

// withoutPrints drops the calls the compiler erases later, everywhere under b.
func withoutPrints(b ast.Body) ast.Body {
	out := b[:0]
	for _, e := range b {
		if !isPrint(e) {
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		loc := b.Loc()
		out = append(out, ast.NewExpr(ast.BooleanTerm(true).SetLocation(loc)).SetLocation(loc))
	}
	return numbered(out)
}
