package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"mcp-policy-gateway/compiler/instrument"
)

// maxTraceEvents bounds a trace; what comes later is counted only.
const maxTraceEvents = 200_000

// Event is one step of topdown's own trace.
type Event struct {
	Op   string `json:"op"`
	Node string `json:"node"` // rule | expr | body
	Rule string `json:"rule,omitempty"`
	File string `json:"file"`
	Row  int    `json:"row"`
	Col  int    `json:"col"`
	Text string `json:"text"`
}

// tracer keeps topdown's events in the short form.
type tracer struct {
	events  []Event
	dropped int
}

func (*tracer) Enabled() bool               { return true }
func (*tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }
func (t *tracer) TraceEvent(e topdown.Event) {
	if len(t.events) >= maxTraceEvents {
		t.dropped++
		return
	}
	out := Event{Op: string(e.Op)}
	switch node := e.Node.(type) {
	case *ast.Rule:
		out.Node, out.Rule = "rule", node.Ref().String()
	case *ast.Expr:
		out.Node = "expr"
	case ast.Body:
		out.Node = "body"
	default:
		return
	}
	if e.Location != nil {
		out.File, out.Row, out.Col, out.Text = e.Location.File, e.Location.Row, e.Location.Col, string(e.Location.Text)
	}
	t.events = append(t.events, out)
}

// eval evaluates a query with topdown, OPA's own interpreter: the second
// opinion for tests and for `--engine both`. Indexing and early exit are off,
// so that it looks at the same rules as Wasm does.
//
// "result" holds the bindings of each solution as JSON, "texts" the same as
// Rego text (sets stay sets, numbers keep their digits), "locations" what became
// of each definition and expression (absent after an error).
func eval(req *Request) (answer, error) {
	o, err := options(req)
	if err != nil {
		return nil, err
	}
	modules, err := parse(req.Sources, o.Capabilities)
	if err != nil {
		return nil, err
	}
	var places map[*ast.Expr]instrument.Place
	c := ast.NewCompiler().WithCapabilities(o.Capabilities).WithStrict(o.Strict).WithSchemas(o.Schemas).
		WithStageAfterID(ast.StageRewriteLocalVars, ast.CompilerStageDefinition{
			Name:       "GatewayPlaces",
			MetricName: "gateway_places",
			Stage: func(c *ast.Compiler) *ast.Error {
				places = instrument.Traced(c.Modules)
				return nil
			},
		})
	if c.Compile(modules); c.Failed() {
		return nil, c.Errors
	}
	data := map[string]any{}
	if len(req.Data) > 0 {
		if err := util.UnmarshalJSON(req.Data, &data); err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
	}
	query, err := ast.ParseBodyWithOpts(req.Query, parserOptions(o.Capabilities))
	if err != nil {
		return nil, err
	}
	args := []func(*rego.Rego){
		rego.ParsedQuery(query),
		rego.Compiler(c),
		rego.Capabilities(o.Capabilities),
		rego.Store(inmem.NewFromObject(data)),
		rego.StrictBuiltinErrors(req.StrictErrors),
	}
	if input, err := inputOf(req); err != nil {
		return nil, err
	} else if input != nil {
		args = append(args, rego.ParsedInput(input))
	}
	var tr tracer
	ctx := context.Background()
	prepared, err := rego.New(args...).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	evalArgs := []rego.EvalOption{rego.EvalRuleIndexing(false), rego.EvalEarlyExit(false)}
	if req.NowNs != nil {
		evalArgs = append(evalArgs, rego.EvalTime(time.Unix(0, *req.NowNs).UTC()))
	}
	if req.Trace {
		evalArgs = append(evalArgs, rego.EvalQueryTracer(&tr))
	}
	found := newLocations(places)
	if req.Locations {
		evalArgs = append(evalArgs, rego.EvalQueryTracer(found))
	}
	evalArgs = append(evalArgs, rego.EvalGenerateJSON(toJSON))
	out := answer{"defined": false, "result": []any{}, "texts": []any{}, "error": nil}
	rs, err := prepared.Eval(ctx, evalArgs...)
	if err != nil {
		var te *topdown.Error
		code := "eval_error"
		if errors.As(err, &te) {
			code = te.Code
		}
		out["error"] = answer{"code": code, "message": err.Error()}
	} else {
		bindings, texts := make([]map[string]any, len(rs)), make([]map[string]string, len(rs))
		for i, r := range rs {
			bindings[i], texts[i] = map[string]any{}, map[string]string{}
			for name, b := range r.Bindings {
				v := b.(value)
				bindings[i][name], texts[i][name] = v.json, v.text
			}
		}
		out["defined"], out["result"], out["texts"] = len(rs) > 0, bindings, texts
		if req.Locations {
			out["locations"] = found.list()
		}
	}
	if req.Trace {
		out["trace"], out["dropped"] = tr.events, tr.dropped
	}
	return out, nil
}

// value is a value in both notations.
type value struct {
	json any
	text string
}

func toJSON(t *ast.Term, _ *rego.EvalContext) (any, error) {
	text := regoText(t.Value)
	j, err := ast.JSON(t.Value)
	if _, unwritable := json.Marshal(j); err == nil && unwritable != nil {
		j = text
	}
	return value{json: j, text: text}, err
}

func inputOf(req *Request) (ast.Value, error) {
	switch {
	case req.InputTerm != "":
		t, err := ast.ParseTerm(req.InputTerm)
		if err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		return t.Value, nil
	case len(req.Input) > 0 && json.Valid(req.Input):
		var input any
		if err := util.UnmarshalJSON(req.Input, &input); err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		return ast.InterfaceToValue(input)
	}
	return nil, nil
}
