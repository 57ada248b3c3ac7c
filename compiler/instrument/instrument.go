// Package instrument rewrites checked Rego modules so that their evaluation
// tells what it does: which rule definitions it enters and leaves, which
// expressions hold, and with which values.
//
// It works on the syntax tree as OPA's own compiler leaves it after
// StageRewriteLocalVars: references and imports are resolved, local variables
// have unique names and `some x` is gone, so it needs no idea of scopes of its
// own. Nothing it does may change what a policy means.
package instrument

import (
	"fmt"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Options say how the sources are checked.
type Options struct {
	// Capabilities the sources may use. Never the probes.
	Capabilities *ast.Capabilities
	// Strict also refuses unused variables, arguments and imports.
	Strict bool
	// Schemas types input and data; may be nil.
	Schemas *ast.SchemaSet
	// Data are the base documents as decoded JSON; nil = they are not known.
	Data any
	// DataExists tells whether the base documents hold a value at a path; may
	// be nil.
	DataExists func(path []string) (bool, error)
}

// Result is what Instrument returns.
type Result struct {
	// Modules are instrumented copies, to be compiled with Capabilities.
	Modules      map[string]*ast.Module
	Capabilities *ast.Capabilities
	Dictionary   *Dictionary
	// Checked holds the modules as they were written, checked; Plain are
	// copies from before they are instrumented, in the order of evaluation.
	Checked *ast.Compiler
	Plain   map[string]*ast.Module
	// Reordered bodies, and expressions whose place in the evaluation order
	// is not known for certain. For tests.
	Reordered, Unmatched int
}

// Checker returns a compiler set up for a full check.
func Checker(o Options) *ast.Compiler {
	c := ast.NewCompiler().
		WithCapabilities(o.Capabilities).
		WithStrict(o.Strict).
		WithSchemas(o.Schemas).
		WithUseTypeCheckAnnotations(true).
		WithEvalMode(ast.EvalModeIR).
		SetErrorLimit(maxErrors)
	if o.DataExists != nil {
		c = c.WithPathConflictsCheck(o.DataExists)
	}
	return c
}

const maxErrors = 50

// Check checks the modules as they stand, reserved names included. It changes
// them.
func Check(modules map[string]*ast.Module, o Options) (*ast.Compiler, error) {
	if errs := Reserved(modules); len(errs) > 0 {
		return nil, errs
	}
	c := Checker(o)
	c.Compile(modules)
	if c.Failed() {
		return nil, c.Errors
	}
	return c, nil
}

// Reserved returns an error for every reserved name in the modules.
func Reserved(modules map[string]*ast.Module) ast.Errors {
	var errs ast.Errors
	for _, name := range sortedNames(modules) {
		errs = append(errs, reserved(modules[name])...)
	}
	return errs
}

// Instrument checks the modules and returns instrumented copies. It changes
// the modules handed in.
func Instrument(modules map[string]*ast.Module, o Options) (*Result, error) {
	return rewrite(modules, o, (*instrumenter).module)
}

// Plain is Instrument without the probes.
func Plain(modules map[string]*ast.Module, o Options) (*Result, error) {
	return rewrite(modules, o, (*instrumenter).renamed)
}

// renamed gives the variables that the compiler made up names that the next
// compilation does not make up again: it overlooks those in heads.
func (in *instrumenter) renamed(m *ast.Module) {
	_, err := ast.TransformVars(m, func(v ast.Var) (ast.Value, error) {
		if number, ok := strings.CutPrefix(string(v), ast.LocalVarPrefix); ok {
			return ast.Var(ast.LocalVarPrefix + Prefix + number), nil
		}
		return v, nil
	})
	if err != nil {
		in.fail(m.Package.Location, "%v", err)
	}
}

func rewrite(modules map[string]*ast.Module, o Options, probes func(*instrumenter, *ast.Module)) (*Result, error) {
	if errs := Reserved(modules); len(errs) > 0 {
		return nil, errs
	}
	snapshot := map[string]*ast.Module{}
	var o2 order
	c := Checker(o).WithStageAfterID(ast.StageRewriteLocalVars, ast.CompilerStageDefinition{
		Name:       "GatewaySnapshot",
		MetricName: "gateway_snapshot",
		Stage: func(c *ast.Compiler) *ast.Error {
			for _, name := range sortedNames(c.Modules) {
				snapshot[name] = c.Modules[name].Copy()
				o2.add(c.Modules[name], snapshot[name])
			}
			return nil
		},
	})
	c.Compile(modules)
	if c.Failed() {
		return nil, c.Errors
	}
	if !o2.adopt(c.Modules) {
		return nil, fmt.Errorf("instrument: the snapshot does not match the compiled modules")
	}
	plain := map[string]*ast.Module{}
	in := newInstrumenter(c, o.Capabilities)
	for _, name := range sortedNames(snapshot) {
		in.keyed(snapshot[name], o.Data)
		if err := in.ordered(snapshot[name]); err != nil {
			return nil, err
		}
		plain[name] = snapshot[name].Copy()
		probes(in, snapshot[name])
	}
	if in.err != nil {
		return nil, in.err
	}
	return &Result{
		Modules:      snapshot,
		Capabilities: WithProbes(o.Capabilities, in.declared),
		Dictionary:   in.dictionary(),
		Checked:      c,
		Plain:        plain,
		Reordered:    o2.moved,
		Unmatched:    o2.unmatched,
	}, nil
}

func sortedNames(m map[string]*ast.Module) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// instrumenter walks the snapshot and fills the dictionary.
type instrumenter struct {
	compiler *ast.Compiler
	builtins map[ast.Var]bool // first segment of every builtin's name
	declared []*ast.Builtin
	rules    []*RuleProbe
	exprs    []*ExprProbe
	ids      int
	names    int // variables added so far
	owner    int // id of the definition being walked
	err      error

	// inner maps what orderer has made of a comprehension to the one inside
	// it with the author's body, behind which stands `value = h`.
	inner map[*ast.ArrayComprehension]*ast.ArrayComprehension

	modifying map[ast.Var]bool // builtins named in a `with` of this definition
	withs     []string         // `with` targets of enclosing expressions without a probe
}

func newInstrumenter(c *ast.Compiler, caps *ast.Capabilities) *instrumenter {
	in := &instrumenter{
		compiler: c,
		builtins: map[ast.Var]bool{},
		inner:    map[*ast.ArrayComprehension]*ast.ArrayComprehension{},
	}
	for _, b := range caps.Builtins {
		if v, ok := b.Ref()[0].Value.(ast.Var); ok {
			in.builtins[v] = true
		}
	}
	return in
}

func (in *instrumenter) module(m *ast.Module) {
	for _, first := range m.Rules {
		title := in.title(first)
		for r := first; r != nil; r = r.Else {
			if r.Default {
				continue
			}
			if own := in.title(r); own != nil {
				title = own
			}
			kind := "rule"
			if r != first {
				kind = "else"
			}
			in.rule(r, kind, title)
		}
	}
}

func (in *instrumenter) dictionary() *Dictionary {
	d := &Dictionary{Version: 1, Rules: make([]RuleProbe, len(in.rules)), Exprs: make([]ExprProbe, len(in.exprs))}
	for i, r := range in.rules {
		d.Rules[i] = *r
	}
	for i, e := range in.exprs {
		d.Exprs[i] = *e
	}
	return d
}

func (in *instrumenter) id() int {
	in.ids++
	return in.ids - 1
}

// fresh makes a variable no source can contain.
func (in *instrumenter) fresh(loc *ast.Location) *ast.Term {
	in.names++
	return ast.VarTerm(fmt.Sprintf("%s_%d", Prefix, in.names)).SetLocation(loc)
}

func (in *instrumenter) fail(loc *ast.Location, format string, args ...any) {
	if in.err == nil {
		in.err = ast.Errors{ast.NewError(ast.CompileErr, loc, format, args...)}
	}
}

// located gives every node without a location the location loc: planner and
// error messages read it, and it has to be the author's.
func located(loc *ast.Location, e *ast.Expr) *ast.Expr {
	e.Location = loc
	ast.WalkTerms(e, func(t *ast.Term) bool {
		if t.Location == nil {
			t.Location = loc
		}
		return false
	})
	return e
}

func equal(loc *ast.Location, a, b *ast.Term) *ast.Expr {
	return located(loc, ast.Equality.Expr(a, b))
}

func numbered(b ast.Body) ast.Body {
	for i := range b {
		b[i].Index = i
	}
	return b
}
