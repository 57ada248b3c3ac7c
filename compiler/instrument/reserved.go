package instrument

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ReservedErr is the code of an error about a name that belongs to the probes.
const ReservedErr = "reserved_name"

// reserved refuses every name that starts with Prefix.
func reserved(m *ast.Module) ast.Errors {
	var errs ast.Errors
	seen := map[string]bool{}
	refuse := func(loc *ast.Location, name string) {
		if !strings.HasPrefix(name, Prefix) || loc == nil || seen[loc.String()] {
			return
		}
		seen[loc.String()] = true
		errs = append(errs, ast.NewError(ReservedErr, loc, "the name %s is reserved", name))
	}
	for _, t := range m.Package.Path[1:] {
		if s, ok := t.Value.(ast.String); ok {
			refuse(m.Package.Location, string(s))
		}
	}
	for _, i := range m.Imports {
		refuse(i.Location, string(i.Name()))
	}
	term := func(t *ast.Term) bool {
		if v, ok := t.Value.(ast.Var); ok {
			loc := t.Location
			if loc == nil {
				loc = m.Package.Location
			}
			refuse(loc, string(v))
		}
		return false
	}
	ast.WalkRules(m, func(r *ast.Rule) bool {
		refuse(r.Head.Location, string(r.Head.Name))
		ast.WalkTerms(r.Head.Reference, term) // a walk over the module leaves it out
		return false
	})
	ast.WalkTerms(m, term)
	// Whatever the walk over terms misses has no location of its own.
	ast.WalkVars(m, func(v ast.Var) bool {
		if len(errs) == 0 {
			refuse(m.Package.Location, string(v))
		}
		return false
	})
	return errs
}
