package protocol

import (
	"errors"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"mcp-policy-gateway/compiler/instrument"
	"mcp-policy-gateway/compiler/lists"
)

// List asks for one more entrypoint, which answers for all targets of a list
// at once (see package lists). There is none when the rules do not allow it;
// the answer's entrypoints tell.
type List struct {
	// Sets are the paths of the sets of reasons, such as gateway/denied_by.
	Sets []string `json:"sets"`
	// Shared is the member of the target that all targets of a list share.
	Shared string `json:"shared"`
	// As is the path of the rule that is made, in the same package.
	As string `json:"as"`
}

// module returns nil when there is none, or none is asked for.
func (l *List) module(res *instrument.Result) (*ast.Module, error) {
	if l == nil {
		return nil, nil
	}
	if l.Shared == "" {
		return nil, errors.New("a list needs the member that its targets share")
	}
	q := lists.Question{Shared: l.Shared, As: l.As[strings.LastIndexByte(l.As, '/')+1:]}
	for _, path := range l.Sets {
		ref, err := ast.PtrRef(ast.DefaultRootDocument, path)
		if err != nil {
			return nil, err
		}
		q.Sets = append(q.Sets, ref)
	}
	m, err := lists.Module(res.Plain, res.Checked, q)
	if errors.Is(err, lists.ErrUnsupported) {
		return nil, nil
	}
	return m, err
}
