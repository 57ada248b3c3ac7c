package instrument

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func parsed(t *testing.T, text string) map[string]*ast.Module {
	t.Helper()
	m, err := ast.ParseModuleWithOpts("p.rego", text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*ast.Module{"p.rego": m}
}

func instrumented(t *testing.T, text string) *Result {
	t.Helper()
	res, err := Instrument(parsed(t, text), Options{Capabilities: ast.CapabilitiesForThisVersion()})
	if err != nil {
		t.Fatal(err)
	}
	if f := faults(res.Dictionary); len(f) > 0 {
		t.Fatal(f)
	}
	return res
}

// texts returns the expressions of a body, in order.
func texts(d *Dictionary, ids []int) []string {
	out := []string{}
	for _, id := range ids {
		for _, e := range d.Exprs {
			if e.ID == id {
				out = append(out, e.Text)
			}
		}
	}
	return out
}

func equalTexts(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProbesCarryTheirIdInTheName(t *testing.T) {
	res := instrumented(t, "package p\n\nq contains x if {\n\tsome x in input.xs\n\tx > 1\n}\n")
	var names []string
	for _, b := range res.Capabilities.Builtins {
		if strings.HasPrefix(b.Name, Prefix+".") {
			names = append(names, b.Name)
			if b.Decl.Result() != nil {
				t.Errorf("%s has a result", b.Name)
			}
		}
	}
	equalTexts(t, names, []string{"gwtr.enter0", "gwtr.leave0", "gwtr.ok1", "gwtr.ok2"})
	body := res.Modules["p.rego"].Rules[0].Body.String()
	for _, call := range []string{"gwtr.enter0()", "gwtr.leave0(", "gwtr.ok1(", "gwtr.ok2("} {
		if !strings.Contains(body, call) {
			t.Errorf("no %s in %s", call, body)
		}
	}
}

func TestMoreThanFourValuesTravelAsOneArray(t *testing.T) {
	res := instrumented(t, "package p\n\nq if {\n\tsome a, b in input.x\n\tsome c, d in input.x\n\tsome e in input.x\n\ta + b + c + d + e > 1\n}\n")
	last := res.Dictionary.Exprs[len(res.Dictionary.Exprs)-1]
	equalTexts(t, last.Vars, []string{"a", "b", "c", "d", "e"})
	for _, b := range res.Capabilities.Builtins {
		if strings.HasPrefix(b.Name, Prefix+".") && len(b.Decl.FuncArgs().Args) > MaxDirect {
			t.Errorf("%s takes %d arguments", b.Name, len(b.Decl.FuncArgs().Args))
		}
	}
}

func TestBodyIsInTheOrderOfEvaluation(t *testing.T) {
	res := instrumented(t, "package p\n\nq if {\n\tx > 1\n\tx = input.a\n}\n")
	equalTexts(t, texts(res.Dictionary, res.Dictionary.Rules[0].Body), []string{"x = input.a", "x > 1"})
	if res.Reordered != 1 {
		t.Errorf("%d bodies reordered", res.Reordered)
	}
}

func TestElseBranchesAreDefinitionsOfTheirOwn(t *testing.T) {
	res := instrumented(t, "package p\n\nq := 1 if {\n\tinput.a\n} else := 2 if {\n\tinput.b\n} else := 3\n\ndefault r := false\n\nr if input.c\n\ns := 4\n")
	var kinds, constants []string
	for _, r := range res.Dictionary.Rules {
		kinds = append(kinds, r.Kind)
		constants = append(constants, *r.Constant)
	}
	equalTexts(t, kinds, []string{"rule", "else", "else", "rule", "fact"})
	equalTexts(t, constants, []string{"1", "2", "3", "true", "4"})
}

func TestFunctionArgumentsAndPathsHaveTheAuthorsNames(t *testing.T) {
	res := instrumented(t, "package p\n\nf(x, [y, _], \"a\") := x + y if x > y\n\ntier[name].level := n if some name, n in input.tiers\n")
	equalTexts(t, res.Dictionary.Rules[0].Args, []string{"x", "y"})
	if got := res.Dictionary.Rules[1].Path; got != "data.p.tier[name].level" {
		t.Error(got)
	}
	if got := res.Dictionary.Rules[1].Outs; got != 2 {
		t.Errorf("%d head terms moved", got)
	}
}

func TestTitlesComeFromMetadata(t *testing.T) {
	res := instrumented(t, "package p\n\n# METADATA\n# title: First\nq contains 1 if input.a\n\nq contains 2 if input.b\n\n# METADATA\n# scope: document\n# title: All of r\nr contains 1 if input.a\n\nr contains 2 if input.b\n")
	var titles []string
	for _, r := range res.Dictionary.Rules {
		if r.Title == nil {
			titles = append(titles, "")
		} else {
			titles = append(titles, *r.Title)
		}
	}
	equalTexts(t, titles, []string{"First", "", "All of r", "All of r"})
}

func TestClosuresAreParts(t *testing.T) {
	res := instrumented(t, `package p

import future.keywords.and
import future.keywords.not
import future.keywords.or

q if {
	every k, v in input.a { v > 1; k != "x" }
	not { input.b; input.c }
	input.d and {input.e or input.f}
	count({x | some x in input.g; count([y | y := x[_]]) > 0}) > 0
}
`)
	d := res.Dictionary
	var kinds []string
	var walk func(ps []Part)
	walk = func(ps []Part) {
		for _, p := range ps {
			kinds = append(kinds, p.Kind)
			for _, id := range p.Body {
				for _, e := range d.Exprs {
					if e.ID == id {
						walk(e.Parts)
					}
				}
			}
			walk(p.Heads)
			walk(p.Lhs)
			walk(p.Rhs)
		}
	}
	for _, id := range d.Rules[0].Body {
		for _, e := range d.Exprs {
			if e.ID == id {
				walk(e.Parts)
			}
		}
	}
	equalTexts(t, kinds, []string{"every", "not", "and", "operand", "operand", "or", "operand", "operand", "comprehension", "comprehension"})
	begins := 0
	for _, e := range d.Exprs {
		if e.Begin {
			begins++
			if strings.HasPrefix(e.Text, "every") {
				equalTexts(t, e.Vars, []string{"k", "v"})
			}
		}
	}
	if begins != 3 { // every and two comprehensions
		t.Errorf("%d begin probes", begins)
	}
}

func TestReadsNameWhatAnExpressionLooksAt(t *testing.T) {
	res := instrumented(t, `package p

import input.principal as who

q if {
	some tool in input.tools
	who.claims[tool.name] == data.wanted[input.server][3].x
	not input.principal.claims.mfa
	"admin" in who.roles
	rule
	level.name == "high"
	half(1) == 0
	input.x == 1 with input.x as input.y
}

rule if input.z

default level := {"name": "low"}

level := {"name": "high"} if input.z

half(n) := n / 2
`)
	reads := map[string]string{}
	for _, e := range res.Dictionary.Exprs {
		text, err := json.Marshal(e.Reads)
		if err != nil {
			t.Fatal(err)
		}
		reads[e.Text] = string(text)
	}
	want := map[string]string{
		"some tool in input.tools": `[{"text":"input.tools","root":"input","path":["tools"]}]`,
		"who.claims[tool.name] == data.wanted[input.server][3].x": `[{"text":"input.principal.claims[tool.name]","root":"input","path":["principal","claims",null]},` +
			`{"text":"tool.name","root":{"var":"tool"},"path":["name"]},` +
			`{"text":"data.wanted[input.server][3].x","root":"data","path":["wanted",null,3,"x"]},` +
			`{"text":"input.server","root":"input","path":["server"]}]`,
		"not input.principal.claims.mfa": `[{"text":"input.principal.claims.mfa","root":"input","path":["principal","claims","mfa"]}]`,
		`"admin" in who.roles`:           `[{"text":"input.principal.roles","root":"input","path":["principal","roles"]}]`,
		"rule":                           `[{"text":"data.p.rule","root":{"rule":"data.p.rule","default":null},"path":[]}]`,
		`level.name == "high"`:           `[{"text":"data.p.level.name","root":{"rule":"data.p.level","default":"{\"name\": \"low\"}"},"path":["name"]}]`,
		"half(1) == 0":                   `[]`,
	}
	for text, list := range want {
		if reads[text] != list {
			t.Errorf("%s\n got %s\nwant %s", text, reads[text], list)
		}
	}
	for _, e := range res.Dictionary.Exprs {
		if strings.HasPrefix(e.Text, "input.x == 1") && !slices.Equal(e.WithTargets, []string{"input.x"}) {
			t.Errorf("with targets %q", e.WithTargets)
		}
	}
}

func TestReservedNamesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a call":           "package p\n\nq if gwtr.ok1(1)\n",
		"a local variable": "package p\n\nq if {\n\tgwtr_x := 1\n\tgwtr_x == 1\n}\n",
		"an argument":      "package p\n\nf(gwtr_x) := gwtr_x\n",
		"a rule":           "package p\n\ngwtrue := 1\n",
		"a head variable":  "package p\n\nq[gwtr_1].a := 1 if some gwtr_1 in input.x\n",
		"an alias":         "package p\n\nimport data.x as gwtr\n\nq if gwtr.y\n",
		"a package":        "package gwtr\n\nq := 1\n",
		"a package part":   "package a.gwtr_b\n\nq := 1\n",
		"a closure":        "package p\n\nq := [gwtr_x | some gwtr_x in input.x]\n",
		"a replacement":    "package p\n\nq if input.x with gwtr.ok1 as 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Instrument(parsed(t, text), Options{Capabilities: ast.CapabilitiesForThisVersion()})
			errs, ok := err.(ast.Errors)
			if !ok || errs[0].Code != ReservedErr || errs[0].Location == nil || errs[0].Location.Row < 1 {
				t.Errorf("not refused: %v", err)
			}
		})
	}
}

