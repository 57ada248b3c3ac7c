package instrument

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// memberName returns the name that a number has as a key of JSON, and any other
// value as it is.
var memberName = &ast.Builtin{
	Name: Prefix + ".member",
	Decl: types.NewFunction(types.Args(types.A), types.A),
}

// numeric is a key that a number can be meant to find.
var numeric = regexp.MustCompile(`^-?[0-9]`)

// keyed has references find what topdown finds in the base documents: there the
// key of a reference is text, so that data.ports[443] is the member "443", and
// data.list["0"] the first element. Wasm compares keys as values.
type keyed struct {
	in   *instrumenter
	data any
	used bool
}

func (in *instrumenter) keyed(m *ast.Module, data any) {
	if data == nil {
		return
	}
	k := &keyed{in: in, data: data}
	for _, first := range m.Rules {
		for r := first; r != nil; r = r.Else {
			if r.Default {
				continue
			}
			bound := varsOf(r.Head.Args, false)
			k.body(r.Body, bound)
			bound.Update(varsOf(r.Body, true))
			k.under(r.Head, bound)
		}
	}
	if k.used {
		in.declare(memberName)
	}
}

// body walks the expressions in the order of evaluation. bound are the
// variables with a value before the first one.
func (k *keyed) body(b ast.Body, bound ast.VarSet) {
	bound = bound.Copy()
	for _, e := range b {
		k.under(e, bound)
		bound.Update(varsOf(e, true))
	}
}

// under walks the references under x, and its closures as bodies of their own.
func (k *keyed) under(x any, bound ast.VarSet) {
	within := func(b ast.Body, heads ...*ast.Term) {
		k.body(b, bound)
		inner := bound.Copy()
		inner.Update(varsOf(b, true))
		for _, h := range heads {
			k.under(h, inner)
		}
	}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.With:
			k.under(x.Value, bound)
		case *ast.ArrayComprehension:
			within(x.Body, x.Term)
		case *ast.SetComprehension:
			within(x.Body, x.Term)
		case *ast.ObjectComprehension:
			within(x.Body, x.Key, x.Value)
		case *ast.Not:
			within(x.Body)
		case *ast.LogicalAnd:
			within(x.Lhs)
			within(x.Rhs)
		case *ast.LogicalOr:
			within(x.Lhs)
			within(x.Rhs)
		case *ast.Every:
			k.under(x.Domain, bound)
			inner := bound.Copy()
			inner.Update(varsOf(x.Value, true))
			if x.Key != nil {
				inner.Update(varsOf(x.Key, true))
			}
			k.body(x.Body, inner)
		case ast.Ref:
			k.ref(x, bound)
			return false
		default:
			return false
		}
		return true
	}).Walk(x)
}

// ref changes the operands in place.
func (k *keyed) ref(ref ast.Ref, bound ast.VarSet) {
	if !ref[0].Equal(ast.DefaultRootDocument) || len(k.in.compiler.GetRulesForVirtualDocument(ref.GroundPrefix())) > 0 {
		return
	}
	values := []any{k.data} // that the reference may have led to
	for i, t := range ref[1:] {
		switch key := t.Value.(type) {
		case ast.String:
			if places := elements(values, string(key)); len(places) > 0 && len(members(values, string(key))) == 0 {
				t.Value = ast.Number(json.Number(key))
				values = places
			} else {
				values = members(values, string(key))
			}
		case ast.Number:
			if named := members(values, key.String()); len(named) > 0 && len(elements(values, key.String())) == 0 {
				t.Value = ast.String(key.String())
				values = named
			} else {
				values = elements(values, key.String())
			}
		case ast.Var:
			k.computed(ref, i+1, values, bound.Contains(key))
			values = children(values)
		case ast.Ref, ast.Call:
			k.computed(ref, i+1, values, true)
			values = children(values)
		default:
			return
		}
	}
}

// computed has the host turn an operand into text that has a value before the
// reference is evaluated.
func (k *keyed) computed(ref ast.Ref, i int, values []any, bound bool) {
	if !bound || slices.ContainsFunc(values, isArray) || !slices.ContainsFunc(values, hasNumeric) {
		return
	}
	k.used = true
	ref[i] = ast.CallTerm(operator(ref[i].Location, memberName), ref[i]).SetLocation(ref[i].Location)
}

// members are the members of that name in the objects among values.
func members(values []any, name string) []any {
	var out []any
	for _, value := range values {
		if object, ok := value.(map[string]any); ok {
			if member, ok := object[name]; ok {
				out = append(out, member)
			}
		}
	}
	return out
}

// elements are the elements at that place in the arrays among values.
func elements(values []any, place string) []any {
	at, err := strconv.Atoi(place)
	if err != nil || at < 0 || strconv.Itoa(at) != place {
		return nil
	}
	var out []any
	for _, value := range values {
		if array, ok := value.([]any); ok && at < len(array) {
			out = append(out, array[at])
		}
	}
	return out
}

func children(values []any) []any {
	var out []any
	for _, value := range values {
		switch v := value.(type) {
		case map[string]any:
			out = slices.AppendSeq(out, maps.Values(v))
		case []any:
			out = append(out, v...)
		}
	}
	return out
}

func isArray(value any) bool {
	_, ok := value.([]any)
	return ok
}

func hasNumeric(value any) bool {
	object, _ := value.(map[string]any)
	for key := range object {
		if numeric.MatchString(key) {
			return true
		}
	}
	return false
}
