package instrument

import (
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// written is where an expression stands in its source. The parser gives the
// body of an `else` without braces the place of the whole branch
//
//	else := 2 if input.b else := 3
//
// instead of that of its only expression.
func written(e *ast.Expr) *ast.Location {
	text := string(e.Location.Text)
	if !startsWithWord(text, "else") {
		return e.Location
	}
	start := afterWord(text, 0, "if")
	if start < 0 {
		return e.Location
	}
	start = afterSpace(text, start)
	end := len(text)
	if next := afterWord(text, start, "else"); next >= 0 {
		end = next - len("else")
	}
	before := text[:start]
	at := *e.Location
	at.Text = []byte(strings.TrimRight(text[start:end], " \t\r\n"))
	at.Offset += start
	if newline := strings.LastIndexByte(before, '\n'); newline >= 0 {
		at.Row += strings.Count(before, "\n")
		at.Col = utf8.RuneCountInString(before[newline+1:]) + 1
	} else {
		at.Col += utf8.RuneCountInString(before)
	}
	return &at
}

func startsWithWord(text, word string) bool {
	return strings.HasPrefix(text, word) && (len(text) == len(word) || !isWordByte(text[len(word)]) && text[len(word)] != '.' && text[len(word)] != '[')
}

// afterWord finds a word outside brackets, strings and comments, from a place
// on, and returns the place behind it; -1 when there is none.
func afterWord(text string, from int, word string) int {
	depth := 0
	for i := from; i < len(text); {
		switch c := text[i]; {
		case c == '"' || c == '`':
			i = afterString(text, i)
			continue
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
			continue
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case isWordByte(c):
			end := i
			for end < len(text) && isWordByte(text[end]) {
				end++
			}
			if depth == 0 && text[i:end] == word && (i == 0 || text[i-1] != '.') {
				return end
			}
			i = end
			continue
		}
		i++
	}
	return -1
}

// afterSpace returns the place behind white space and comments.
func afterSpace(text string, i int) int {
	for i < len(text) && strings.IndexByte(" \t\r\n#", text[i]) >= 0 {
		if text[i] == '#' {
			newline := strings.IndexByte(text[i:], '\n')
			if newline < 0 {
				return len(text)
			}
			i += newline
		}
		i++
	}
	return i
}

// afterString returns the place behind the string literal that starts at i.
func afterString(text string, i int) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		if text[i] == '\\' && quote == '"' {
			i++
		} else if text[i] == quote {
			return i + 1
		}
	}
	return len(text)
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}
