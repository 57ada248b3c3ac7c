package instrument

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// body puts a probe behind every expression and returns the expressions' ids
// in the order of evaluation. bound are the variables that have a value before
// the first expression, scope those that have one after the last.
func (in *instrumenter) body(b ast.Body, bound, scope ast.VarSet) (ast.Body, []int) {
	out := make(ast.Body, 0, 2*len(b))
	ids := make([]int, 0, len(b))
	bound = bound.Copy()
	for _, e := range b {
		known := bound.Copy()
		if !e.Negated {
			bound.Update(varsOf(e, true))
		}
		probe, id := in.expression(e, known, scope)
		out = append(out, e, probe)
		ids = append(ids, id)
	}
	return numbered(out), ids
}

// expression instruments the closures inside e and returns e's own probe.
func (in *instrumenter) expression(e *ast.Expr, bound, scope ast.VarSet) (*ast.Expr, int) {
	p := &ExprProbe{ID: in.id(), Rule: in.owner, Negated: Negated(e), Parts: []Part{}}
	in.exprs = append(in.exprs, p)
	at := written(e)
	in.place(at, &p.File, &p.Row, &p.Col)
	p.Text = clip(string(at.Text))
	names, values := in.shown(varsOf(e, false).Intersect(scope))
	p.Vars = names
	p.Reads = in.reads(e, bound)
	p.WithTargets = append(in.targets(e), in.withs...)
	p.Parts = append(p.Parts, in.parts(e, scope)...)
	return in.probe(e.Location, opOK, p.ID, values), p.ID
}

// begun makes the probe that tells a closure's body was reached.
func (in *instrumenter) begun(loc *ast.Location, text string, vars ast.VarSet) (*ast.Expr, int) {
	p := &ExprProbe{ID: in.id(), Rule: in.owner, Begin: true, Reads: []Read{}, WithTargets: []string{}, Parts: []Part{}}
	in.exprs = append(in.exprs, p)
	in.place(loc, &p.File, &p.Row, &p.Col)
	p.Text = clip(text)
	names, values := in.shown(vars)
	p.Vars = names
	return in.probe(loc, opBegin, p.ID, values), p.ID
}

// parts instruments the closures directly inside e and describes them.
func (in *instrumenter) parts(e *ast.Expr, scope ast.VarSet) []Part {
	var out []Part
	switch ts := e.Terms.(type) {
	case *ast.Term:
		out = in.term(ts, scope)
	case []*ast.Term:
		for _, t := range ts {
			out = append(out, in.term(t, scope)...)
		}
	case *ast.Every:
		out = append(in.term(ts.Domain, scope), in.every(e.Location, ts, scope))
	case *ast.Not:
		out = in.not(ts, scope)
	case *ast.LogicalAnd:
		part := Part{Kind: "and"}
		ts.Lhs, part.Lhs = in.operand(ts.Lhs, ts.ExplicitLhs, scope)
		ts.Rhs, part.Rhs = in.operand(ts.Rhs, ts.ExplicitRhs, scope)
		out = []Part{part}
	case *ast.LogicalOr:
		part := Part{Kind: "or"}
		ts.Lhs, part.Lhs = in.operand(ts.Lhs, ts.ExplicitLhs, scope)
		ts.Rhs, part.Rhs = in.operand(ts.Rhs, ts.ExplicitRhs, scope)
		out = []Part{part}
	default:
		in.fail(e.Location, "expressions of the kind %T cannot be traced", ts)
	}
	for _, w := range e.With {
		out = append(out, in.term(w.Value, scope)...)
	}
	return out
}

func (in *instrumenter) every(loc *ast.Location, ev *ast.Every, scope ast.VarSet) Part {
	vars := varsOf(ev.Value, true)
	if ev.Key != nil {
		vars.Update(varsOf(ev.Key, true))
	}
	inner := scope.Copy()
	inner.Update(vars)
	ev.Body = withoutPrints(ev.Body)
	begin, first := in.begun(loc, string(loc.Text), in.visible(nil, vars))
	body, ids := in.body(ev.Body, inner, in.visible(ev.Body, inner))
	ev.Body = numbered(append(ast.Body{begin}, body...))
	return Part{Kind: "every", Body: append([]int{first}, ids...), Heads: []Part{}}
}

// not: a body in braces has probes of its own. The single expression of a
// plain `not` has none, it is told by the probe of the whole.
func (in *instrumenter) not(n *ast.Not, scope ast.VarSet) []Part {
	if n.ExplicitBody {
		n.Body = withoutPrints(n.Body)
		body, ids := in.body(n.Body, scope, in.visible(n.Body, scope))
		n.Body = body
		return []Part{{Kind: "not", Body: ids, Heads: []Part{}}}
	}
	var out []Part
	inner := in.visible(n.Body, scope)
	for _, e := range n.Body {
		out = append(out, in.under(e, inner)...)
	}
	return out
}

// operand instruments one side of and/or.
func (in *instrumenter) operand(b ast.Body, explicit bool, scope ast.VarSet) (ast.Body, []Part) {
	b = withoutPrints(b)
	if !explicit && len(b) == 1 && isLogic(b[0]) {
		return b, in.under(b[0], scope)
	}
	inner := scope
	if explicit {
		inner = in.visible(b, scope)
	}
	body, ids := in.body(b, scope, inner)
	return body, []Part{{Kind: "operand", Body: ids, Heads: []Part{}}}
}

