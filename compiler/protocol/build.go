package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/version"

	"mcp-policy-gateway/compiler/instrument"
)

func parserOptions(caps *ast.Capabilities) ast.ParserOptions {
	return ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: caps}
}

// parse parses all sources and collects the errors of all of them.
func parse(sources map[string]string, caps *ast.Capabilities) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	var errs ast.Errors
	for _, name := range fileNames(sources) {
		m, err := ast.ParseModuleWithOpts(name, sources[name], parserOptions(caps))
		var list ast.Errors
		switch {
		case errors.As(err, &list):
			for _, e := range list {
				if e.Location == nil || e.Location.File == "" {
					e.Location = &ast.Location{File: name, Row: 1, Col: 1}
				}
				errs = append(errs, e)
			}
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		case m == nil:
			errs = append(errs, ast.NewError(ast.ParseErr, &ast.Location{File: name, Row: 1, Col: 1}, "empty module"))
		default:
			modules[name] = m
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return modules, nil
}

func fileNames(sources map[string]string) []string {
	names := make([]string, 0, len(sources))
	for n := range sources {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func options(req *Request) (instrument.Options, error) {
	o := instrument.Options{Capabilities: allowed(req.Builtins), Strict: !req.Lenient}
	if len(req.InputSchema) > 0 {
		var schema any
		if err := decode(req.InputSchema, &schema); err != nil {
			return o, fmt.Errorf("input schema: %w", err)
		}
		o.Schemas = ast.NewSchemaSet()
		o.Schemas.Put(ast.SchemaRootRef, schema)
	}
	if len(req.Data) > 0 {
		var data any
		if err := decode(req.Data, &data); err != nil {
			return o, fmt.Errorf("data: %w", err)
		}
		o.Data = data
		if req.Lenient {
			return o, nil
		}
		o.DataExists = func(path []string) (bool, error) { return exists(data, path), nil }
	}
	return o, nil
}

func decode(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode(into)
}

func exists(data any, path []string) bool {
	for _, step := range path {
		object, ok := data.(map[string]any)
		if !ok {
			return false
		}
		if data, ok = object[step]; !ok {
			return false
		}
	}
	return true
}

// checked parses and checks the sources with OPA's compiler.
func checked(req *Request) (*ast.Compiler, error) {
	o, err := options(req)
	if err != nil {
		return nil, err
	}
	modules, err := parse(req.Sources, o.Capabilities)
	if err != nil {
		return nil, err
	}
	if err := req.Contract.check(modules); err != nil {
		return nil, err
	}
	return instrument.Check(modules, o)
}

// check says whether the sources can be built, and which definitions none of
// the entrypoints leads to.
//
//	{"op": "check", "sources": {..}, "entrypoints": ["gateway/decision"], ..}
//	{"opa": "1.22.0", "unreachable": [RulePosition, ..]}
func check(req *Request) (answer, error) {
	c, err := checked(req)
	if err != nil {
		return nil, err
	}
	out := answer{"opa": version.Version, "unreachable": []RulePosition{}}
	if len(req.Entrypoints) > 0 {
		if out["unreachable"], err = unreachable(c, req.Entrypoints); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func build(req *Request) (answer, error) {
	o, err := options(req)
	if err != nil {
		return nil, err
	}
	modules, err := parse(req.Sources, o.Capabilities)
	if err != nil {
		return nil, err
	}
	if err := req.Contract.check(modules); err != nil {
		return nil, err
	}
	out := answer{"opa": version.Version, "dictionary": nil}
	caps := o.Capabilities
	var c *ast.Compiler
	var list *ast.Module
	if req.Instrument {
		res, err := instrument.Instrument(modules, o)
		if err != nil {
			return nil, err
		}
		modules, caps, c = res.Modules, res.Capabilities, res.Checked
		out["dictionary"] = res.Dictionary
		out["stats"] = answer{"reordered": res.Reordered, "unmatched": res.Unmatched}
		if list, err = req.List.module(res); err != nil {
			return nil, err
		}
	} else {
		res, err := instrument.Plain(modules, o)
		if err != nil {
			return nil, err
		}
		modules, caps, c = res.Modules, res.Capabilities, res.Checked
	}
	if req.Reads != nil {
		if err := req.Reads.add(modules, c); err != nil {
			return nil, err
		}
		req.Entrypoints = append(req.Entrypoints, req.Reads.As)
	}
	wasm, err := compiled(req, modules, caps, list)
	if err != nil {
		return nil, err
	}
	out["entrypoints"] = req.Entrypoints
	out["wasm"] = wasm // base64
	return out, nil
}

// compiled compiles the modules, which it changes, with the list's if that can
// be. What OPA does not take of that one is no error of the policy's.
func compiled(req *Request, modules map[string]*ast.Module, caps *ast.Capabilities, list *ast.Module) ([]byte, error) {
	if list != nil {
		with, entrypoints := copied(modules), append(slices.Clone(req.Entrypoints), req.List.As)
		with[req.List.As] = list
		if wasm, err := reroutedWasm(req, with, caps, entrypoints); err == nil {
			req.Entrypoints = entrypoints
			return wasm, nil
		}
	}
	return reroutedWasm(req, modules, caps, req.Entrypoints)
}

func reroutedWasm(req *Request, modules map[string]*ast.Module, caps *ast.Capabilities, entrypoints []string) ([]byte, error) {
	caps, err := instrument.Reroute(modules, caps, rerouted(req.Builtins))
	if err != nil {
		return nil, err
	}
	return toWasm(modules, caps, entrypoints)
}

func copied(modules map[string]*ast.Module) map[string]*ast.Module {
	out := make(map[string]*ast.Module, len(modules))
	for name, m := range modules {
		out[name] = m.Copy()
	}
	return out
}

// toWasm compiles the modules, which it changes.
func toWasm(modules map[string]*ast.Module, caps *ast.Capabilities, entrypoints []string) ([]byte, error) {
	b := &bundle.Bundle{Data: map[string]any{}}
	names := make([]string, 0, len(modules))
	for n := range modules {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		// A bundle's sources are formatted at the end, and nobody reads these.
		b.Modules = append(b.Modules, bundle.ModuleFile{URL: n, Path: n, Parsed: modules[n], Raw: []byte("package unread")})
	}
	c := compile.New().
		WithTarget(compile.TargetWasm).
		WithRegoVersion(ast.RegoV1).
		WithCapabilities(caps).
		WithEntrypoints(entrypoints...).
		WithPruneUnused(true). // no entrypoints but those asked for
		WithBundle(b)
	if err := c.Build(context.Background()); err != nil {
		return nil, err
	}
	return c.Bundle().WasmModules[0].Raw, nil
}

// formatSource writes one source as `opa fmt` does.
//
//	{"op": "format", "file": "a.rego", "source": "package a\np if {input.x}"}
//	{"formatted": "package a\n\np if input.x\n"}
func formatSource(req *Request) (answer, error) {
	caps := allowed(nil)
	po := parserOptions(caps)
	text, err := format.SourceWithOpts(req.File, []byte(req.Source), format.Opts{
		RegoVersion:   ast.RegoV1,
		ParserOptions: &po,
		Capabilities:  caps,
	})
	if err != nil {
		req.Sources = map[string]string{req.File: req.Source}
		return nil, err
	}
	return answer{"formatted": string(text)}, nil
}