func TestReservedPrefixInStringsIsFine(t *testing.T) {
	instrumented(t, "package p\n\nq if input.gwtr_x == \"gwtr.ok1\"\n")
}

func TestAProbeCannotBeMocked(t *testing.T) {
	// What the author replaces must not touch what is added: no builtin is.
	res := instrumented(t, "package p\n\nq if { input.a } \n\nr if q with neq as 1\n")
	if strings.Contains(res.Modules["p.rego"].Rules[0].Body.String(), "!=") {
		t.Error("a builtin was added")
	}
}

func TestPrintsHaveNoProbe(t *testing.T) {
	res := instrumented(t, "package p\n\nq if {\n\tprint(input)\n\tinput.a\n}\n\nr if {\n\tprint(input)\n}\n")
	equalTexts(t, texts(res.Dictionary, res.Dictionary.Rules[0].Body), []string{"input.a"})
	if res.Dictionary.Rules[1].Kind != "fact" {
		t.Error(res.Dictionary.Rules[1].Kind)
	}
}

func TestChecksAreStrictAndTyped(t *testing.T) {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, map[string]any{
		"type": "object", "additionalProperties": false,
		"properties": map[string]any{"user": map[string]any{"type": "string"}},
	})
	o := Options{Capabilities: ast.CapabilitiesForThisVersion(), Strict: true, Schemas: schemas}
	for _, text := range []string{
		"package p\n\nq if input.usr == \"a\"\n",
		"package p\n\nimport data.x\n\nq := 1\n",
		"package p\n\nq if {\n\tx := 1\n}\n",
	} {
		if _, err := Instrument(parsed(t, text), o); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	if _, err := Instrument(parsed(t, "package p\n\nq if input.user == \"a\"\n"), o); err != nil {
		t.Error(err)
	}
}