// under instruments the closures of an expression that gets no probe itself;
// its `with` targets count for everything inside.
func (in *instrumenter) under(e *ast.Expr, scope ast.VarSet) []Part {
	outer := in.withs
	in.withs = append(append([]string(nil), outer...), in.targets(e)...)
	defer func() { in.withs = outer }()
	return in.parts(e, scope)
}

// term descends to the comprehensions in t. Arrays, objects and sets cache the
// hashes of their elements, so they are made anew when something inside them
// changes.
func (in *instrumenter) term(t *ast.Term, scope ast.VarSet) []Part {
	if t == nil || !hasClosure(t) {
		return nil
	}
	switch v := t.Value.(type) {
	case *ast.ArrayComprehension:
		if inner, made := in.inner[v]; made {
			last := len(inner.Body) - 1
			value := inner.Body[last]
			part, body := in.comprehension(t.Location, inner.Body[:last:last], scope, value.Operand(1))
			inner.Body = numbered(append(body, value))
			return []Part{part}
		}
		part, body := in.comprehension(t.Location, v.Body, scope, v.Term)
		v.Body = body
		return []Part{part}
	case *ast.SetComprehension:
		part, body := in.comprehension(t.Location, v.Body, scope, v.Term)
		v.Body = body
		return []Part{part}
	case *ast.ObjectComprehension:
		part, body := in.comprehension(t.Location, v.Body, scope, v.Key, v.Value)
		v.Body = body
		return []Part{part}
	case ast.Ref:
		return in.terms(v, scope)
	case ast.Call:
		return in.terms(v, scope)
	case *ast.TemplateString:
		return in.template(v, scope)
	case *ast.Array:
		return in.array(t, v, scope)
	case ast.Set:
		return in.set(t, v, scope)
	case ast.Object:
		return in.object(t, v, scope)
	default:
		in.fail(t.Location, "closures inside values of the kind %T cannot be traced", v)
		return nil
	}
}

func (in *instrumenter) terms(ts []*ast.Term, scope ast.VarSet) []Part {
	var out []Part
	for _, t := range ts {
		out = append(out, in.term(t, scope)...)
	}
	return out
}

func (in *instrumenter) comprehension(loc *ast.Location, b ast.Body, scope ast.VarSet, heads ...*ast.Term) (Part, ast.Body) {
	b = withoutPrints(b)
	begin, first := in.begun(loc, string(loc.Text), nil)
	inner := in.visible(b, scope)
	body, ids := b, []int{}
	if !always(b) {
		body, ids = in.body(b, scope, inner)
	}
	part := Part{Kind: "comprehension", Body: append([]int{first}, ids...), Heads: []Part{}}
	part.Heads = append(part.Heads, in.terms(heads, inner)...)
	return part, numbered(append(ast.Body{begin}, body...))
}

func (in *instrumenter) template(ts *ast.TemplateString, scope ast.VarSet) []Part {
	var out []Part
	for _, p := range ts.Parts {
		switch p := p.(type) {
		case *ast.Expr:
			out = append(out, in.under(p, scope)...)
		case *ast.Term:
			out = append(out, in.term(p, scope)...)
		default:
			in.fail(p.Loc(), "template strings with a %T cannot be traced", p)
		}
	}
	return out
}

func (in *instrumenter) array(t *ast.Term, a *ast.Array, scope ast.VarSet) []Part {
	elems := make([]*ast.Term, a.Len())
	for i := range elems {
		elems[i] = a.Elem(i)
	}
	out := in.terms(elems, scope)
	t.Value = ast.NewArray(elems...)
	return out
}

func (in *instrumenter) set(t *ast.Term, s ast.Set, scope ast.VarSet) []Part {
	var elems []*ast.Term
	s.Foreach(func(x *ast.Term) { elems = append(elems, x) })
	out := in.terms(elems, scope)
	t.Value = ast.NewSet(elems...)
	return out
}

func (in *instrumenter) object(t *ast.Term, o ast.Object, scope ast.VarSet) []Part {
	var pairs [][2]*ast.Term
	var out []Part
	o.Foreach(func(k, v *ast.Term) { pairs = append(pairs, ast.Item(k, v)) })
	for _, p := range pairs {
		out = append(out, in.term(p[0], scope)...)
		out = append(out, in.term(p[1], scope)...)
	}
	t.Value = ast.NewObject(pairs...)
	return out
}

// Negated tells whether e is a `not`.
func Negated(e *ast.Expr) bool {
	_, not := e.Terms.(*ast.Not)
	return not || e.Negated
}

func isLogic(e *ast.Expr) bool {
	switch e.Terms.(type) {
	case *ast.LogicalAnd, *ast.LogicalOr:
		return true
	}
	return false
}

// hasClosure tells whether there is a body, or a template string that may hold
// one, inside t.
func hasClosure(t *ast.Term) bool {
	found := false
	ast.NewGenericVisitor(func(x any) bool {
		switch x.(type) {
		case *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension, *ast.TemplateString,
			*ast.Every, *ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
			found = true
		}
		return found
	}).Walk(t)
	return found
}
