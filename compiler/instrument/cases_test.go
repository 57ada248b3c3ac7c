package instrument

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestCases instruments every case of OPA's own suite that parses and checks
// whether the dictionary holds together.
func TestCases(t *testing.T) {
	folder := os.Getenv("SHARED_DATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(folder, "opa-cases.jsonl"))
	if err != nil {
		t.Skipf("no cases: %v", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	built, reordered := 0, 0
	for lines.Scan() {
		var c struct {
			Note    string   `json:"note"`
			Modules []string `json:"modules"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		modules := map[string]*ast.Module{}
		for i, text := range c.Modules {
			name := "m" + strconv.Itoa(i) + ".rego"
			m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
			if err != nil {
				modules = nil
				break
			}
			modules[name] = m
		}
		if modules == nil {
			continue
		}
		res, err := Instrument(modules, Options{Capabilities: ast.CapabilitiesForThisVersion()})
		if err != nil {
			t.Logf("%s: %v", c.Note, err)
			continue
		}
		built++
		reordered += res.Reordered
		if res.Unmatched > 0 {
			t.Errorf("%s: %d expressions have no known place", c.Note, res.Unmatched)
		}
		for _, fault := range faults(res.Dictionary) {
			t.Errorf("%s: %s", c.Note, fault)
		}
		for _, e := range res.Dictionary.Exprs {
			number, _ := strconv.Atoi(strings.Trim(e.File, "m.rego"))
			line := []rune(strings.Split(c.Modules[number], "\n")[e.Row-1])
			first, _, _ := strings.Cut(strings.TrimSuffix(e.Text, "…"), "\n")
			if !strings.HasPrefix(string(line[e.Col-1:]), strings.TrimSpace(first)) {
				t.Errorf("%s: %q is not at %d:%d", c.Note, e.Text, e.Row, e.Col)
			}
		}
	}
	t.Logf("%d cases instrumented, %d bodies reordered", built, reordered)
}

// faults lists what does not hold together in a dictionary.
func faults(d *Dictionary) []string {
	var out []string
	exprs := map[int]*ExprProbe{}
	ids := map[int]bool{}
	for i := range d.Exprs {
		e := &d.Exprs[i]
		exprs[e.ID] = e
		ids[e.ID] = true
		if e.Row < 1 || e.Col < 1 || e.File == "" || e.Text == "" {
			out = append(out, "an expression without a place or text: "+strconv.Itoa(e.ID))
		}
		if len(unique(e.Vars)) != len(e.Vars) {
			out = append(out, "two variables of one name: "+e.Text)
		}
	}
	seen := map[int]int{}
	var parts func(rule int, ps []Part)
	body := func(rule int, b []int) {
		for _, id := range b {
			seen[id]++
			e, ok := exprs[id]
			if !ok {
				out = append(out, "no expression "+strconv.Itoa(id))
				continue
			}
			if e.Rule != rule {
				out = append(out, "an expression of another definition: "+e.Text)
			}
			parts(rule, e.Parts)
		}
	}
	parts = func(rule int, ps []Part) {
		for _, p := range ps {
			body(rule, p.Body)
			parts(rule, p.Heads)
			parts(rule, p.Lhs)
			parts(rule, p.Rhs)
		}
	}
	for _, r := range d.Rules {
		if ids[r.ID] {
			out = append(out, "two probes of one id: "+strconv.Itoa(r.ID))
		}
		ids[r.ID] = true
		body(r.ID, r.Body)
		parts(r.ID, r.Head)
	}
	for id := range exprs {
		if seen[id] != 1 {
			out = append(out, "expression "+strconv.Itoa(id)+" stands in "+strconv.Itoa(seen[id])+" bodies: "+exprs[id].Text)
		}
	}
	if len(ids) != len(d.Rules)+len(d.Exprs) {
		out = append(out, "ids are not unique")
	}
	for i := range len(ids) {
		if !ids[i] {
			out = append(out, "ids are not dense")
			break
		}
	}
	return out
}

func unique(names []string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		out[n] = true
	}
	return out
}
