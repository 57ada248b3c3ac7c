package lists

import (
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
)

const product = `package gateway

allowed_by contains reason if some reason in data.gateway.authz.allow

denied_by contains reason if some reason in data.gateway.authz.deny

denied_by contains element if {
	input.server.name == "s"
	some element in data.gateway.server["s"].deny
}
`

const owners = `package gateway.server.s

deny contains "closed" if input.target.name == "x"
`

// moduleOf returns what is made of some rules of package gateway.authz, which
// OPA has to take.
func moduleOf(t *testing.T, rules string) (string, error) {
	t.Helper()
	modules := map[string]*ast.Module{}
	sources := map[string]string{"product": product, "server": owners, "authz": "package gateway.authz\n\n" + rules}
	for name, text := range sources {
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		modules[name] = m
	}
	res, err := instrument.Instrument(modules, instrument.Options{Capabilities: ast.CapabilitiesForThisVersion()})
	if err != nil {
		t.Fatal(err)
	}
	sets := []ast.Ref{ast.MustParseRef("data.gateway.allowed_by"), ast.MustParseRef("data.gateway.denied_by")}
	m, err := Module(res.Plain, res.Checked, Question{Sets: sets, Shared: "kind", As: "listed"})
	if err != nil {
		return "", err
	}
	text := m.String()
	res.Modules["listed"] = m
	c := ast.NewCompiler().WithEvalMode(ast.EvalModeIR).WithCapabilities(res.Capabilities)
	if c.Compile(res.Modules); c.Failed() {
		t.Fatal(text, c.Errors)
	}
	return text, nil
}

