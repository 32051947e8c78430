package graphql

import (
	"context"
	stderrors "errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/graph-gophers/graphql-go/errors"

	backendai "backend.ai/manager"
)

// answer is data (nil = nothing was executed) and what went wrong.
type answer struct {
	data   []byte
	errors []problem
}

// problem is an error as clients see it.
type problem struct {
	Message   string     `json:"message"`
	Locations []location `json:"locations,omitempty"`
	Path      []any      `json:"path,omitempty"`
}

type location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// modern is the body of /admin/gql.
func (a answer) modern() []byte {
	b := make([]byte, 0, len(a.data)+len(a.data)/6+64)
	b = append(b, '{')
	if len(a.errors) > 0 {
		text, err := backendai.EncodeJSON(a.errors)
		if err != nil {
			text = []byte("[]") // texts and numbers always have a form
		}
		b = append(append(b, `"errors": `...), text...)
		if a.data != nil {
			b = append(b, ", "...)
		}
	}
	if a.data != nil {
		b = respell(append(b, `"data": `...), a.data)
	}
	return append(b, '}')
}

// describe turns the library's errors into the original's.
func describe(all []*errors.QueryError, doc *document, operation *selection) []problem {
	list := make([]problem, 0, len(all))
	for _, e := range all {
		p := problem{Message: e.Message, Path: e.Path}
		for _, l := range e.Locations {
			p.Locations = append(p.Locations, location{l.Line, l.Column})
		}
		switch {
		case e.ResolverError != nil:
			p.Message = textOf(e.ResolverError)
		case e.Rule == "ProvidedRequiredArgumentsRule":
			p.Message = strings.Replace(p.Message, " is required, but it was not provided.", " is required but not provided.", 1)
		case stderrors.Is(e, errors.ErrSyntax) && len(p.Locations) > 0:
			p.Message = fmt.Sprintf("Syntax Error GraphQL (%d:%d) %s", p.Locations[0].Line, p.Locations[0].Column, strings.TrimPrefix(p.Message, "syntax error: "))
		}
		if p.Locations == nil && p.Path != nil {
			if l, ok := doc.locate(operation, p.Path); ok {
				p.Locations = []location{l}
			}
		}
		list = append(list, p)
	}
	return list
}

// textOf is what clients get to read of an error of a resolver.
func textOf(err error) string {
	var e *backendai.Error
	switch {
	case !stderrors.As(err, &e):
		if stderrors.Is(err, context.DeadlineExceeded) || stderrors.Is(err, context.Canceled) {
			return "The query took too long."
		}
		return err.Error()
	case e.Code == backendai.InvalidArgument && e.Message != nil:
		return *e.Message
	case e.HTTPStatus() >= 500:
		slog.Error("a GraphQL resolver failed", "error", err)
	}
	return e.Text()
}

// respell writes compact JSON as the original does: with a blank after commas and colons, in ASCII, with <, > and & as they are.
func respell(b, compact []byte) []byte {
	inText := false
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(compact[i:])
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
			} else {
				b = fmt.Appendf(b, `\u%04x`, r)
			}
			i += n - 1
		case inText && c == '\\' && i+1 < len(compact):
			if compact[i+1] == 'u' && i+5 < len(compact) {
				switch string(compact[i+2 : i+6]) {
				case "003c":
					b, i = append(b, '<'), i+5
					continue
				case "003e":
					b, i = append(b, '>'), i+5
					continue
				case "0026":
					b, i = append(b, '&'), i+5
					continue
				}
			}
			b = append(b, c, compact[i+1])
			i++
		case c == '"':
			inText = !inText
			b = append(b, c)
		case !inText && (c == ',' || c == ':'):
			b = append(b, c, ' ')
		default:
			b = append(b, c)
		}
	}
	return b
}