func TestLongTextsAreCutAtACharacter(t *testing.T) {
	long := strings.Repeat("é", maxText)
	if got := clip(long); len(got) > maxText+len("…") || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes", len(got))
	}
}

func TestLoopsReadTheirCollection(t *testing.T) {
	res := instrumented(t, "package p\n\nq if {\n\tsome k, v in input.o\n\tinput.x[k].y == v\n\tsome i\n\tinput.z[i].a\n\tcount([1 | input.w[i][_]]) > 0\n}\n")
	want := map[string]string{
		"some k, v in input.o": "input.o",
		"input.x[k].y == v":    "input.x[k].y",
		"input.z[i].a":         "input.z",
		"input.w[i][_]":        "input.w[i]",
	}
	for _, e := range res.Dictionary.Exprs {
		if text, ok := want[e.Text]; ok && (len(e.Reads) != 1 || e.Reads[0].Text != text) {
			t.Errorf("%s reads %v", e.Text, e.Reads)
		}
	}
}

func TestTheBodyOfAnElseWithoutBracesIsFound(t *testing.T) {
	source := "package p\n\nq := 1 if input.a else := \"if\" if input.b == \"else\" else := 3 if {\n\tinput.c\n}\n\nr := 1 if {\n\tinput.a\n}\nelse := [x | some x in input.d] if # if\n\tinput[\"é\"] else := 4 if input.f\n"
	res := instrumented(t, source)
	lines := strings.Split(source, "\n")
	var got []string
	for _, r := range res.Dictionary.Rules {
		for _, id := range r.Body {
			for _, e := range res.Dictionary.Exprs {
				if e.ID != id {
					continue
				}
				got = append(got, e.Text)
				if rest := string([]rune(lines[e.Row-1])[e.Col-1:]); !strings.HasPrefix(rest, e.Text) {
					t.Errorf("%q is not at %d:%d", e.Text, e.Row, e.Col)
				}
			}
		}
	}
	equalTexts(t, got, []string{"input.a", `input.b == "else"`, "input.c", "input.a", `input["é"]`, "input.f"})
}
