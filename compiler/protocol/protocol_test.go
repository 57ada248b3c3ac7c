package protocol

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
)

// ask sends one request through the same door as the child process does.
func ask(t *testing.T, request map[string]any) map[string]any {
	t.Helper()
	request["id"] = 7
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Answer(line)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if out["id"] != float64(7) {
		t.Fatalf("id %v", out["id"])
	}
	return out
}

func one(text string) map[string]string { return map[string]string{"p.rego": text} }

// errorsOf returns code, place, message and hint of every error.
func errorsOf(t *testing.T, answer map[string]any) []string {
	t.Helper()
	if answer["ok"] == true {
		return nil
	}
	text, err := json.Marshal(answer["errors"])
	if err != nil {
		t.Fatal(err)
	}
	var list []PolicyError
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		hint := ""
		if e.Hint != nil {
			hint = *e.Hint
		}
		out = append(out, fmt.Sprintf("%s:%d:%d %s: %s [%s]", e.File, e.Row, e.Col, e.Code, e.Message, hint))
	}
	return out
}

func TestBuildIsDeterministic(t *testing.T) {
	sources := map[string]string{}
	for i := range 20 { // one rule path over many files
		sources[fmt.Sprintf("authz/%02d.rego", i)] = fmt.Sprintf(
			"package gateway.authz\n\ndeny contains \"r%d\" if {\n\tsome x in input.xs\n\tx.a == %d\n\tevery y in x.ys { y > %d }\n\thelp(x, %d)\n}\n\nhelp(x, %d) if x.b\n\ntier[x] := n if some x, n in data.t%d\n",
			i, i, i, i, i, i)
	}
	var first []byte
	for range 20 {
		request, err := json.Marshal(map[string]any{
			"id": 1, "op": "build", "sources": sources, "lenient": true, "instrument": true, "entrypoints": []string{"gateway/authz"},
		})
		if err != nil {
			t.Fatal(err)
		}
		text, err := Answer(request)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = text
			if !bytes.Contains(text, []byte(`"ok":true`)) {
				t.Fatal(string(text))
			}
		}
		if !bytes.Equal(first, text) {
			t.Fatal("two builds of the same sources differ")
		}
	}
}

// Every builtin that is not in nativeBuiltins is a call to the host: the module
// holds its name. OPA's own table is not public.
func TestNativeBuiltinsAreThoseOfTheCompiler(t *testing.T) {
	var text strings.Builder
	text.WriteString("package p\n")
	var names []string
	for i, b := range ast.CapabilitiesForThisVersion().Builtins {
		arity := len(b.Decl.FuncArgs().Args)
		if b.Decl.Result() == nil || b.Infix != "" || b.IsDeprecated() || slices.Contains(compiledAway, b.Name) || arity > 4 || strings.HasPrefix(b.Name, "internal.") {
			continue
		}
		names = append(names, b.Name)
		args := strings.TrimSuffix(strings.Repeat("input.x, ", arity), ", ")
		fmt.Fprintf(&text, "\nr%d := %s(%s)\n", i, b.Name, args)
	}
	request, err := json.Marshal(map[string]any{"id": 1, "op": "build", "sources": one(text.String()), "lenient": true, "entrypoints": []string{"p"}})
	if err != nil {
		t.Fatal(err)
	}
	line, err := Answer(request)
	if err != nil {
		t.Fatal(err)
	}
	var built struct {
		Wasm   []byte        `json:"wasm"`
		Errors []PolicyError `json:"errors"`
	}
	if err := json.Unmarshal(line, &built); err != nil || len(built.Errors) > 0 {
		t.Fatal(err, built.Errors)
	}
	if len(names) < 150 {
		t.Fatalf("only %d builtins", len(names))
	}
	for _, n := range names {
		external := bytes.Contains(built.Wasm, []byte("\x00"+n+"\x00"))
		if native := slices.Contains(nativeBuiltins, n); native == external {
			t.Errorf("%s: listed as native %v, called from outside %v", n, native, external)
		}
	}
}

