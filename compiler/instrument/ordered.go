package instrument

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// Builtins of the host that no source can name.
var (
	// sortedPlaces returns the indices of an array's elements in the order of
	// the elements.
	sortedPlaces = &ast.Builtin{
		Name: Prefix + ".order",
		Decl: types.NewFunction(types.Args(types.NewArray(nil, types.A)), types.NewArray(nil, types.N)),
	}
	// printedText returns the text of a composite value, and any other value
	// as it is.
	printedText = &ast.Builtin{
		Name: Prefix + ".text",
		Decl: types.NewFunction(types.Args(types.A), types.A),
	}
)

// orderBlind are builtins that give the same for an array in any order. Sums
// are none of them: of fractions they depend on it.
var orderBlind = map[string]bool{
	ast.Count.Name: true, ast.Sort.Name: true, ast.Max.Name: true, ast.Min.Name: true, ast.Member.Name: true,
}

// orderer makes visible orders those of topdown. Wasm goes through sets and
// objects by hash, topdown by value. It shows where an array is made of them
//
//	[h | body]
//
// which becomes
//
//	[out | rows = [[key, value] | body; value = h]
//	       keys = [key | key = rows[_][0]]
//	       gwtr.order(keys, places)
//	       place = places[_]
//	       out = rows[place][1]]
//
// where key holds, in the order of evaluation, what body steps through. It
// shows in the text of a value in a template string, too.
type orderer struct {
	in *instrumenter
	// made are the comprehensions that stay as they are.
	made map[*ast.ArrayComprehension]bool
	rule *ast.Rule
	// count says how often a variable occurs in the definition at hand.
	count map[ast.Var]int
	// assigned are the terms that variables of the definition are equal to.
	assigned map[ast.Var]*ast.Term
	used     bool
}

// ordered rewrites a module.
func (in *instrumenter) ordered(m *ast.Module) error {
	o := &orderer{in: in, made: map[*ast.ArrayComprehension]bool{}}
	for _, r := range m.Rules {
		if r.Default {
			continue
		}
		if _, err := ast.Transform(o, r); err != nil {
			return err
		}
	}
	if o.used {
		in.declare(sortedPlaces, printedText)
	}
	return nil
}

// declare adds builtins of the host that no source can name.
func (in *instrumenter) declare(builtins ...*ast.Builtin) {
	for _, b := range builtins {
		if !slices.Contains(in.declared, b) {
			in.declared = append(in.declared, b)
		}
	}
}

// Transform is called with every node before its children are.
func (o *orderer) Transform(x any) (any, error) {
	switch x := x.(type) {
	case *ast.Rule:
		o.enter(x)
	case *ast.Expr:
		if x.Location == nil { // the body of [x | some x] has become an added true
			located(o.rule.Location, x)
		}
		if ts, ok := x.Terms.([]*ast.Term); ok {
			o.call(ts)
		}
	case ast.Call:
		o.call(x)
	case *ast.TemplateString:
		o.template(x)
	case *ast.ArrayComprehension:
		return o.comprehension(x), nil
	}
	return x, nil
}

func (o *orderer) enter(r *ast.Rule) {
	o.rule = r
	o.count = occurrences(r)
	o.assigned = map[ast.Var]*ast.Term{}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if e.IsEquality() || e.IsAssignment() {
			if v, ok := e.Operand(0).Value.(ast.Var); ok {
				o.assigned[v] = e.Operand(1)
			}
		}
		return false
	})
}

// call leaves the arguments of a builtin that is blind to their order.
func (o *orderer) call(terms []*ast.Term) {
	if len(terms) == 0 || !orderBlind[terms[0].String()] {
		return
	}
	for _, t := range terms[1:] {
		if c, ok := t.Value.(*ast.ArrayComprehension); ok {
			o.made[c] = true
		}
	}
}

