package instrument

import (
	"sort"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// Prefix is reserved: it starts the name of every probe and of every variable
// this package adds. Sources that use it are refused, so no author can forge
// an event.
const Prefix = "gwtr"

// MaxDirect is how many values a probe takes as arguments of its own. OPA's
// Wasm calls external functions with at most four; more travel as one array.
const MaxDirect = 4

const (
	opEnter = "enter"
	opOK    = "ok"
	opLeave = "leave"
	opBegin = "begin"
)

// WithProbes returns capabilities that also declare the given probes.
func WithProbes(caps *ast.Capabilities, probes []*ast.Builtin) *ast.Capabilities {
	out := *caps
	out.Builtins = make([]*ast.Builtin, 0, len(caps.Builtins)+len(probes))
	out.Builtins = append(append(out.Builtins, caps.Builtins...), probes...)
	sort.Slice(out.Builtins, func(i, j int) bool { return out.Builtins[i].Name < out.Builtins[j].Name })
	return &out
}

// declare makes the declaration of a probe that takes n values. It has no
// result: a void call can never make a body fail, whatever the host returns.
func declare(op string, id, n int) *ast.Builtin {
	args := make([]types.Type, min(n, MaxDirect))
	if n > MaxDirect {
		args = make([]types.Type, 1)
	}
	for i := range args {
		args[i] = types.A
	}
	return &ast.Builtin{
		Name:             Prefix + "." + op + strconv.Itoa(id),
		Decl:             types.NewFunction(args, nil),
		Nondeterministic: true, // keeps every optimisation away from the call
	}
}

// probe makes the call of a probe and declares it.
func (in *instrumenter) probe(loc *ast.Location, op string, id int, values []*ast.Term) *ast.Expr {
	in.declared = append(in.declared, declare(op, id, len(values)))
	if len(values) > MaxDirect {
		values = []*ast.Term{ast.ArrayTerm(values...)}
	}
	operator := ast.RefTerm(ast.VarTerm(Prefix), ast.StringTerm(op+strconv.Itoa(id)))
	return located(loc, ast.NewExpr(append([]*ast.Term{operator}, values...)))
}
