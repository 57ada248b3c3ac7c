// Package lists turns the question "what do the rules say about this target"
// into "what do they say about all targets", so that one evaluation answers it
// for a whole list without evaluating for each target what does not depend on
// it, and without replacing any part of the input.
//
// Every definition of a set of reasons becomes an array
//
//	deny contains "x" if { A; input.target.name == "n"; B }
//	[i | A; t = input.targets[i]; t.name == "n"; B]
//
// and every rule that depends on the target an array with a value per target.
// The order of the expressions stays. What it does not understand it leaves
// alone: then there is no such question, and each target has to be asked for.
package lists

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
)

// Question names the sets of reasons and the rule that is made of them.
type Question struct {
	// Sets are paths such as data.gateway.denied_by, all of one package.
	Sets []ast.Ref
	// Shared is the member of the target that is the same for all of them. It
	// stands in input.target, the rest of each target in input.targets.
	Shared string
	// As is the rule in that package: an object with what each definition of
	// a set says, by the set's name. That is one of
	//
	//	{"everywhere": [reason, ..]}              for all targets
	//	{"reason": reason, "at": [index, ..]}     for these
	//	{"rows": [[index, reason], ..]}
	As string
}

// ErrUnsupported says that the rules do more than this package understands.
var ErrUnsupported = errors.New("rules that cannot be asked about a list")

// maxRules bounds what is made of one policy.
const maxRules = 5000

// Module makes the module that answers the question. The modules are those of
// instrument.Result.Plain, which it leaves as they are.
func Module(plain map[string]*ast.Module, checked *ast.Compiler, q Question) (*ast.Module, error) {
	l := &lister{
		checked: checked,
		pkg:     q.Sets[0][:len(q.Sets[0])-1],
		as:      q.As,
		defs:    map[string][]*ast.Rule{},
		vary:    map[*ast.Rule]bool{},
		shared:  targetRef.Append(ast.StringTerm(q.Shared)),
		varies:  variance{checked: checked, shared: q.Shared, known: map[*ast.Rule]bool{}},
		made:    map[string]string{},
		tables:  map[string]bool{},
		values:  map[string]bool{},
		taken:   map[string]taken{},
	}
	for _, name := range sortedNames(plain) {
		l.define(plain[name], checked.Modules[name])
	}
	answer := [][2]*ast.Term{}
	for _, set := range q.Sets {
		l.rows = nil
		l.unsupported = l.unsupported || len(l.defs[set.String()]) == 0
		l.set(set.String(), nil)
		name, _ := set[len(set)-1].Value.(ast.String)
		answer = append(answer, [2]*ast.Term{ast.StringTerm(string(name)), ast.ArrayTerm(l.rows...)})
	}
	l.rule(&ast.Rule{Head: l.head(q.As, nil, ast.ObjectTerm(answer...)), Body: always()})
	if l.unsupported || len(l.rules) > maxRules {
		return nil, ErrUnsupported
	}
	m := &ast.Module{Package: &ast.Package{Path: l.pkg, Location: l.at()}}
	for _, r := range l.rules {
		ast.WalkRules(r, func(r *ast.Rule) bool {
			r.Module = m
			return false
		})
	}
	m.Rules = l.rules
	return m, nil
}

type lister struct {
	checked *ast.Compiler
	pkg     ast.Ref
	as      string
	shared  ast.Ref
	defs    map[string][]*ast.Rule // by path
	vary    map[*ast.Rule]bool     // definitions that depend on the target
	varies  variance
	rules   []*ast.Rule
	rows    []*ast.Term       // references to the rows of the set that is made
	made    map[string]string // path of a rule -> name of what was made of it
	tables  map[string]bool   // names of arrays with a row for each target
	values  map[string]bool   // names of values that are the same for all targets; true = never undefined
	taken   map[string]taken  // by function
	names   int

	unsupported bool
}

// define takes note of the definitions of a module, and of the module as it was
// compiled.
func (l *lister) define(m, compiled *ast.Module) {
	if compiled == nil || len(m.Rules) != len(compiled.Rules) {
		l.unsupported = true
		return
	}
	for n, r := range m.Rules {
		path := r.Ref().GroundPrefix().String()
		l.defs[path] = append(l.defs[path], r)
		l.vary[r] = l.varies.of(compiled.Rules[n])
	}
}

// agree makes sure that the compiler's graph and the expressions say the same
// of a definition: what hides from one of them is not understood.
func (l *lister) agree(r *ast.Rule) {
	if l.vary[r] != l.depends(r) {
		l.unsupported = true
	}
}

