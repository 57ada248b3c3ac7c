package protocol

import (
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// PolicyError is one thing wrong with a policy and the way out of it.
type PolicyError struct {
	File    string  `json:"file"`
	Row     int     `json:"row"`
	Col     int     `json:"col"`
	EndCol  *int    `json:"endCol,omitempty"` // first column behind it, on the same row
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Hint    *string `json:"hint"`
	Line    *string `json:"line"`
	Detail  string  `json:"detail,omitempty"` // of a fault in the compiler itself
}

// explain turns an error of OPA's into PolicyErrors, in the order of the
// sources. One that only repeats the one before it at greater length is left
// out.
func explain(err error, req *Request) []PolicyError {
	var list ast.Errors
	var one *ast.Error
	var out []PolicyError
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			out = append(out, fromAST(e, req))
		}
	case errors.As(err, &one):
		out = append(out, fromAST(one, req))
	default:
		out = append(out, fromText(err.Error(), req))
	}
	slices.SortStableFunc(out, func(a, b PolicyError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col))
	})
	out = slices.CompactFunc(out, func(b, a PolicyError) bool {
		return a.File == b.File && a.Row == b.Row && a.Col == b.Col && strings.HasPrefix(b.Message, a.Message)
	})
	told := map[string]bool{}
	return slices.DeleteFunc(out, func(e PolicyError) bool {
		circle := circleOf(e)
		again := circle != "" && told[circle]
		told[circle] = true
		return again
	})
}

// circleOf names the rules of a recursion, wherever it begins; "" for other
// errors. OPA tells each of them.
func circleOf(e PolicyError) string {
	_, path, found := strings.Cut(e.Message, " is recursive: ")
	if e.Code != ast.RecursionErr || !found {
		return ""
	}
	rules := strings.Split(path, " -> ")
	slices.Sort(rules)
	return strings.Join(slices.Compact(rules), " ")
}

func fromAST(e *ast.Error, req *Request) PolicyError {
	out := PolicyError{Code: e.Code, Message: strings.TrimSpace(e.Message)}
	if loc := e.Location; loc != nil {
		out.File, out.Row, out.Col = loc.File, max(loc.Row, 1), max(loc.Col, 1)
		if text, _, _ := strings.Cut(string(loc.Text), "\n"); text != "" {
			end := loc.Col + len([]rune(text))
			out.EndCol = &end
		}
	}
	out.Line = sourceLine(req, out.File, out.Row)
	h := hint{err: e, req: req, out: &out}
	h.fill()
	return out
}

// The planner's errors are texts that begin with a place.
var placed = regexp.MustCompile(`^(.+?):(\d+)(?::(\d+))?: (.*)$`)

func fromText(text string, req *Request) PolicyError {
	out := PolicyError{Code: "build_error", Message: text}
	m := placed.FindStringSubmatch(text)
	if m == nil {
		return out
	}
	if _, known := req.Sources[m[1]]; !known {
		return out
	}
	out.File, out.Message = m[1], m[4]
	out.Row, _ = strconv.Atoi(m[2])
	out.Col = 1
	if m[3] != "" {
		out.Col, _ = strconv.Atoi(m[3])
	}
	out.Line = sourceLine(req, out.File, out.Row)
	return out
}

func sourceLine(req *Request, file string, row int) *string {
	source, ok := req.Sources[file]
	if !ok || row < 1 {
		return nil
	}
	lines := strings.Split(source, "\n")
	if row > len(lines) {
		return nil
	}
	line := strings.TrimSuffix(lines[row-1], "\r")
	return &line
}
