// Package protocol answers the compiler's requests. A request is one line of
// JSON with an id, an op and the op's fields; its answer is one line with the
// same id and "ok". What is wrong with a policy comes back as "errors", in the
// shape src/policy/compiler.ts calls PolicyError.
package protocol

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/version"
)

// MaxRequest bounds one line of input, in bytes.
const MaxRequest = 64 << 20

// gcPercent lets the heap grow to five times what is alive before garbage is
// collected: a build is over before that, and there is one thread for both.
const gcPercent = 400

// quiet is how long nothing has to be asked before garbage is collected.
const quiet = 200 * time.Millisecond

// ProtocolVersion changes when requests or answers change their meaning.
const ProtocolVersion = 1

// Request is what all ops take; every op reads the fields it needs.
type Request struct {
	ID int64  `json:"id"`
	Op string `json:"op"`

	// Sources are Rego files by name.
	Sources map[string]string `json:"sources"`
	// Data holds the base documents.
	Data json.RawMessage `json:"data"`
	// InputSchema is the JSON Schema of input.
	InputSchema json.RawMessage `json:"inputSchema"`
	// Builtins names the builtins the host evaluates. Those native to OPA's
	// Wasm are called in the module unless they are named here, too. Absent =
	// every builtin of OPA.
	Builtins *[]string `json:"builtins"`
	// Lenient turns strict mode off, and the check that no rule lies where the
	// data have a value.
	Lenient bool `json:"lenient"`
	// Contract protects the product's own package and its rules.
	Contract *Contract `json:"contract"`

	Entrypoints []string `json:"entrypoints"` // build, check, deps
	Instrument  bool     `json:"instrument"`  // build
	Reads       *Reads   `json:"reads"`       // build
	List        *List    `json:"list"`        // build

	File   string `json:"file"`   // format
	Source string `json:"source"` // format

	Query        string          `json:"query"`        // eval
	Input        json.RawMessage `json:"input"`        // eval
	InputTerm    string          `json:"inputTerm"`    // eval: input as Rego text, wins over Input
	NowNs        *int64          `json:"nowNs,string"` // eval
	StrictErrors bool            `json:"strictErrors"` // eval
	Trace        bool            `json:"trace"`        // eval
	Locations    bool            `json:"locations"`    // eval
}

type answer map[string]any

var ops = map[string]func(*Request) (answer, error){
	"version":      versions,
	"capabilities": capabilities,
	"check":        check,
	"build":        build,
	"format":       formatSource,
	"deps":         deps,
	"eval":         eval,
}

// Serve answers requests until in ends. It fails only when in or out do, or
// when a line is not a request.
func Serve(in io.Reader, out io.Writer) error {
	r := bufio.NewReaderSize(in, 1<<16)
	w := bufio.NewWriterSize(out, 1<<20)
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	// While nobody waits for an answer.
	collect := time.AfterFunc(quiet, runtime.GC)
	defer collect.Stop()
	for {
		collect.Reset(quiet)
		line, err := readLine(r)
		collect.Stop()
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		text, err := Answer(line)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(text, '\n')); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxRequest {
			return nil, fmt.Errorf("request larger than %d bytes", MaxRequest)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// Answer answers one request.
func Answer(line []byte) ([]byte, error) {
	var req Request
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return nil, fmt.Errorf("not a request: %w", err)
	}
	out := handle(&req)
	out["id"] = req.ID
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// handle never panics: a fault in the compiler is an answer like any other.
func handle(req *Request) (out answer) {
	defer func() {
		if p := recover(); p != nil {
			out = failed([]PolicyError{{
				Code:    "internal_error",
				Message: fmt.Sprintf("the compiler failed: %v", p),
				Detail:  string(debug.Stack()),
			}})
		}
	}()
	op, known := ops[req.Op]
	if !known {
		return failed([]PolicyError{{Code: "unknown_op", Message: "unknown op " + req.Op}})
	}
	out, err := op(req)
	if err != nil {
		return failed(explain(err, req))
	}
	out["ok"] = true
	return out
}

func failed(errs []PolicyError) answer { return answer{"ok": false, "errors": errs} }

func versions(*Request) (answer, error) {
	return answer{"opa": version.Version, "go": runtime.Version(), "protocol": ProtocolVersion}, nil
}
