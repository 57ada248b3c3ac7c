package instrument

import (
	"sort"

	"github.com/open-policy-agent/opa/v1/ast"
)

// bodies lists all bodies under x, outermost first.
func bodies(x any) []ast.Body {
	var out []ast.Body
	ast.WalkBodies(x, func(b ast.Body) bool {
		out = append(out, b)
		return false
	})
	return out
}

// order remembers how the bodies of the checked modules looked when the
// snapshot was taken, so that the copies can follow the order in which the
// finished compilation evaluates them.
type order struct {
	live   []ast.Body // the compiler's own expressions, as pointers at the time
	copies []ast.Body // the same bodies in the snapshot
	// unmatched counts expressions the compiler replaced: their place is
	// taken from the expression before them.
	unmatched int
	moved     int
}

func (o *order) add(live, copied *ast.Module) {
	for _, b := range bodies(live) {
		o.live = append(o.live, append(ast.Body(nil), b...))
	}
	o.copies = append(o.copies, bodies(copied)...)
}

// adopt reorders the copied bodies. The compiler moves an expression behind
// the one that makes its variables safe; a probe has to stand behind its
// expression where it is evaluated, not where it is written.
func (o *order) adopt(compiled map[string]*ast.Module) bool {
	if len(o.live) != len(o.copies) {
		return false
	}
	place := map[*ast.Expr]int{}
	for _, m := range compiled {
		for _, b := range bodies(m) {
			for i, e := range b {
				place[e] = i
			}
		}
	}
	for n, live := range o.live {
		copied := o.copies[n]
		if len(live) != len(copied) {
			return false
		}
		o.permute(live, copied, place)
	}
	return true
}

func (o *order) permute(live, copied ast.Body, place map[*ast.Expr]int) {
	keys := make([]int, len(live))
	from := make([]int, len(live))
	for i, e := range live {
		from[i] = i
		p, found := place[e]
		switch {
		case found:
			keys[i] = p
		case i > 0:
			keys[i] = keys[i-1]
		}
		if !found && !isPrint(e) && !always(ast.Body{e}) {
			o.unmatched++
		}
	}
	if sort.IntsAreSorted(keys) {
		return
	}
	o.moved++
	sort.SliceStable(from, func(a, b int) bool { return keys[from[a]] < keys[from[b]] })
	before := append(ast.Body(nil), copied...)
	for i, f := range from {
		copied[i] = before[f]
		copied[i].Index = i
	}
}

// isPrint tells whether the compiler erases e.
func isPrint(e *ast.Expr) bool {
	return e.IsCall() && e.Operator().Equal(ast.Print.Ref())
}
