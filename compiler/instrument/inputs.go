package instrument

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// InputReads lists what evaluating the rules at a path may read of input, as
// the names that lead there, sorted; what lies below one of them is not listed
// again. A reference counts up to its first step that is no constant string,
// so the empty path, alone, stands for all of input; so does a path without
// rules. It lists too much rather than too little: what a `with` replaces
// counts, too.
func InputReads(c *ast.Compiler, path ast.Ref) [][]string {
	rules := reachable(c, path)
	if len(rules) == 0 {
		return [][]string{{}}
	}
	reads := inputReads{}
	for r := range rules {
		reads.of(r)
	}
	slices.SortFunc(reads.paths, slices.Compare)
	out := [][]string{}
	for _, p := range reads.paths {
		if n := len(out); n == 0 || !startsWith(p, out[n-1]) {
			out = append(out, p)
		}
	}
	return out
}

func startsWith(path, prefix []string) bool {
	return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// reachable returns every definition that the rules at a path may lead to.
func reachable(c *ast.Compiler, path ast.Ref) map[*ast.Rule]bool {
	found := map[*ast.Rule]bool{}
	var visit func(r *ast.Rule)
	visit = func(r *ast.Rule) {
		if r == nil || found[r] {
			return
		}
		found[r] = true
		for x := range c.Graph.Dependencies(r) {
			if next, ok := x.(*ast.Rule); ok {
				visit(next)
			}
		}
		visit(r.Else)
	}
	for _, r := range c.GetRules(path) {
		visit(r)
	}
	return found
}

// ReadsInput tells whether one definition, by itself, may read a part of input
// for which `wanted` holds. It is given the names that lead there, as many of
// them as are known. Its else branch counts, too.
func ReadsInput(r *ast.Rule, wanted func(path []string) bool) bool {
	reads := inputReads{}
	reads.of(r)
	return slices.ContainsFunc(reads.paths, wanted)
}

type inputReads struct{ paths [][]string }

// of adds what one definition reads by itself.
func (in *inputReads) of(r *ast.Rule) {
	in.under(r)
	for _, t := range r.Head.Reference {
		in.under(t)
	}
}

func (in *inputReads) under(x any) {
	input := ast.InputRootDocument.Value
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Ref:
			if x[0].Value.Compare(input) != 0 {
				return false
			}
			in.paths = append(in.paths, constantNames(x))
			for _, step := range x[1:] {
				in.under(step)
			}
			return true
		case ast.Var:
			if x.Compare(input) == 0 {
				in.paths = append(in.paths, []string{})
			}
		}
		return false
	}).Walk(x)
}

// constantNames returns the steps of a reference up to the first one that is
// no constant string.
func constantNames(r ast.Ref) []string {
	out := []string{}
	for _, step := range r[1:] {
		name, ok := step.Value.(ast.String)
		if !ok {
			break
		}
		out = append(out, string(name))
	}
	return out
}
