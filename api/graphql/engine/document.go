package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/parser"
)

// Document is a query's text, parsed and found right. It may be used by many goroutines.
type Document struct {
	text    string
	ast     *ast.QueryDocument
	decided bool // directives with variables may change what is selected
	mu      sync.Mutex
	plans   map[*ast.OperationDefinition]*plan
}

// Document parses and validates a text, or has done so before.
func (s *Schema) Document(text string) (*Document, []Problem) {
	if d := s.cache.get(text); d != nil {
		return d, nil
	}
	if tooDeep(text, s.limits.Nesting) {
		return nil, []Problem{{Message: fmt.Sprintf("Syntax Error GraphQL: the query is nested deeper than %d levels", s.limits.Nesting)}}
	}
	parsed, err := parser.ParseQuery(&ast.Source{Input: text})
	if err != nil {
		return nil, []Problem{syntaxError(text, err)}
	}
	if problems := s.measure(parsed); problems != nil {
		return nil, problems
	}
	if problems := s.validate(text, parsed); problems != nil {
		return nil, problems
	}
	d := &Document{text: text, ast: parsed, plans: map[*ast.OperationDefinition]*plan{}, decided: strings.Contains(text, "@")}
	s.cache.put(d)
	return d, nil
}

// operation finds the one to execute: the one of that name, or the only one.
func (d *Document) operation(name string) (*ast.OperationDefinition, error) {
	list := d.ast.Operations
	switch {
	case len(list) == 0:
		return nil, errors.New("no operations in query document")
	case name == "" && len(list) > 1:
		return nil, errors.New("more than one operation in query document and no operation name given")
	case name == "":
		return list[0], nil
	}
	if op := list.ForName(name); op != nil {
		return op, nil
	}
	return nil, fmt.Errorf("no operation with name %q", name)
}

// Fields are the names selected at the top of an operation, for logs.
func (d *Document) Fields(operation string) []string {
	op, err := d.operation(operation)
	if err != nil {
		return nil
	}
	var names []string
	for _, s := range op.SelectionSet {
		if f, ok := s.(*ast.Field); ok {
			names = append(names, f.Name)
		}
	}
	return names
}

// tooDeep tells whether brackets are nested deeper than some levels, outside of strings and comments.
func tooDeep(text string, most int) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '(', '[', '{':
			if depth++; depth > most {
				return true
			}
		case ')', ']', '}':
			depth--
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case '"':
			i = closing(text, i)
		}
	}
	return false
}

// closing is where a string that opens at i ends.
func closing(text string, i int) int {
	if strings.HasPrefix(text[i:], `"""`) {
		for i += 3; i < len(text); i++ {
			if strings.HasPrefix(text[i:], `\"""`) {
				i += 3
			} else if strings.HasPrefix(text[i:], `"""`) {
				return i + 2
			}
		}
		return i
	}
	for i++; i < len(text) && text[i] != '"' && text[i] != '\n'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}

// spoken turns gqlparser's words into the original's.
var spoken = strings.NewReplacer("<EOF>", "EOF", "expected at least one definition", "Expected Name")

// syntaxError shows the place in the text, as the original does.
func syntaxError(text string, err error) Problem {
	var e *gqlerror.Error
	if !errors.As(err, &e) || len(e.Locations) == 0 {
		return Problem{Message: "Syntax Error GraphQL: " + err.Error()}
	}
	if strings.Contains(e.Message, "<Invalid>") { // the lexer knows more
		for words := lexer.New(&ast.Source{Input: text}); ; {
			token, err := words.ReadToken()
			if errors.As(err, &e) || token.Kind == lexer.EOF || token.Kind == lexer.Invalid {
				break
			}
		}
	}
	l := Location{e.Locations[0].Line, e.Locations[0].Column}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	width := len(fmt.Sprint(l.Line + 1))
	var b strings.Builder
	show := func(n int) {
		if n >= 1 && n <= len(lines) {
			fmt.Fprintf(&b, "%*d: %s\n", width, n, lines[n-1])
		}
	}
	fmt.Fprintf(&b, "Syntax Error GraphQL (%d:%d) %s\n\n", l.Line, l.Column, spoken.Replace(e.Message))
	show(l.Line - 1)
	show(l.Line)
	fmt.Fprintf(&b, "%*s^\n", width+1+l.Column, "")
	show(l.Line + 1)
	return Problem{Message: b.String(), Locations: []Location{l}}
}
