package protocol

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"mcp-policy-gateway/compiler/instrument"
)

// hint finds the way out of an error.
type hint struct {
	err *ast.Error
	req *Request
	out *PolicyError
}

func (h *hint) fill() {
	text := h.find()
	if text != "" {
		h.out.Hint = &text
	}
}

func (h *hint) find() string {
	switch h.err.Code {
	case instrument.ReservedErr:
		return "names that start with " + instrument.Prefix + " belong to the trace; choose another name"
	case ContractErr:
		return h.contract()
	case ast.ParseErr:
		return h.parse()
	}
	if d, ok := h.err.Details.(*ast.RefErrInvalidDetail); ok {
		return h.unknownField(d)
	}
	return h.byMessage()
}

func (h *hint) contract() string {
	c := h.req.Contract
	switch {
	case strings.HasSuffix(h.out.Message, "belongs to the gateway"):
		return fmt.Sprintf("write rules in package %s.%s, helpers in a package of your own", c.Owned, c.Open[0])
	case strings.Contains(h.out.Message, " hides the rule "):
		return "give the package another name"
	}
	name, _, _ := strings.Cut(h.out.Message, " ")
	return fmt.Sprintf("write: %s contains .. if { .. }", name)
}

// unknownField names the field that was probably meant.
func (h *hint) unknownField(d *ast.RefErrInvalidDetail) string {
	if d.Pos < 1 || d.Pos >= len(d.Ref) {
		return ""
	}
	wrote, ok := d.Ref[d.Pos].Value.(ast.String)
	if !ok {
		return ""
	}
	var names []string
	for _, v := range d.OneOf {
		if s, ok := v.(ast.String); ok {
			names = append(names, string(s))
		}
	}
	h.mark(d.Ref[:d.Pos+1].String())
	parent := d.Ref[:d.Pos].String()
	if len(names) == 0 {
		if d.Want != nil {
			return fmt.Sprintf("%s is %s, it has no fields", parent, d.Want)
		}
		return fmt.Sprintf("%s has no fields", parent)
	}
	slices.Sort(names)
	fields := fmt.Sprintf("fields of %s: %s", parent, strings.Join(names, ", "))
	switch near := nearest(string(wrote), names); {
	case near != "":
		return fmt.Sprintf("did you mean %s.%s? %s", parent, near, fields)
	case parent == "input":
		if elsewhere := h.elsewhere(string(wrote)); elsewhere != "" {
			return fmt.Sprintf("did you mean %s? %s", elsewhere, fields)
		}
	}
	return fields
}

// inputAliases are words people use for fields of input.
var inputAliases = map[string]string{
	"args": "input.arguments", "params": "input.arguments", "parameters": "input.arguments",
	"user": "input.principal", "usr": "input.principal", "subject": "input.principal", "caller": "input.principal",
	"tool": "input.target", "resource": "input.target", "action": "input.request.method",
	"upstream": "input.server", "role": "input.principal.roles", "claim": "input.principal.claims",
}

