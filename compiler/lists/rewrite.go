package lists

import (
	"sort"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
)

// variance knows which rules may have another value for another target.
type variance struct {
	checked *ast.Compiler
	shared  string
	known   map[*ast.Rule]bool
}

func (v variance) of(r *ast.Rule) bool {
	if found, ok := v.known[r]; ok {
		return found
	}
	v.known[r] = false // nothing is recursive
	varies := instrument.ReadsInput(r, v.isOfTarget)
	for next := range v.checked.Graph.Dependencies(r) {
		if rule, ok := next.(*ast.Rule); ok && v.of(rule) {
			varies = true
		}
	}
	if r.Else != nil && v.of(r.Else) {
		varies = true
	}
	v.known[r] = varies
	return varies
}

// isOfTarget tells whether a part of input may differ between targets.
func (v variance) isOfTarget(path []string) bool {
	return len(path) == 0 || path[0] == "target" && (len(path) == 1 || path[1] != v.shared)
}

// use is what a reference refers to.
type use struct {
	varies bool
	// path of the only rule that it refers to and that varies
	path  string
	steps int // of the path
	// unclear: it may refer to one of several rules, or to all of a package
	unclear bool
}

func (l *lister) use(ref ast.Ref) use {
	var out use
	for _, r := range l.rulesAt(ref) {
		if !l.varies.of(r) {
			continue
		}
		path := r.Ref()
		if !path.IsGround() || !ref.HasPrefix(path) || out.varies && out.path != path.String() {
			out.unclear = true
		}
		out.varies, out.path, out.steps = true, path.String(), len(path)
	}
	return out
}

// rulesAt returns all rules that a reference may refer to.
func (l *lister) rulesAt(ref ast.Ref) []*ast.Rule {
	return l.checked.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true})
}

// depends tells whether x depends on the target.
func (l *lister) depends(x any) bool {
	varies, modified := false, false
	input := ast.InputRootDocument.Value
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Ref:
			switch {
			case x[0].Value.Compare(input) == 0:
				first, known := ast.Value(nil), false
				if len(x) > 1 {
					first = x[1].Value
					_, known = first.(ast.String)
				}
				if !known {
					varies, l.unsupported = true, true
				} else if first.Compare(ast.String("target")) == 0 && !x.HasPrefix(l.shared) {
					varies = true
				}
			case x[0].Value.Compare(ast.DefaultRootDocument.Value) == 0:
				use := l.use(x)
				varies = varies || use.varies
				l.unsupported = l.unsupported || use.unclear
			default:
				return false
			}
			for _, step := range x[1:] {
				varies = l.depends(step) || varies
			}
			return true
		case ast.Var:
			if x.Compare(input) == 0 {
				varies, l.unsupported = true, true
			}
		case *ast.With:
			modified = true
		}
		return false
	}).Walk(x)
	if varies && modified {
		l.unsupported = true
	}
	return varies
}

// expr returns a copy of an expression that reads the target `t` and, of rules
// that vary, the value for it.
func (l *lister) expr(e *ast.Expr) *ast.Expr {
	out := e.Copy()
	if l.depends(out); l.unsupported {
		return out
	}
	changed, err := ast.Transform(l, out)
	if made, ok := changed.(*ast.Expr); ok && err == nil {
		return made
	}
	l.unsupported = true
	return out
}

// term does the same with a term.
func (l *lister) term(t *ast.Term) *ast.Term {
	out := t.Copy()
	if !l.depends(out) || l.unsupported {
		return out
	}
	changed, err := ast.Transform(l, out.Value)
	if made, ok := changed.(ast.Value); ok && err == nil {
		return ast.NewTerm(made).SetLocation(out.Location)
	}
	l.unsupported = true
	return out
}

// Transform is called with every node, outermost first.
func (l *lister) Transform(x any) (any, error) {
	switch x := x.(type) {
	case *ast.Expr:
		if terms, ok := x.Terms.([]*ast.Term); ok {
			x.Terms = l.call(terms)
		}
	case ast.Call:
		return ast.Call(l.call(x)), nil
	case ast.Ref:
		return l.ref(x), nil
	case *ast.Array, ast.Set, ast.Object:
		if value := x.(ast.Value); isConstant(value) {
			return l.once(value), nil
		}
	}
	return x, nil
}

