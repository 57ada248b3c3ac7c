package instrument

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestOrdersAreMadeOnlyWhereTheyShow(t *testing.T) {
	for text, shows := range map[string]bool{
		`[x | some x in input.s]`:                    true,
		`[x | some x in {1, 2}]`:                     true,
		`[k | input.o[k]]`:                           true,
		`[input.o[_] | true]`:                        true,
		`[x | walk(input.o, [_, x])]`:                true,
		`[[a, b] | some a in [1, 2]; some b in {3}]`: true,
		`{c | c := [x | some x in input.s]}`:         true,
		`[x | some x in split(input.s, ",")]`:        false,
		`[x | some x in [1, 2]]`:                     false,
		`[x | xs := [1, input.x]; some x in xs]`:     false,
		`[x | x := input.o[input.k]]`:                false,
		`[x | k := input.k; x := input.o[k]]`:        false,
		`count([x | some x in input.s])`:             false,
		`sort([x | some x in input.s])`:              false,
		`"a" in [x | some x in input.s]`:             false,
		`{x | some x in input.s}`:                    false,
		`{k: x | some k, x in input.o}`:              false,
		`[1 | every x in input.s { x }]`:             false,
		`[1 | not input.s.a]`:                        false,
	} {
		res := instrumented(t, "package p\n\nq := "+text+"\n")
		made := strings.Contains(res.Modules["p.rego"].String(), sortedPlaces.Name)
		if made != shows {
			t.Errorf("%s: %v", text, made)
		}
	}
}

func TestTheTextOfScalarsIsLeftToWasm(t *testing.T) {
	for text, printed := range map[string]bool{
		`$"{input.x}"`:          true,
		`$"{[input.x]}"`:        true,
		`$"{count(input.x)}"`:   false,
		`$"{upper(input.x)}-1"`: false,
		`$"{1}"`:                false,
	} {
		res := instrumented(t, "package p\n\nq := "+text+"\n")
		if made := strings.Contains(res.Modules["p.rego"].String(), printedText.Name); made != printed {
			t.Errorf("%s: %v", text, made)
		}
	}
}

func TestKeysOfDataBecomeTextOnlyWhereTheDataHaveSuchKeys(t *testing.T) {
	data := map[string]any{
		"ports": map[string]any{"443": "tls"},
		"names": map[string]any{"a": map[string]any{"1": true}},
		"list":  []any{"x"},
	}
	for text, want := range map[string]string{
		`data.ports[443]`:                  `data.ports["443"]`,
		`data.ports[444]`:                  `data.ports[444]`,
		`data.list["0"]`:                   `data.list[0]`,
		`data.list[0]`:                     `data.list[0]`,
		`data.names[_][1]`:                 `["1"]`,
		`data.names[input.x]`:              `data.names[input.x]`,
		`[v | x := 1; v := data.ports[x]]`: Prefix + ".member(",
		`[v | x := 1; v := data.names[x]]`: "data.names[__localgwtr",
		`[x | data.ports[x]]`:              "data.ports[x]",
	} {
		res, err := Plain(parsed(t, "package p\n\nq := "+text+"\n"), Options{Capabilities: ast.CapabilitiesForThisVersion(), Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Modules["p.rego"].String(); !strings.Contains(got, want) {
			t.Errorf("%s became %s", text, got)
		}
	}
}

func TestABodyThatOnlyDeclaresIsInstrumented(t *testing.T) {
	res := instrumented(t, "package p\n\nq := [input.o[k] | some k]\n")
	if len(res.Dictionary.Exprs) != 1 || !res.Dictionary.Exprs[0].Begin {
		t.Errorf("%v", res.Dictionary.Exprs)
	}
}