// template has the values that are not known to be scalars printed by the host.
func (o *orderer) template(s *ast.TemplateString) {
	for _, p := range s.Parts {
		e, ok := p.(*ast.Expr)
		if !ok {
			continue
		}
		var value *ast.Term
		switch ts := e.Terms.(type) {
		case *ast.Term:
			value = ts
		case []*ast.Term:
			value = ast.CallTerm(ts...).SetLocation(e.Location)
		default:
			continue
		}
		if isScalar(o.typeOf(value)) {
			continue
		}
		o.used = true
		e.Terms = []*ast.Term{operator(e.Location, printedText), value}
	}
}

func (o *orderer) comprehension(c *ast.ArrayComprehension) *ast.ArrayComprehension {
	if o.made[c] {
		return c
	}
	keys := o.steps(c)
	if len(keys) == 0 {
		return c
	}
	o.used = true
	loc := c.Term.Location
	fresh := func() *ast.Term { return o.in.fresh(loc) }
	rows, list, places, place, key, out := fresh(), fresh(), fresh(), fresh(), fresh(), fresh()
	at := func(array, i *ast.Term, more ...*ast.Term) *ast.Term {
		return ast.RefTerm(append([]*ast.Term{array.Copy(), i.Copy()}, more...)...)
	}
	number := func(n int) *ast.Term { return ast.IntNumberTerm(n) }
	value := fresh()
	inner := &ast.ArrayComprehension{
		Term: ast.ArrayTerm(oneOrArray(keys), value).SetLocation(loc),
		Body: numbered(append(append(ast.Body{}, c.Body...), equal(loc, value, c.Term))),
	}
	step := &ast.ArrayComprehension{
		Term: key.Copy(),
		Body: ast.Body{equal(loc, key, at(rows, fresh(), number(0)))},
	}
	outer := &ast.ArrayComprehension{
		Term: out.Copy(),
		Body: numbered(ast.Body{
			equal(loc, rows, ast.NewTerm(inner)),
			equal(loc, list, ast.NewTerm(step)),
			located(loc, ast.NewExpr([]*ast.Term{operator(loc, sortedPlaces), list.Copy(), places})),
			equal(loc, place, at(places, fresh())),
			equal(loc, out, at(rows, place, number(1))),
		}),
	}
	for _, made := range []*ast.ArrayComprehension{inner, step, outer} {
		o.made[made] = true
	}
	o.in.inner[outer] = inner
	return outer
}

// steps lists what the body of c steps through, in the order of evaluation;
// nothing when the order of the rows is the same in Wasm and in topdown.
func (o *orderer) steps(c *ast.ArrayComprehension) []*ast.Term {
	s := stepper{orderer: o, inside: occurrences(c), bound: ast.NewVarSet()}
	for _, e := range c.Body {
		if Negated(e) {
			continue
		}
		s.expression(e)
		s.bound.Update(varsOf(e, true))
	}
	s.term(c.Term)
	if !s.unordered {
		return nil
	}
	return s.keys
}

// stepper goes through the expressions of one body.
type stepper struct {
	*orderer
	inside map[ast.Var]int
	bound  ast.VarSet
	keys   []*ast.Term
	// unordered: something that is stepped through may be a set or an object.
	unordered bool
}

func (s *stepper) expression(e *ast.Expr) {
	switch ts := e.Terms.(type) {
	case *ast.Term:
		s.term(ts)
	case []*ast.Term:
		s.terms(ts[1:])
		s.walk(e, ts)
	case *ast.LogicalAnd:
		s.operands(ts.Lhs, ts.Rhs)
	case *ast.LogicalOr:
		s.operands(ts.Lhs, ts.Rhs)
	}
}

func (s *stepper) operands(bodies ...ast.Body) {
	for _, b := range bodies {
		for _, e := range b {
			s.expression(e)
		}
	}
}