// call makes the call of a function that varies one with the target.
func (l *lister) call(terms []*ast.Term) []*ast.Term {
	ref, ok := terms[0].Value.(ast.Ref)
	if !ok || !ref.HasPrefix(ast.DefaultRootRef) {
		return terms
	}
	use := l.use(ref)
	if !use.varies {
		return terms
	}
	defs := l.defs[use.path]
	if len(defs) == 0 || len(defs[0].Head.Args) == 0 || use.steps != len(ref) {
		l.unsupported = true
		return terms
	}
	name := ast.NewTerm(l.own(l.function(use.path, defs))).SetLocation(terms[0].Location)
	return append([]*ast.Term{name, index(), target()}, terms[1:]...)
}

func (l *lister) ref(ref ast.Ref) ast.Value {
	rest := func(from int) []*ast.Term { return ref[from:] }
	switch {
	case ref.HasPrefix(l.shared):
		return l.hoisted(ref)
	case ref.HasPrefix(targetRef) && len(ref) == len(targetRef):
		return target().Value
	case ref.HasPrefix(targetRef):
		return append(ast.Ref{target()}, rest(len(targetRef))...)
	case ref.HasPrefix(ast.InputRootRef):
		return l.hoisted(ref)
	case isConstant(ref[0].Value):
		return append(l.once(ref[0].Value), rest(1)...)
	case !ref.HasPrefix(ast.DefaultRootRef) || l.isMade(ref):
		return ref
	}
	use := l.use(ref)
	if !use.varies {
		return l.hoisted(ref)
	}
	name, isSet := l.perTarget(use.path)
	if isSet {
		return append(l.own(name, index()), rest(use.steps)...)
	}
	return append(l.own(name, index(), ast.IntNumberTerm(0)), rest(use.steps)...)
}

// isMade tells whether a reference is to a rule of this package's making.
func (l *lister) isMade(ref ast.Ref) bool {
	return len(ref) > len(l.pkg) && ref.HasPrefix(l.pkg) && len(l.rulesAt(ref)) == 0
}

// hoisted replaces the part of a reference into input or base documents that
// is the same for all targets by a rule, which is evaluated once.
func (l *lister) hoisted(ref ast.Ref) ast.Value {
	end := 1
	for end < len(ref) && l.isFixed(ref[end]) {
		end++
	}
	fixed := ref[:end]
	if end < worthHoisting || len(l.rulesAt(fixed)) > 0 {
		return ref
	}
	return append(l.once(fixed), ref[end:]...)
}

// once makes a rule of a value that is the same for all targets, which is
// evaluated once, and returns a reference to it.
func (l *lister) once(value ast.Value) ast.Ref {
	key := "value " + value.String()
	name, ok := l.made[key]
	if !ok {
		name = l.fresh()
		l.made[key] = name
		l.values[name] = isConstant(value) || l.shared.Equal(value)
		l.rule(&ast.Rule{Head: l.head(name, nil, ast.NewTerm(value).Copy()), Body: always()})
	}
	return l.own(name)
}

// isConstant tells whether a value is a literal array, set or object, which is
// made anew each time it is come across.
func isConstant(value ast.Value) bool {
	switch value.(type) {
	case *ast.Array, ast.Set, ast.Object:
		return ast.IsConstant(value)
	}
	return false
}

// Shorter references cost no more than asking for a rule.
const worthHoisting = 3

// isFixed tells whether a step of a reference is the same for all targets: a
// constant, or a reference of its own that has fixed steps only.
func (l *lister) isFixed(step *ast.Term) bool {
	ref, ok := step.Value.(ast.Ref)
	if !ok {
		return ast.IsConstant(step.Value)
	}
	if !ref.HasPrefix(ast.InputRootRef) && !ref.HasPrefix(ast.DefaultRootRef) || l.depends(step) {
		return false
	}
	for _, inner := range ref[1:] {
		if !l.isFixed(inner) {
			return false
		}
	}
	return true
}

var targetRef = ast.InputRootRef.Append(ast.StringTerm("target"))

func sortedNames(m map[string]*ast.Module) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
