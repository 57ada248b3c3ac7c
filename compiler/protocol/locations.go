package protocol

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"mcp-policy-gateway/compiler/instrument"
)

// Location is what topdown made of one definition or expression: whether it
// held at least once (for a definition: gave a value), and whether it was
// tried in vain at least once. A place that is not listed was not reached.
type Location struct {
	Kind   string `json:"kind"` // rule | expr
	File   string `json:"file"`
	Row    int    `json:"row"`
	Col    int    `json:"col"`
	Held   bool   `json:"held"`
	Failed bool   `json:"failed"`
}

// attempt is one try of an expression, or of a definition, in one query.
type attempt struct {
	node  ast.Node
	query uint64
}

// locations follows topdown's trace and keeps what became of each place.
//
// topdown evaluates what the compiler has made of an expression: the calls and
// comprehensions in it stand before it as expressions of their own. They count
// as a part of it, so it has failed when one of them has.
type locations struct {
	places  map[*ast.Expr]instrument.Place
	written map[writtenExpr]bool
	seen    map[Location]*Location
	open    map[attempt]bool
}

// writtenExpr tells expressions that begin at one place: those of and/or, and
// the complement that topdown evaluates of a negated one.
type writtenExpr struct {
	place   instrument.Place
	text    string
	negated bool
}

func writtenAs(x *ast.Expr, place instrument.Place) writtenExpr {
	return writtenExpr{place, string(x.Location.Text), instrument.Negated(x)}
}

func newLocations(places map[*ast.Expr]instrument.Place) *locations {
	written := map[writtenExpr]bool{}
	for x, place := range places {
		written[writtenAs(x, place)] = true
	}
	return &locations{places: places, written: written, seen: map[Location]*Location{}, open: map[attempt]bool{}}
}

func (*locations) Enabled() bool               { return true }
func (*locations) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

func (l *locations) TraceEvent(e topdown.Event) {
	switch node := e.Node.(type) {
	case *ast.Rule:
		l.rule(e, node)
	case *ast.Expr:
		l.expr(e, node)
	}
}

func (l *locations) rule(e topdown.Event, r *ast.Rule) {
	if r.Default || r.Head.Location == nil {
		return
	}
	at := l.at("rule", instrument.RulePlace(r))
	key := attempt{r, e.QueryID}
	switch e.Op {
	case topdown.EnterOp:
		l.open[key] = true
	case topdown.ExitOp:
		delete(l.open, key)
		at.Held = true
	}
}

func (l *locations) expr(e topdown.Event, x *ast.Expr) {
	base := x.BaseCogeneratedExpr()
	place, known := l.place(base)
	if !known {
		return
	}
	at := l.at("expr", place)
	key := attempt{x, e.QueryID}
	switch e.Op {
	case topdown.EvalOp:
		// A negated expression that held leaves no event.
		if l.open[key] && x.Negated && x == base {
			at.Held = true
		}
		l.open[key] = true
	case topdown.RedoOp:
		if !x.Negated && l.open[key] && x == base {
			at.Held = true
		}
	case topdown.FailOp:
		if l.open[key] {
			at.Failed = true
			delete(l.open, key)
		}
	}
}

// place finds an expression of the author's. The compiler copies those inside
// object literals, which are told by where they stand.
func (l *locations) place(x *ast.Expr) (instrument.Place, bool) {
	place, known := l.places[x]
	if !known && !x.Generated && x.Location != nil {
		place = instrument.ExprPlace(x)
		known = l.written[writtenAs(x, place)]
	}
	return place, known
}

func (l *locations) at(kind string, p instrument.Place) *Location {
	key := Location{Kind: kind, File: p.File, Row: p.Row, Col: p.Col}
	if l.seen[key] == nil {
		found := key
		l.seen[key] = &found
	}
	return l.seen[key]
}

// list ends the evaluation, which must not have ended with an error.
func (l *locations) list() []Location {
	for key := range l.open {
		switch node := key.node.(type) {
		case *ast.Rule:
			l.at("rule", instrument.RulePlace(node)).Failed = true
		case *ast.Expr:
			if node.Negated && node == node.BaseCogeneratedExpr() {
				place, _ := l.place(node)
				l.at("expr", place).Held = true
			}
		}
	}
	out := make([]Location, 0, len(l.seen))
	for _, at := range l.seen {
		out = append(out, *at)
	}
	slices.SortFunc(out, func(a, b Location) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}