func TestNativeBuiltinsExist(t *testing.T) {
	for _, n := range nativeBuiltins {
		if !isBuiltin(n) {
			t.Errorf("OPA has no %s", n)
		}
	}
}

const schema = `{"type":"object","additionalProperties":false,"properties":{
	"principal":{"type":"object","additionalProperties":false,"properties":{"roles":{"type":"array","items":{"type":"string"}}}},
	"request":{"type":"object","additionalProperties":false,"properties":{"session":{"type":"string"}}}}}`

func TestErrorsNameThePlaceAndTheWayOut(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":      {"package p\n\nq if input.principal.role == 1\n", `p.rego:3:6 rego_type_error: undefined ref: input.principal.role [did you mean input.principal.roles? fields of input.principal: roles]`},
		"field elsewhere":    {"package p\n\nq if input.session == 1\n", `p.rego:3:6 rego_type_error: undefined ref: input.session [did you mean input.request.session? fields of input: principal, request]`},
		"other word":         {"package p\n\nq if input.user == 1\n", `p.rego:3:6 rego_type_error: undefined ref: input.user [did you mean input.principal? fields of input: principal, request]`},
		"forbidden builtin":  {"package p\n\nq if http.send({\"url\": \"x\"})\n", `p.rego:3:6 rego_type_error: undefined function http.send []`},
		"forbidden group":    {"package p\n\nq := io.jwt.decode(\"x\")\n", `p.rego:3:6 rego_type_error: undefined function io.jwt.decode []`},
		"misspelt builtin":   {"package p\n\nq := conut([1])\n", `p.rego:3:6 rego_type_error: undefined function conut [did you mean count?]`},
		"reserved name":      {"package p\n\ngwtr_q := 1\n", `p.rego:3:1 reserved_name: the name gwtr_q is reserved [names that start with gwtr belong to the trace; choose another name]`},
		"unsafe variable":    {"package p\n\nq if x > 1\n", "p.rego:3:6 rego_unsafe_var_error: var x is unsafe [nothing gives x a value: bind it first, for example `some x in ..` or `x := ..`; if it is meant to be a rule or an import, check its name]"},
		"old syntax":         {"package p\n\nq { true }\n", "p.rego:3:1 rego_parse_error: `if` keyword is required before rule body [write: name if { ... }]"},
		"unused variable":    {"package p\n\nq if {\n\tx := 1\n}\n", `p.rego:4:2 rego_compile_error: assigned var x unused [use x, or write _ in its place, or remove it]`},
		"deprecated builtin": {"package p\n\nq if any([true])\n", "p.rego:3:6 rego_type_error: deprecated built-in function calls in expression: any [write `some x in xs; x`, or `true in xs`]"},
		"not closed":         {"package p\n\nq := [1,\n", `p.rego:4:1 rego_parse_error: unexpected eof token [something is not closed: a bracket, a brace or a string]`},
		"empty file":         {"", "p.rego:1:1 rego_parse_error: empty module [a file starts with `package ..`]"},
		"data in the way":    {"package taken\n\nx := 1\n", `p.rego:3:1 rego_compile_error: conflicting rule for data path taken/x found [a data file has a value at this path; rename the rule or move the data]`},
		"argument types":     {"package p\n\nq := count(1)\n", `p.rego:3:6 rego_type_error: count: invalid argument(s) [have: (number, ???) want: (collection: any<...>, n: number)]`},
	} {
		t.Run(name, func(t *testing.T) {
			got := errorsOf(t, ask(t, map[string]any{
				"op": "check", "sources": one(c.text), "inputSchema": json.RawMessage(schema), "builtins": []string{"sprintf"},
				"data": map[string]any{"taken": map[string]any{"x": 1}},
			}))
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestErrorsOfAllFilesAreReportedInOrder(t *testing.T) {
	got := errorsOf(t, ask(t, map[string]any{"op": "check", "sources": map[string]string{
		"b.rego": "package b\n\nq if {\n", "a.rego": "package a\n\nq {\n\ttrue\n}\n\nr {\n\ttrue\n}\n",
	}}))
	if len(got) != 3 || !strings.HasPrefix(got[0], "a.rego:3:") || !strings.HasPrefix(got[1], "a.rego:7:") || !strings.HasPrefix(got[2], "b.rego:4:") {
		t.Errorf("%q", got)
	}
}

func TestContractProtectsTheProductsPackage(t *testing.T) {
	contract := map[string]any{
		"owned": "gateway", "open": []string{"authz", "server"}, "exempt": "<product>/",
		"sets": []string{"allow", "deny", "limits", "obligations"},
	}
	for text, want := range map[string]string{
		"package gateway\n\nx := 1\n":                                            "p.rego:1:1 contract_error: package gateway belongs to the gateway [write rules in package gateway.authz, helpers in a package of your own]",
		"package gateway.other\n\nx := 1\n":                                      "p.rego:1:1 contract_error: package gateway.other belongs to the gateway [write rules in package gateway.authz, helpers in a package of your own]",
		"package gateway.authz.deny\n\nx := 1\n":                                 "p.rego:1:1 contract_error: package gateway.authz.deny hides the rule deny [give the package another name]",
		"package gateway.authz\n\ndeny if input.x\n":                             "p.rego:3:1 contract_error: deny is not a set of reasons [write: deny contains .. if { .. }]",
		"package gateway.authz\n\ndeny := {\"a\"} if input.x\n":                  "p.rego:3:1 contract_error: deny is not a set of reasons [write: deny contains .. if { .. }]",
		"package gateway.authz\n\ndeny.x contains 1 if input.x\n":                "p.rego:3:1 contract_error: deny is not a set of reasons [write: deny contains .. if { .. }]",
		"package gateway.authz\n\ndeny[x] := 1 if some x in input.x\n":           "p.rego:3:1 contract_error: deny is not a set of reasons [write: deny contains .. if { .. }]",
		"package gateway.authz\n\ndeny(x) := x\n":                                "p.rego:3:1 contract_error: deny is not a set of reasons [write: deny contains .. if { .. }]",
		"package gateway.authz\n\ndefault deny := false\n":                       "p.rego:3:9 contract_error: deny is not a set of reasons [write: deny contains .. if { .. }]",
		"package gateway.authz\n\ndeny contains \"a\" if input.x\n":              "",
		"package gateway.authz.tools\n\ndeny if input.x\n":                       "",
		"package gateway.server.github\n\ndeny contains \"a\" if input.x\n":      "",
		"package gateways\n\ndeny if input.x\n":                                  "",
		"package helpers.gateway\n\nallow := 1\n":                                "",
		"package gateway[\"authz\"]\n\nobligations contains {\"kind\": \"a\"}\n": "",
	} {
		got := strings.Join(errorsOf(t, ask(t, map[string]any{"op": "check", "sources": one(text), "contract": contract})), "\n")
		if got != want {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	exempt := map[string]string{"<product>/gateway.rego": "package gateway\n\nx := 1\n"}
	if got := errorsOf(t, ask(t, map[string]any{"op": "check", "sources": exempt, "contract": contract})); got != nil {
		t.Errorf("%q", got)
	}
}

func TestBuildHasNoEntrypointsButThoseAskedFor(t *testing.T) {
	// A rule that depends on an entrypoint would become one, too.
	got := ask(t, map[string]any{"op": "build", "instrument": true, "entrypoints": []string{"p/a"},
		"sources": one("package p\n\na := input.x\n\nb if a == 1\n")})
	if got["ok"] != true || fmt.Sprint(got["entrypoints"]) != "[p/a]" {
		t.Errorf("%v", got["errors"])
	}
	refused := errorsOf(t, ask(t, map[string]any{"op": "build", "entrypoints": []string{"p/none"}, "sources": one("package p\n\na := 1\n")}))
	if len(refused) != 1 || !strings.Contains(refused[0], "p/none") {
		t.Errorf("%q", refused)
	}
}

func TestSchemasAreNeverFetched(t *testing.T) {
	got := errorsOf(t, ask(t, map[string]any{"op": "check", "sources": one("package p\n\n# METADATA\n# schemas:\n#   - input: {\"$ref\": \"http://127.0.0.1:1/x.json\"}\nq if input.x\n")}))
	if len(got) != 1 || !strings.Contains(got[0], "remote reference loading disabled") {
		t.Errorf("%q", got)
	}
}

func TestEvalIsTopdown(t *testing.T) {
	got := ask(t, map[string]any{
		"op": "eval", "query": "data.p.q = x", "trace": true, "sources": one("package p\n\nq contains x if {\n\tsome x in input.xs\n\tx > data.least\n}\n"),
		"data": map[string]any{"least": 1}, "input": map[string]any{"xs": []int{1, 2, 3}},
	})
	if text, _ := json.Marshal(got["result"]); string(text) != `[{"x":[2,3]}]` {
		t.Errorf("%s", text)
	}
	if events, ok := got["trace"].([]any); !ok || len(events) < 10 {
		t.Errorf("trace %v", got["trace"])
	}
	conflict := ask(t, map[string]any{"op": "eval", "query": "data.p.q = x", "sources": one("package p\n\nq := 1\n\nq := input.x\n"), "input": map[string]any{"x": 2}})
	if e, ok := conflict["error"].(map[string]any); !ok || e["code"] != "eval_conflict_error" {
		t.Errorf("%v", conflict)
	}
	frozen := ask(t, map[string]any{"op": "eval", "query": "x = time.now_ns()", "nowNs": "1700000000000000001"})
	if text, _ := json.Marshal(frozen["result"]); !strings.HasPrefix(string(text), `[{"x":17000000000000000`) {
		t.Errorf("%s", text)
	}
	set := ask(t, map[string]any{"op": "eval", "query": "x = count(input)", "inputTerm": "{1, 2, 2}"})
	if text, _ := json.Marshal(set["result"]); string(text) != `[{"x":2}]` {
		t.Errorf("%s", text)
	}
}

func TestFormatAndDeps(t *testing.T) {
	got := ask(t, map[string]any{"op": "format", "file": "a.rego", "source": "package a\np if {input.x; true}"})
	if got["formatted"] != "package a\n\np if {\n\tinput.x\n\ttrue\n}\n" {
		t.Errorf("%q", got["formatted"])
	}
	bad := errorsOf(t, ask(t, map[string]any{"op": "format", "file": "a.rego", "source": "package a\np {"}))
	if len(bad) == 0 || !strings.HasPrefix(bad[0], "a.rego:2:") {
		t.Errorf("%q", bad)
	}
	read := ask(t, map[string]any{"op": "deps", "entrypoints": []string{"p/q"}, "sources": one("package p\n\nq if {\n\tr\n\tinput.a.b == data.c\n}\n\nr if input.d\n")})
	if base, virtual := fmt.Sprint(read["base"]), fmt.Sprint(read["virtual"]); base != "[data.c input.a.b input.d]" || virtual != "[data.p.q data.p.r]" {
		t.Errorf("%s %s", base, virtual)
	}
}

func TestServeAnswersLineByLine(t *testing.T) {
	in := "{\"id\":1,\"op\":\"version\"}\n\n{\"id\":2,\"op\":\"nothing\"}\n{\"id\":3,\"op\":\"capabilities\",\"builtins\":[]}"
	var out bytes.Buffer
	if err := Serve(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"opa":"1.22.0"`) || !strings.Contains(lines[1], `"unknown_op"`) || strings.Contains(lines[2], `"sprintf"`) {
		t.Errorf("%q", lines)
	}
	if err := Serve(strings.NewReader("not json\n"), &out); err == nil {
		t.Error("garbage was accepted")
	}
	if err := Serve(strings.NewReader(`{"id":1,"op":"version","extra":1}`), &out); err == nil {
		t.Error("an unknown field was accepted")
	}
}

func TestDepsTellWhatEachDefinitionReads(t *testing.T) {
	got := ask(t, map[string]any{"op": "deps", "entrypoints": []string{"p/q"}, "sources": one(`package p

q if {
	user := input.user
	user.name == data.admins[_]
	f(input.n)
	r
}

f(x) if x > data.least

r if input.a
else := 2 if input.b

s if input.never
`)})
	text, _ := json.Marshal(got["rules"])
	want := `[{"col":1,"data":["data.admins"],"file":"p.rego","input":["input.n","input.user.name"],"reachable":true,"row":3,"rule":"data.p.q","rules":["data.p.f","data.p.r"]},` +
		`{"col":1,"data":["data.least"],"file":"p.rego","input":[],"reachable":true,"row":10,"rule":"data.p.f","rules":[]},` +
		`{"col":1,"data":[],"file":"p.rego","input":["input.a","input.b"],"reachable":true,"row":12,"rule":"data.p.r","rules":[]},` +
		`{"col":1,"data":[],"file":"p.rego","input":["input.never"],"reachable":false,"row":15,"rule":"data.p.s","rules":[]}]`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestCheckNamesDefinitionsNoEntrypointLeadsTo(t *testing.T) {
	sources := one("package p\n\nq := data.p[input.name]\n\nr := f(1)\n\nf(x) := x\n")
	for entrypoint, want := range map[string]string{
		"p/r": `[{"col":1,"file":"p.rego","row":3,"rule":"data.p.q"}]`,
		"p":   `[]`,
	} {
		got := ask(t, map[string]any{"op": "check", "entrypoints": []string{entrypoint}, "sources": one("package p\n\nq := input.name\n\nr := f(1)\n\nf(x) := x\n")})
		if text, _ := json.Marshal(got["unreachable"]); string(text) != want {
			t.Errorf("%s: %s", entrypoint, text)
		}
	}
	if got := ask(t, map[string]any{"op": "check", "entrypoints": []string{"p/q"}, "sources": sources}); got["ok"] == true {
		t.Error("recursion through a dynamic reference was accepted")
	}
}

func TestEvalTellsWhatBecameOfEachPlace(t *testing.T) {
	got := ask(t, map[string]any{"op": "eval", "query": "data.p = x", "locations": true,
		"input": map[string]any{"xs": []int{1, 2, 9007199254740993}},
		"sources": one(`package p

q contains x if {
	some x in input.xs
	count([y | some y in input.xs; y < x]) > 0
	not input.none
}

r if {
	every x in input.xs { x > 1 }
	input.never
}
`)})
	var lines []string
	for _, l := range got["locations"].([]any) {
		at := l.(map[string]any)
		lines = append(lines, fmt.Sprintf("%v %v:%v held=%v failed=%v", at["kind"], at["row"], at["col"], at["held"], at["failed"]))
	}
	want := []string{
		"rule 3:1 held=true failed=false",
		"expr 4:2 held=true failed=false",
		"expr 5:2 held=true failed=true",
		"expr 5:13 held=true failed=false",
		"expr 5:33 held=true failed=true",
		"expr 6:2 held=true failed=false",
		"rule 9:1 held=false failed=true",
		"expr 10:2 held=false failed=true",
		"expr 10:24 held=false failed=true",
	}
	if text := strings.Join(lines, "\n"); text != strings.Join(want, "\n") {
		t.Errorf("%s", text)
	}
	if texts, _ := json.Marshal(got["texts"]); string(texts) != `[{"x":"{\"q\": {2, 9007199254740993}}"}]` {
		t.Errorf("%s", texts)
	}
}

func TestBuiltinsTheHostEvaluatesAreNotCalledInTheModule(t *testing.T) {
	source := one("package p\n\nq contains x if {\n\tx := json.unmarshal(input.a)\n\tconcat(\",\", {concat(\"\", [x]), \"b\"}) == \"a,b\"\n}\n\nf(_) := 1\n\nr := n if n := count(q) with json.unmarshal as f with concat as \"a,b\"\n\ns := n if n := f(\"1\") with data.p.f as json.unmarshal\n")
	for _, instrumented := range []bool{true, false} {
		got := ask(t, map[string]any{"op": "build", "instrument": instrumented, "sources": source,
			"entrypoints": []string{"p/q", "p/r", "p/s"}, "builtins": []string{"json.unmarshal", "concat"}})
		if got["ok"] != true {
			t.Fatalf("%v", got["errors"])
		}
		raw, err := base64.StdEncoding.DecodeString(got["wasm"].(string))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"gwtr.json.unmarshal", "gwtr.concat"} {
			if !bytes.Contains(raw, []byte(name)) {
				t.Errorf("%s is not called", name)
			}
		}
	}
}

func TestHintsForWhatBeginnersWrite(t *testing.T) {
	for body, want := range map[string]string{
		`deny contains 'x' if input.a`:                               "double quotes",
		`deny contains "x" if input.a && input.b`:                    "lines of their own",
		`deny contains "x" if input.a || input.b`:                    "a rule of the same name for each alternative",
		`deny contains "x" if input.a := "x"`:                        "compare with `==`",
		`deny contains "x" if startswith(input.a, 5)`:                "argument 2 (base) is a number, it has to be a string",
		"deny contains \"x\" if bad\n\nbad if worse\n\nworse if bad": "cannot depend on itself",
	} {
		errs := errorsOf(t, ask(t, map[string]any{"op": "check", "sources": one("package gateway.authz\n\n" + body + "\n")}))
		if len(errs) != 1 || !strings.Contains(errs[0], want) {
			t.Errorf("%s: %q has not one error with the hint %q", body, errs, want)
		}
	}
}

func TestAModuleTellsWhatItsRulesRead(t *testing.T) {
	source := `package a

import input.server as s

visible := [v | some t in input.targets; v := judged with input.target as t]
judged := {"n": input.target.name, "x": p}
p contains s.labels[input.key]
p contains 1 if f(input.principal.roles)
p contains 2 if { some i; input.a.b[i].c == 1 }
p contains 3 if { every x in [1] { x == input.every } ; y := [z | z := input.comprehension]; y[_] }
p contains 4 if not q[input.negated]
p contains 5 if $"{input.template}" == "x"
p contains 6 if h with input.replaced as input.by
f(x) if x[_] == input.principal.id
h if input.behind
q[input.head] := 1
unasked if input.unasked
`
	for _, instrumented := range []bool{true, false} {
		reads := readsOf(t, source, instrumented)
		want := `[["a","b"],["behind"],["by"],["comprehension"],["every"],["head"],["key"],["negated"],["principal","id"],["principal","roles"],["replaced"],["server","labels"],["target","name"],["template"]]`
		if reads != want {
			t.Errorf("instrumented %v: got %s", instrumented, reads)
		}
	}
	for _, whole := range []string{`x := input`, `x := input[data.k]`, `x if data.k with input as {}`, `x := [input]`, `x if f(input)
f(y) if y.z`} {
		if reads := readsOf(t, "package a\n\njudged := x\n"+whole+"\n", true); reads != "[[]]" {
			t.Errorf("%s: got %s", whole, reads)
		}
	}
}

func TestRulesThatAreNotThereReadAllOfTheInput(t *testing.T) {
	if reads := readsOf(t, "package a\n\nx := 1\n", true); reads != "[[]]" {
		t.Errorf("got %s", reads)
	}
}

// readsOf builds a source and returns the rule that tells what data.a.judged
// reads, from the module that would be compiled.
func readsOf(t *testing.T, source string, instrumented bool) string {
	t.Helper()
	modules, err := parse(one(source), allowed(nil))
	if err != nil {
		t.Fatal(err)
	}
	o := instrument.Options{Capabilities: allowed(nil)}
	var c *ast.Compiler
	if instrumented {
		res, err := instrument.Instrument(modules, o)
		if err != nil {
			t.Fatal(err)
		}
		c, modules = res.Checked, res.Modules
	} else if c, err = instrument.Check(modules, o); err != nil {
		t.Fatal(err)
	}
	if err := (&Reads{Of: "a/judged", As: "a/list_reads"}).add(modules, c); err != nil {
		t.Fatal(err)
	}
	rule := modules["a/list_reads"].Rules[0]
	return strings.ReplaceAll(rule.Head.Value.String(), " ", "")
}
