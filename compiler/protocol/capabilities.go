package protocol

import (
	"slices"
	"sort"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/version"
)

// nativeBuiltins are the builtins that OPA v1.22.0 compiles into the module
// itself; every other one is a call to the host. A test compares the list with
// the modules OPA makes.
var nativeBuiltins = []string{
	"abs",
	"all",
	"and",
	"any",
	"array.concat",
	"array.flatten",
	"array.reverse",
	"array.slice",
	"base64.decode",
	"base64.encode",
	"base64.is_valid",
	"base64url.decode",
	"base64url.encode",
	"bits.and",
	"bits.lsh",
	"bits.negate",
	"bits.or",
	"bits.rsh",
	"bits.xor",
	"ceil",
	"concat",
	"contains",
	"count",
	"div",
	"endswith",
	"equal",
	"floor",
	"format_int",
	"glob.match",
	"graph.reachable",
	"gt",
	"gte",
	"indexof",
	"internal.member_2",
	"internal.member_3",
	"internal.template_string",
	"intersection",
	"is_array",
	"is_boolean",
	"is_null",
	"is_number",
	"is_object",
	"is_set",
	"is_string",
	"json.filter",
	"json.is_valid",
	"json.marshal",
	"json.remove",
	"json.unmarshal",
	"lower",
	"lt",
	"lte",
	"max",
	"min",
	"minus",
	"mul",
	"neq",
	"net.cidr_contains",
	"net.cidr_intersects",
	"net.cidr_overlap",
	"numbers.range",
	"object.filter",
	"object.get",
	"object.keys",
	"object.remove",
	"object.union",
	"object.union_n",
	"or",
	"plus",
	"product",
	"re_match",
	"regex.find_all_string_submatch_n",
	"regex.is_valid",
	"regex.match",
	"rem",
	"replace",
	"round",
	"set_diff",
	"sort",
	"split",
	"startswith",
	"strings.replace_n",
	"strings.reverse",
	"substring",
	"sum",
	"to_number",
	"trim",
	"trim_left",
	"trim_prefix",
	"trim_right",
	"trim_space",
	"trim_suffix",
	"type_name",
	"union",
	"upper",
	"walk",
}

// compiledAway are gone before a module is made: the compiler or the planner
// replaces them.
var compiledAway = []string{
	ast.Equality.Name,
	ast.Assign.Name,
	ast.Print.Name,
	ast.InternalPrint.Name,
	ast.RegoMetadataChain.Name,
	ast.RegoMetadataRule.Name,
}

// allowed returns OPA's capabilities reduced to what a policy may use here.
// host nil = every builtin of OPA. Schemas are never fetched.
func allowed(host *[]string) *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.AllowNet = []string{}
	if host == nil {
		return caps
	}
	keep := map[string]bool{}
	for _, names := range [][]string{nativeBuiltins, compiledAway, *host} {
		for _, n := range names {
			keep[n] = true
		}
	}
	caps.Builtins = slices.DeleteFunc(slices.Clone(caps.Builtins), func(b *ast.Builtin) bool { return !keep[b.Name] })
	return caps
}

// rerouted lists the builtins that the host evaluates although OPA's Wasm has
// them.
func rerouted(host *[]string) []string {
	var out []string
	if host != nil {
		for _, name := range *host {
			if slices.Contains(nativeBuiltins, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func capabilities(req *Request) (answer, error) {
	caps := allowed(req.Builtins)
	names := make([]string, 0, len(caps.Builtins))
	for _, b := range caps.Builtins {
		names = append(names, b.Name)
	}
	sort.Strings(names)
	return answer{
		"opa":      version.Version,
		"builtins": names,
		"native":   nativeBuiltins,
		"compiled": compiledAway,
		"keywords": caps.FutureKeywords,
		"features": caps.Features,
	}, nil
}