// What a definition becomes.
func TestDefinitions(t *testing.T) {
	each := "gwtr_t = input.targets[gwtr_i]"
	for _, test := range []struct{ name, rules, want string }{
		{"goes through the targets from where it depends on them", `deny contains "x" if { input.phase == "list"; input.target.name == "n"; input.server.name }`,
			`{"at": [gwtr_i | equal(input.phase, "list"); gwtr_b0 = [gwtr_v | gwtr_v = data.gateway.listed_3]; ` + each + `; equal(gwtr_t.name, "n"); gwtr_b0[0]], "reason": "x"}`},
		{"holds everywhere when it does not", `deny contains "x" if input.phase == "list"` + "\ndeny contains \"y\" if input.target.name",
			`{"everywhere": ["x" | equal(input.phase, "list")]}`},
		{"keeps a reason that is computed", `deny contains input.target.schema_digest`,
			`{"rows": [[gwtr_i, gwtr_t.schema_digest] | true; ` + each + `]}`},
		{"does not go through the targets for what they share", `deny contains "x" if input.target.kind == "server"` + "\ndeny contains \"y\" if input.target.name",
			`{"everywhere": ["x" | equal(input.target.kind, "server")]}`},
		{"looks up what they share once", `deny contains "x" if { input.target.name; input.target.kind == "server" }`,
			`gwtr_b0 = data.gateway.listed_3; ` + each + `; gwtr_t.name; equal(gwtr_b0, "server")`},
		{"makes a literal once", `deny contains "x" if { input.target.name in {"a", "b"}; input.target.annotations.x == ["a"][_] }`,
			`gwtr_b0 = data.gateway.listed_3; gwtr_b1 = data.gateway.listed_4; ` + each + `; internal.member_2(gwtr_t.name, gwtr_b0); equal(gwtr_t.annotations.x, gwtr_b1[`},
		{"passes on what the owners say, for their upstream", `deny contains "x"`,
			`{"at": [gwtr_i | equal(input.server.name, "s"); ` + each + `; equal(gwtr_t.name, "x")], "reason": "closed"}`},
		{"keeps variables of two definitions apart", "deny contains x if { y = input.server.name; x = also[_] }\nalso contains z if { y = input.target.name; z = y }",
			`{"rows": [[gwtr_i, x] | y = input.server.name; gwtr_r = data.gateway.listed_3[gwtr_i]; x = gwtr_r[_]`},
		{"reads the whole target", `deny contains "x" if f(input.target)` + "\nf(x) if x.name",
			`data.gateway.authz.f(gwtr_t)`},
		{"reads a rule per target", `deny contains "x" if r == 1` + "\nr := 1 if input.target.name == \"a\" else := 2",
			`[gwtr_i | gwtr_r = data.gateway.listed_3[gwtr_i]; equal(gwtr_r[0], 1)]`},
		{"reads a rule per target that may not be needed when it is", `deny contains "x" if { input.target.name; r == 1 }` + "\nr := 1 if input.target.name == \"a\"",
			each + `; gwtr_t.name; equal(data.gateway.listed_3[gwtr_i][0], 1)`},
		{"hands a rule's value for the target on", `deny contains "x" if r == 1` + "\nr := 1 if q == 2 else := 3\nq := 2 if input.target.name == \"a\"",
			`listed_4(gwtr_i, gwtr_t, gwtr_r) := 1 if { equal(gwtr_r[0], 2) }`},
		{"looks into what there may not be", `deny contains "x" if { input.target.name; data.tools.a.b[input.target.name] }`,
			`gwtr_b0 = data.gateway.listed_4; ` + each + `; gwtr_t.name; gwtr_b0[gwtr_t.name]`},
		{"finds nothing in what there is not", `deny contains "x" if { input.target.name; data.tools.a.b[input.target.name] }`,
			`listed_4 := data.gateway.listed_3 if { true } else = {} if { true }`},
		{"hands literals on", `deny contains "x" if r == 1` + "\nr := 1 if input.target.name in {\"a\"}",
			`listed_4(gwtr_i, gwtr_t, gwtr_b0) := 1 if { internal.member_2(gwtr_t.name, gwtr_b0) }`},
		{"goes through what it hands on", `deny contains "x" if r == 1` + "\nr := 1 if q == 2 else := 3\nq := 2 if input.target.name == \"a\"",
			`[gwtr_x | gwtr_r = data.gateway.listed_5[gwtr_i]; ` + each + `; gwtr_x = [gwtr_v | gwtr_v = data.gateway.listed_4(gwtr_i, gwtr_t, gwtr_r)]]`},
		{"reads a set per target", `deny contains "x" if "a" in s` + "\ns contains input.target.name\ns contains \"b\"",
			`gwtr_x = or({gwtr_t.name | true}, {"b" | true})`},
		{"calls a function of the target", `deny contains "x" if f(1) == 2` + "\nf(y) := 2 if input.target.name == y",
			`equal(data.gateway.listed_3(gwtr_i, gwtr_t, 1), 2)`},
		{"looks up what is the same for all once", `deny contains "x" if input.target.name in data.tools[input.server.name]`,
			`gwtr_b0 = [gwtr_v | gwtr_v = data.gateway.listed_3]; ` + each + `; internal.member_2(gwtr_t.name, gwtr_b0[0])`},
		{"reads inside closures", `deny contains "x" if { every v in data.xs { v != input.target.name }; count([1 | input.target.kind]) == 1; not input.target.annotations.y }`,
			`neq(__local1__, gwtr_t.name)`},
	} {
		text, err := moduleOf(t, test.rules)
		if err != nil || !strings.Contains(text, test.want) {
			t.Errorf("%s: %v\n%s", test.name, err, text)
		}
	}
}

// What is not understood is not made.
func TestUnsupported(t *testing.T) {
	for name, rules := range map[string]string{
		"a target that is replaced":       `deny contains "x" if p with input.target.name as "b"` + "\np if input.target.name == \"a\"",
		"what targets share, replaced":    `deny contains "x" if p with input.target.kind as "b"` + "\np if input.target.name == \"a\"",
		"an input that is replaced":       `deny contains "x" if p with input as {"target": {"name": "a"}}` + "\np if input.target.name == \"a\"",
		"a rule that is replaced":         `deny contains "x" if q with data.gateway.authz.p as 1` + "\nq if p == 1\np := 2 if input.target.name",
		"a function that is replaced":     `deny contains "x" if q with count as 1` + "\nq if count(input.target.name) == 1",
		"all of the input":                `deny contains "x" if f(input)` + "\nf(x) if x.target.name",
		"an unknown part of the input":    `deny contains "x" if input[data.part].name == "a"`,
		"an object of several rules":      `deny contains "x" if o.a` + "\no[k] := 1 if some k in input.target.annotations.xs",
		"a rule below a rule":             `deny contains "x" if o[input.server.name]` + "\no.a := 1 if input.target.name\no.b := 2",
		"all rules of a package":          `deny contains "x" if data.gateway.server.s` + "\n",
		"rules chosen by the input":       `deny contains "x" if data.gateway.server[input.server.name].deny["closed"]`,
		"a target that is read in a head": `deny contains "x" if o["a"]` + "\no[input.target.name] := 1",
	} {
		if text, err := moduleOf(t, rules); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}
