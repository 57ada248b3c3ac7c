package protocol

import (
	"bytes"
	"encoding/json"
	"math/big"

	"github.com/open-policy-agent/opa/v1/ast"
)

// regoText writes a value in the notation of Wasm's opa_value_dump: JSON with
// sets and keys of any type. Numbers keep their digits.
func regoText(v ast.Value) string {
	var b bytes.Buffer
	writeRego(&b, v)
	return b.String()
}

func writeRego(b *bytes.Buffer, v ast.Value) {
	switch v := v.(type) {
	case ast.String:
		writeString(b, string(v))
	case ast.Number:
		writeNumber(b, string(v))
	case *ast.Array:
		b.WriteByte('[')
		for i := range v.Len() {
			separate(b, i)
			writeRego(b, v.Elem(i).Value)
		}
		b.WriteByte(']')
	case ast.Set:
		if v.Len() == 0 {
			b.WriteString("set()")
			return
		}
		b.WriteByte('{')
		for i, t := range v.Slice() {
			separate(b, i)
			writeRego(b, t.Value)
		}
		b.WriteByte('}')
	case ast.Object:
		b.WriteByte('{')
		for i, key := range v.Keys() {
			separate(b, i)
			writeRego(b, key.Value)
			b.WriteString(": ")
			writeRego(b, v.Get(key).Value)
		}
		b.WriteByte('}')
	default:
		b.WriteString(v.String())
	}
}

// writeNumber writes what JSON has no notation for in another one: to_number
// makes numbers such as +1, .5 and 1_000.
func writeNumber(b *bytes.Buffer, s string) {
	if json.Valid([]byte(s)) {
		b.WriteString(s)
		return
	}
	f, ok := new(big.Float).SetString(s)
	if !ok {
		writeString(b, "not a number: "+s)
		return
	}
	b.WriteString(f.Text('g', -1))
}

func separate(b *bytes.Buffer, i int) {
	if i > 0 {
		b.WriteString(", ")
	}
}

func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		panic(err)
	}
	b.Truncate(b.Len() - 1)
}