// walk: the builtin walk steps through a whole value. Its paths are in the
// order in which topdown goes.
func (s *stepper) walk(e *ast.Expr, terms []*ast.Term) {
	var out *ast.Term
	switch {
	case terms[0].String() == ast.WalkBuiltin.Name && len(terms) == 3:
		out = terms[2]
	case len(terms) == 3 && (e.IsEquality() || e.IsAssignment()):
		for i, t := range terms[1:] {
			if call, ok := t.Value.(ast.Call); ok && call[0].String() == ast.WalkBuiltin.Name {
				out = terms[2-i]
			}
		}
	}
	if out == nil {
		return
	}
	if pair, ok := out.Value.(*ast.Array); ok && pair.Len() == 2 {
		out = pair.Elem(0)
	}
	s.add(out, true)
}

func (s *stepper) terms(ts []*ast.Term) {
	for _, t := range ts {
		s.term(t)
	}
}

// term finds the references in t, inner ones first: they are evaluated first.
func (s *stepper) term(t *ast.Term) {
	switch v := t.Value.(type) {
	case ast.Ref:
		s.terms(v)
		for i, operand := range v[1:] {
			s.add(operand, !isArrayType(s.typeOfRef(v[:i+1])))
		}
	case ast.Call:
		s.terms(v[1:])
	case *ast.Array:
		v.Foreach(s.term)
	case ast.Set:
		v.Foreach(s.term)
	case ast.Object:
		v.Foreach(func(k, x *ast.Term) {
			s.term(k)
			s.term(x)
		})
	}
}

// add notes an operand of a reference when it gets its value there.
func (s *stepper) add(t *ast.Term, unordered bool) {
	switch t.Value.(type) {
	case ast.Var, *ast.Array, ast.Object, ast.Set:
	default:
		return
	}
	if hasClosure(t) {
		return
	}
	fresh := false
	for v := range varsOf(t, true) {
		if !s.bound.Contains(v) && s.inside[v] == s.count[v] && !ast.ReservedVars.Contains(v) {
			fresh = true
			s.bound.Add(v)
		}
	}
	if !fresh {
		return
	}
	s.keys = append(s.keys, t.Copy())
	s.unordered = s.unordered || unordered
}

// typeOfRef is what the type checker knows of a reference; nil = nothing.
func (o *orderer) typeOfRef(ref ast.Ref) types.Type {
	if len(ref) == 1 {
		return o.typeOf(ref[0])
	}
	if !ast.RootDocumentNames.Contains(ref[0]) {
		return nil
	}
	return o.in.compiler.TypeEnv.GetByRef(ref)
}

// typeOf is what is known of a term's type; nil = nothing.
func (o *orderer) typeOf(t *ast.Term) types.Type {
	switch v := t.Value.(type) {
	case ast.Var:
		if to, ok := o.assigned[v]; ok {
			if _, again := to.Value.(ast.Var); !again {
				return o.typeOf(to)
			}
		}
		return nil
	case ast.Ref:
		return o.typeOfRef(v)
	case ast.Call:
		if f, ok := o.in.compiler.TypeEnv.Get(v[0]).(*types.Function); ok {
			return f.Result()
		}
		return nil
	case *ast.Array, *ast.ArrayComprehension:
		return types.NewArray(nil, types.A)
	case ast.Null, ast.Boolean, ast.Number, ast.String, *ast.TemplateString:
		return types.S
	}
	return nil
}

func isArrayType(t types.Type) bool {
	_, ok := t.(*types.Array)
	return ok
}

func isScalar(t types.Type) bool {
	switch t.(type) {
	case types.Null, types.Boolean, types.Number, types.String:
		return true
	}
	return false
}

// occurrences counts the variables under x, those in closures, too.
func occurrences(x any) map[ast.Var]int {
	out := map[ast.Var]int{}
	ast.WalkVars(x, func(v ast.Var) bool {
		out[v]++
		return false
	})
	return out
}

func operator(loc *ast.Location, b *ast.Builtin) *ast.Term {
	return refTermAt(loc, b.Ref())
}

func refTermAt(loc *ast.Location, r ast.Ref) *ast.Term {
	return ast.NewTerm(refAt(loc, r)).SetLocation(loc)
}