// Variables of what is made: the place of a target in the list, and the target.
func index() *ast.Term  { return ast.VarTerm(instrument.Prefix + "_i") }
func target() *ast.Term { return ast.VarTerm(instrument.Prefix + "_t") }

// each is `t = input.targets[i]`.
func each() *ast.Expr {
	targets := ast.RefTerm(ast.InputRootDocument.Copy(), ast.StringTerm("targets"), index())
	return ast.Equality.Expr(target(), targets)
}

func always() ast.Body { return ast.NewBody(ast.NewExpr(ast.BooleanTerm(true))) }

// at is the place of what no source holds. OPA's formatter looks at the text.
func (l *lister) at() *ast.Location { return ast.NewLocation([]byte(l.as), l.as, 1, 1) }

func (l *lister) head(name string, args []*ast.Term, value *ast.Term) *ast.Head {
	return &ast.Head{
		Name:      ast.Var(name),
		Reference: ast.Ref{ast.VarTerm(name)},
		Args:      args,
		Value:     value,
		Assign:    true,
	}
}

// rule adds a rule. Nodes without a place get one: errors name it.
func (l *lister) rule(r *ast.Rule) {
	if len(l.rules) > maxRules {
		l.unsupported = true
		return
	}
	for branch := r; branch != nil; branch = branch.Else {
		for _, t := range branch.Head.Reference {
			t.Location = l.at()
		}
	}
	ast.WalkNodes(r, func(n ast.Node) bool {
		if n.Loc() == nil {
			n.SetLoc(l.at())
		}
		return false
	})
	l.rules = append(l.rules, r)
}

func (l *lister) fresh() string {
	l.names++
	return fmt.Sprintf("%s_%d", l.as, l.names)
}

// own is a reference to something that was made.
func (l *lister) own(name string, more ...*ast.Term) ast.Ref {
	return append(l.pkg.Copy(), append([]*ast.Term{ast.StringTerm(name)}, more...)...)
}

// set adds the rows of a set of reasons, guarded by what has to hold besides.
func (l *lister) set(path string, guards ast.Body) {
	for _, r := range l.defs[path] {
		if r.Default || r.Else != nil || r.Head.RuleKind() != ast.MultiValue || !r.Ref().IsGround() {
			l.unsupported = true
			return
		}
		l.agree(r)
		body := append(guards.Copy(), r.Body.Copy()...)
		if inner, ok := l.passesOn(r); ok {
			l.set(inner, body[:len(body)-1])
			continue
		}
		name := l.fresh()
		l.rule(&ast.Rule{Head: l.head(name, nil, l.rowsOf(body, r.Head.Key.Copy())), Body: always()})
		l.rows = append(l.rows, ast.NewTerm(l.own(name)))
	}
}

// passesOn tells whether the elements of a definition are those of another set
// that varies: { ..; x = data.p.other[_] } with x in the head. What stands
// before has no variables: the definitions of the other set may have some of
// the same name.
func (l *lister) passesOn(r *ast.Rule) (string, bool) {
	last := r.Body[len(r.Body)-1]
	if !last.IsEquality() || last.Negated || len(last.With) > 0 {
		return "", false
	}
	element, ref := last.Operand(0), last.Operand(1)
	set, ok := ref.Value.(ast.Ref)
	if !ok || !element.Equal(r.Head.Key) {
		return "", false
	}
	path := set[:len(set)-1]
	_, isVar := element.Value.(ast.Var)
	_, isLoop := set[len(set)-1].Value.(ast.Var)
	if !isVar || !isLoop || !path.IsGround() || hasVars(r.Body[:len(r.Body)-1]) {
		return "", false
	}
	use := l.use(path)
	if !use.varies || use.unclear || use.path != path.String() {
		return "", false
	}
	return path.String(), true
}

func hasVars(body ast.Body) bool {
	vars := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipRefHead: true})
	vars.WalkBody(body)
	return len(vars.Vars()) > 0
}

