package protocol

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ContractErr is the code of an error against the product's contract.
const ContractErr = "contract_error"

// Contract says what authors may define.
type Contract struct {
	// Owned is the first segment of the packages that are not the author's.
	Owned string `json:"owned"`
	// Open names the packages below Owned that are.
	Open []string `json:"open"`
	// Exempt is the prefix of the product's own files.
	Exempt string `json:"exempt"`
	// Sets names the rules of the package Owned.<first of Open> that have to
	// be partial sets: anything else would be read as "no reason given".
	Sets []string `json:"sets"`
}

func (c *Contract) check(modules map[string]*ast.Module) error {
	if c == nil {
		return nil
	}
	var errs ast.Errors
	for name, m := range modules {
		if strings.HasPrefix(name, c.Exempt) {
			continue
		}
		path := packagePath(m)
		if path[0] != c.Owned {
			continue
		}
		if len(path) == 1 || !slices.Contains(c.Open, path[1]) {
			errs = append(errs, ast.NewError(ContractErr, m.Package.Location, "package %s belongs to the gateway", strings.Join(path, ".")))
			continue
		}
		if path[1] == c.Open[0] {
			errs = append(errs, c.checkSets(m, path)...)
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

func (c *Contract) checkSets(m *ast.Module, path []string) ast.Errors {
	if len(path) > 2 {
		if slices.Contains(c.Sets, path[2]) {
			return ast.Errors{ast.NewError(ContractErr, m.Package.Location, "package %s hides the rule %s", strings.Join(path, "."), path[2])}
		}
		return nil
	}
	var errs ast.Errors
	for _, r := range m.Rules {
		ref := r.Head.Ref()
		name, ok := ref[0].Value.(ast.Var)
		if !ok || !slices.Contains(c.Sets, string(name)) {
			continue
		}
		if r.Default || len(ref) != 1 || len(r.Head.Args) > 0 || r.Head.RuleKind() != ast.MultiValue {
			errs = append(errs, ast.NewError(ContractErr, r.Head.Location, "%s is not a set of reasons", name))
		}
	}
	return errs
}

// packagePath returns the package's path without `data`; a segment that is no
// string cannot occur.
func packagePath(m *ast.Module) []string {
	var out []string
	for _, t := range m.Package.Path[1:] {
		if s, ok := t.Value.(ast.String); ok {
			out = append(out, string(s))
		}
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}