// elsewhere finds the one place in the input schema that has a field of this
// name.
func (h *hint) elsewhere(name string) string {
	var schema map[string]any
	if decode(h.req.InputSchema, &schema) != nil {
		return ""
	}
	if alias := inputAliases[strings.ToLower(name)]; alias != "" && hasField(schema, strings.Split(alias, ".")[1:]) {
		return alias
	}
	var found []string
	top := properties(schema)
	for parent, inner := range top {
		if m, ok := inner.(map[string]any); ok {
			if _, ok := properties(m)[name]; ok {
				found = append(found, "input."+parent+"."+name)
			}
		}
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

func properties(schema map[string]any) map[string]any {
	p, _ := schema["properties"].(map[string]any)
	return p
}

func hasField(schema map[string]any, path []string) bool {
	for _, step := range path {
		next, ok := properties(schema)[step].(map[string]any)
		if !ok {
			return false
		}
		schema = next
	}
	return true
}

// mark widens the marked text to all of what, when that is what stands there.
func (h *hint) mark(what string) {
	if h.out.Line == nil || h.out.Col < 1 {
		return
	}
	line := []rune(*h.out.Line)
	if h.out.Col-1 <= len(line) && strings.HasPrefix(string(line[h.out.Col-1:]), what) {
		end := h.out.Col + len([]rune(what))
		h.out.EndCol = &end
	}
}

var (
	undefinedFunction = regexp.MustCompile(`^undefined function (\S+)`)
	unsafeVar         = regexp.MustCompile(`^var (\S+) is unsafe`)
	deprecated        = regexp.MustCompile(`^deprecated built-in function calls in expression: (\S+)`)
	unused            = regexp.MustCompile(`^(declared|assigned) var (\S+) unused`)
	unusedArgument    = regexp.MustCompile(`^unused argument (\S+?)\.? \(hint: .*\)$`)
	ownHint           = regexp.MustCompile(` \(hint: (.*)\)$`)
)

func (h *hint) byMessage() string {
	msg := h.out.Message
	if m := undefinedFunction.FindStringSubmatch(msg); m != nil {
		return h.unknownFunction(m[1])
	}
	if m := unsafeVar.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("nothing gives %s a value: bind it first, for example `some %s in ..` or `%s := ..`; if it is meant to be a rule or an import, check its name", m[1], m[1], m[1])
	}
	if m := deprecated.FindStringSubmatch(msg); m != nil {
		return deprecatedBuiltins[strings.Trim(m[1], ",")]
	}
	if m := unused.FindStringSubmatch(msg); m != nil {
		return fmt.Sprintf("use %s, or write _ in its place, or remove it", m[2])
	}
	if m := unusedArgument.FindStringSubmatch(msg); m != nil {
		h.out.Message = "unused argument " + m[1]
		return "write _ in its place"
	}
	if m := ownHint.FindStringSubmatch(msg); m != nil {
		h.out.Message = strings.TrimSuffix(msg, m[0])
		return m[1]
	}
	if d, ok := h.err.Details.(*ast.ArgErrDetail); ok {
		if text := wrongArgument(d); text != "" {
			return text
		}
	}
	switch {
	case strings.HasPrefix(msg, "cannot assign to"):
		return "`:=` gives a new variable its value; compare with `==`"
	case strings.HasSuffix(msg, " unused") && strings.HasPrefix(msg, "import "):
		return "remove the import"
	case strings.Contains(msg, "is recursive"), h.err.Code == ast.RecursionErr:
		return "a rule cannot depend on itself; `walk` and `graph.reachable` cover trees and graphs"
	case strings.Contains(msg, "conflicting rule for data path"):
		return "a data file has a value at this path; rename the rule or move the data"
	case strings.HasPrefix(msg, "with keyword target must reference existing"):
		return "`with` replaces input, data, a rule's function or an available builtin; this is none of them"
	case strings.Contains(msg, "multiple default rules"):
		return "keep one default"
	case strings.Contains(msg, "conflicting rules"):
		return "one name is one kind of rule: a value (:=), a set (contains) or a function; rename one of them"
	}
	if h.err.Details != nil {
		return strings.Join(strings.Fields(strings.Join(h.err.Details.Lines(), " ")), " ")
	}
	return ""
}

// wrongArgument names the first argument whose type is another one than the
// function takes; "" when the types do not say which.
func wrongArgument(d *ast.ArgErrDetail) string {
	for i, want := range d.Want.Args {
		if i >= len(d.Have) {
			return ""
		}
		name, kind := "", want
		if named, ok := want.(*types.NamedType); ok {
			name, kind = " ("+named.Name+")", named.Type
		}
		have, wanted := types.Sprint(d.Have[i]), types.Sprint(kind)
		if simple[have] && simple[wanted] && have != wanted {
			return fmt.Sprintf("argument %d%s is a %s, it has to be a %s", i+1, name, have, wanted)
		}
	}
	return ""
}

// simple types are told apart by their names alone.
var simple = map[string]bool{"string": true, "number": true, "boolean": true, "null": true}

func (h *hint) unknownFunction(name string) string {
	if isBuiltin(name) {
		return "" // the host knows why it lacks it: src/policy/builtins/omitted.ts
	}
	caps := allowed(h.req.Builtins)
	names := make([]string, 0, len(caps.Builtins))
	for _, b := range caps.Builtins {
		if !strings.HasPrefix(b.Name, "internal.") {
			names = append(names, b.Name)
		}
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return "no builtin and no rule of this package has this name; write the package's path or import it when it is elsewhere"
}

func isBuiltin(name string) bool {
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if b.Name == name {
			return true
		}
	}
	return false
}

var deprecatedBuiltins = map[string]string{
	"any":              "write `some x in xs; x`, or `true in xs`",
	"all":              "write `every x in xs { x }`",
	"re_match":         "use regex.match",
	"set_diff":         "use the operator -",
	"net.cidr_overlap": "use net.cidr_contains",
	"cast_array":       "use is_array, or an array comprehension",
	"cast_set":         "use is_set, or a set comprehension",
	"cast_string":      "use is_string",
	"cast_boolean":     "use is_boolean",
	"cast_null":        "use is_null",
	"cast_object":      "use is_object",
}

// parse keeps the first line of a parse error and takes what the parser adds
// as the hint.
func (h *hint) parse() string {
	first, rest, _ := strings.Cut(h.out.Message, "\n")
	h.out.Message = strings.TrimSpace(first)
	switch {
	case strings.Contains(first, "`if` keyword is required"):
		return "write: name if { ... }"
	case strings.Contains(first, "`contains` keyword is required"):
		return "write: name contains value if { ... }"
	case strings.Contains(first, "unexpected eof"):
		return "something is not closed: a bracket, a brace or a string"
	case strings.Contains(first, "illegal token") && h.stands("'"):
		return "a string stands in double quotes, or in backticks"
	case strings.Contains(first, "unexpected and token") && h.stands("&"):
		return "write conditions on lines of their own, or with ; between them: all of them have to hold"
	case strings.Contains(first, "unexpected or token") && h.stands("|"):
		return "write a rule of the same name for each alternative: one of them has to hold"
	case h.operatorWord():
		return "`and` and `or` need `import future.keywords.and` or `import future.keywords.or`"
	case strings.Contains(first, "var cannot be used for rule name"), strings.Contains(first, "unexpected identifier token"):
		return "a rule is `name := value if { .. }`, `name contains value if { .. }` or `name if { .. }`"
	case strings.Contains(first, "empty module"):
		return "a file starts with `package ..`"
	case strings.Contains(first, "package expected"), strings.Contains(first, "expected package"):
		return "the first statement of a file is `package ..`"
	}
	if m := ownHint.FindStringSubmatch(h.out.Message); m != nil {
		h.out.Message = strings.TrimSuffix(h.out.Message, m[0])
		return m[1]
	}
	return strings.Join(strings.Fields(rest), " ")
}

// stands tells whether the error points at this text.
func (h *hint) stands(text string) bool {
	if h.out.Line == nil {
		return false
	}
	line := []rune(*h.out.Line)
	return h.out.Col >= 1 && h.out.Col <= len(line) && strings.HasPrefix(string(line[h.out.Col-1:]), text)
}

// nearest returns the candidate that differs least from word, "" when none is
// near.
func nearest(word string, candidates []string) string {
	best, distance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(word), strings.ToLower(c), distance); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// editDistance counts insertions, deletions, replacements and swaps of
// neighbours; limit or more is reported as limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[0] {
		rows[0][j] = j
	}
	prev2, prev, cur := rows[2], rows[0], rows[1]
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return min(prev[len(b)], limit)
}

// operatorWord tells whether the error points at `and` or `or` used without
// the import that makes them operators.
func (h *hint) operatorWord() bool {
	text := strings.TrimSpace(string(h.err.Location.Text))
	return text == "and" || text == "or"
}