// rowsOf makes what one definition says. Targets are gone through
// from the first expression on that depends on them.
func (l *lister) rowsOf(body ast.Body, key *ast.Term) *ast.Term {
	from := 0
	for from < len(body) && !l.depends(body[from]) {
		from++
	}
	if from == len(body) && !l.depends(key) {
		return ast.ObjectTerm(ast.Item(ast.StringTerm("everywhere"), ast.ArrayComprehensionTerm(key, numbered(body))))
	}
	rest := ast.Body{}
	for _, e := range body[from:] {
		rest = append(rest, l.expr(e))
	}
	if ast.IsConstant(key.Value) {
		return ast.ObjectTerm(
			ast.Item(ast.StringTerm("reason"), key),
			ast.Item(ast.StringTerm("at"), l.loop(body[:from], index(), rest, l.tableIn(rest))))
	}
	row := ast.ArrayTerm(index(), l.term(key))
	return ast.ObjectTerm(ast.Item(ast.StringTerm("rows"), l.loop(body[:from], row, rest, l.tableIn(rest))))
}

// perTarget returns the name of an array with the value of a rule for each
// target: of a set itself, of any other rule an array with its value, empty
// when it is undefined.
func (l *lister) perTarget(path string) (name string, isSet bool) {
	defs := l.defs[path]
	isSet = len(defs) > 0 && defs[0].Head.RuleKind() == ast.MultiValue
	if known, ok := l.made[path]; ok {
		return known, isSet
	}
	name = l.fresh()
	l.made[path] = name
	l.tables[name] = true
	l.unsupported = l.unsupported || len(defs) == 0
	for _, r := range defs {
		if len(r.Head.Args) > 0 || !r.Ref().IsGround() || (r.Head.RuleKind() == ast.MultiValue) != isSet {
			l.unsupported = true
			return name, isSet
		}
	}
	value := ast.VarTerm(instrument.Prefix + "_v")
	element := ast.VarTerm(instrument.Prefix + "_x")
	var of *ast.Term
	table := ""
	if l.unsupported {
		return name, isSet
	}
	if isSet {
		of, table = l.union(defs)
	} else {
		function := l.function(path, defs)
		terms := []*ast.Term{ast.NewTerm(l.own(function)), index(), target()}
		table = l.taken[function].table
		call := ast.CallTerm(append(terms, l.taken[function].terms...)...)
		of = ast.ArrayComprehensionTerm(value, ast.NewBody(ast.Equality.Expr(value.Copy(), call)))
	}
	rows := l.loop(nil, element.Copy(), ast.Body{ast.Equality.Expr(element, of)}, table)
	l.rule(&ast.Rule{Head: l.head(name, nil, rows), Body: always()})
	return name, isSet
}

// union is a set with the elements of all definitions, and the table that it
// begins with.
func (l *lister) union(defs []*ast.Rule) (out *ast.Term, table string) {
	for _, r := range defs {
		l.agree(r)
		body := ast.Body{}
		for _, e := range r.Body {
			body = append(body, l.expr(e))
		}
		one := ast.SetComprehensionTerm(l.term(r.Head.Key), numbered(body))
		if out == nil {
			out, table = one, l.tableIn(body)
		} else {
			out = ast.CallTerm(ast.NewTerm(ast.Or.Ref()), out, one)
		}
	}
	return out, table
}

// function makes a function of the target, and of the arguments there were,
// out of the definitions of a rule.
func (l *lister) function(path string, defs []*ast.Rule) string {
	key := "function " + path
	if known, ok := l.made[key]; ok {
		return known
	}
	name := l.fresh()
	l.made[key] = name
	made := []*ast.Rule{}
	for _, r := range defs {
		l.agree(r)
		var first, last *ast.Rule
		for branch := r; branch != nil; branch = branch.Else {
			if branch.Head.RuleKind() != ast.SingleValue || !branch.Ref().IsGround() {
				l.unsupported = true
				return name
			}
			next := l.branch(name, branch)
			if last == nil {
				first = next
			} else {
				last.Else = next
			}
			last = next
		}
		made = append(made, first)
	}
	l.take(name, made)
	for _, r := range made {
		l.rule(r)
	}
	return name
}

func (l *lister) branch(name string, r *ast.Rule) *ast.Rule {
	args := []*ast.Term{index(), target()}
	for _, a := range r.Head.Args {
		args = append(args, l.term(a))
	}
	body := ast.Body{}
	for _, e := range r.Body {
		body = append(body, l.expr(e))
	}
	head := l.head(name, args, l.term(r.Head.Value))
	head.Location = r.Head.Location
	return &ast.Rule{Default: r.Default, Head: head, Body: numbered(body), Location: r.Location}
}

func numbered(b ast.Body) ast.Body {
	for i := range b {
		b[i].Index = i
	}
	return b
}
