package instrument

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// varsOf returns the variables under x; those inside closures only when
// skipClosures is false. Names of called functions are no variables.
func varsOf(x any, skipClosures bool) ast.VarSet {
	v := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipRefCallHead: true, SkipClosures: skipClosures})
	v.Walk(x)
	if vars := v.Vars(); vars != nil {
		return vars
	}
	return ast.NewVarSet()
}

// visible returns the variables that have a value when all of body holds:
// those of outer, and those that occur in body outside closures and negation.
func (in *instrumenter) visible(body ast.Body, outer ast.VarSet) ast.VarSet {
	out := ast.NewVarSet()
	out.Update(outer)
	for _, e := range body {
		if !e.Negated {
			out.Update(varsOf(e, true))
		}
	}
	for v := range out {
		if ast.ReservedVars.Contains(v) || in.modifying[v] {
			delete(out, v)
		}
	}
	return out
}

// builtinsInWith returns the names that stand for builtins in the definition's
// `with` modifiers: they look like variables and are none.
func (in *instrumenter) builtinsInWith(r *ast.Rule) map[ast.Var]bool {
	out := map[ast.Var]bool{}
	name := func(t *ast.Term) {
		v := t.Value
		if ref, ok := v.(ast.Ref); ok && len(ref) > 0 {
			v = ref[0].Value
		}
		if v, ok := v.(ast.Var); ok && in.builtins[v] {
			out[v] = true
		}
	}
	ast.WalkWiths(r, func(w *ast.With) bool {
		name(w.Target)
		name(w.Value)
		return false
	})
	return out
}

// shown returns the variables worth showing, with the author's names: not
// wildcards, not those the compiler made up.
func (in *instrumenter) shown(vars ast.VarSet) ([]string, []*ast.Term) {
	names, values := []string{}, []*ast.Term{}
	for _, v := range vars.Sorted() {
		if name, ok := in.named(v); ok {
			names = append(names, name)
			values = append(values, ast.NewTerm(v))
		}
	}
	return names, values
}

// named returns the name the author gave to v.
func (in *instrumenter) named(v ast.Var) (string, bool) {
	if original, ok := in.compiler.RewrittenVars[v]; ok {
		v = original
	}
	if v.IsWildcard() || v.IsGenerated() || strings.HasPrefix(string(v), Prefix) {
		return "", false
	}
	return string(v), true
}

// path is the rule's full path with the author's names in it.
func (in *instrumenter) path(r *ast.Rule) string {
	return in.render(ast.NewTerm(r.Ref()))
}

// render writes t with the author's names.
func (in *instrumenter) render(t *ast.Term) string {
	cpy := t.Copy()
	ast.WalkTerms(cpy, func(x *ast.Term) bool {
		v, ok := x.Value.(ast.Var)
		if !ok {
			return false
		}
		switch name, ok := in.named(v); {
		case ok:
			x.Value = ast.Var(name)
		case !ast.ReservedVars.Contains(v):
			x.Value = ast.Var("_")
		}
		return false
	})
	return clip(cpy.String())
}

// title is the title of the METADATA that belongs to exactly this definition,
// or to the whole document it is part of.
func (in *instrumenter) title(r *ast.Rule) *string {
	for _, a := range r.Annotations {
		if a.Title != "" {
			return &a.Title
		}
	}
	if set := in.compiler.GetAnnotationSet(); set != nil {
		if a := set.GetDocumentScope(r.Ref().GroundPrefix()); a != nil && a.Title != "" {
			return &a.Title
		}
	}
	return nil
}

// headText is the head as written, up to the `if`, the `{` or the end of the
// definition.
func (in *instrumenter) headText(r *ast.Rule) string {
	if text := strings.TrimSpace(string(r.Head.Location.Text)); text != "" {
		return clip(text)
	}
	return clip(r.Head.String())
}

func (in *instrumenter) place(loc *ast.Location, file *string, row, col *int) {
	*file, *row, *col = loc.File, loc.Row, loc.Col
}

// constantOf is the constant that a definition stands for.
func constantOf(h *ast.Head) *string {
	t := h.Value
	if h.RuleKind() == ast.MultiValue {
		t = h.Key
	}
	if t == nil {
		return nil
	}
	text := clip(t.String())
	return &text
}

// maxText bounds the source text of one entry, in bytes.
const maxText = 1024

// clip cuts a text at maxText, at a character's boundary, and marks the cut.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
