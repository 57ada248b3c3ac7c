package instrument

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Reroute makes every use of the named builtins a call to the host, although
// OPA's Wasm has them: there they differ from topdown. It changes the modules,
// which must have been checked, and returns capabilities that declare the new
// names: the old one behind Prefix, so that no source can use it.
func Reroute(modules map[string]*ast.Module, caps *ast.Capabilities, names []string) (*ast.Capabilities, error) {
	renamed := map[string]ast.Ref{}
	var declared []*ast.Builtin
	for _, b := range caps.Builtins {
		for _, name := range names {
			if b.Name == name {
				host := *b
				host.Name, host.Infix = Prefix+"."+b.Name, ""
				declared = append(declared, &host)
				renamed[b.Ref().String()] = host.Ref()
			}
		}
	}
	if len(declared) == 0 {
		return caps, nil
	}
	for _, name := range sortedNames(modules) {
		if err := reroute(modules[name], renamed); err != nil {
			return nil, err
		}
	}
	return WithProbes(caps, declared), nil
}

func reroute(m *ast.Module, renamed map[string]ast.Ref) error {
	ast.WalkWiths(m, func(w *ast.With) bool {
		for _, t := range []*ast.Term{w.Target, w.Value} {
			if v, ok := t.Value.(ast.Var); ok {
				if to, found := renamed[string(v)]; found {
					t.Value = refAt(t.Location, to)
				}
			}
		}
		return false
	})
	// Values that hold a call are made anew: they cache hashes.
	out, err := ast.TransformRefs(m, func(r ast.Ref) (ast.Value, error) {
		if head, ok := r[0].Value.(ast.Var); !ok || ast.ReservedVars.Contains(head) || len(r) > 4 {
			return r, nil
		}
		if to, found := renamed[r.String()]; found {
			return refAt(r[0].Location, to), nil
		}
		return r, nil
	})
	if err != nil {
		return err
	}
	if out != m {
		return fmt.Errorf("instrument: the module was replaced")
	}
	return nil
}

// refAt copies a builtin's reference to a place in a source.
func refAt(loc *ast.Location, r ast.Ref) ast.Ref {
	out := r.Copy()
	for _, t := range out {
		t.Location = loc
	}
	return out
}
