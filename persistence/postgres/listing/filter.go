package listing

import (
	"fmt"
	"strconv"
	"strings"

	backendai "backend.ai/manager"
)

// Prefixes of what is said of texts that can't be understood; clients may look at them (spec/graphql §5.3).
const (
	filterTrouble = "Query filter parsing error: "
	orderTrouble  = "Query ordering parsing error: "
)

// mostTerms bounds a filter: the database takes 65535 parameters, and the parser must not run out of stack.
const mostTerms = 1000

// operator of a comparison, as written.
type operator string

var operators = map[operator]string{
	"==": "=", "!=": "<>", ">": ">", ">=": ">=", "<": "<", "<=": "<=",
	"contains": "LIKE", "in": "IN", "isnot": "IS DISTINCT FROM", "is": "IS NOT DISTINCT FROM", "like": "LIKE", "ilike": "ILIKE",
}

// node of a parsed filter: not, junction or comparison.
type node interface{ isNode() }

type not struct{ of node }

type junction struct {
	or          bool
	left, right node
}

// comparison of a name with a value: nil, bool, int64, float64, string, or a list of those.
type comparison struct {
	name  string
	op    operator
	value any
}

func (not) isNode()        {}
func (junction) isNode()   {}
func (comparison) isNode() {}

// parseFilter reads the filter language (spec/graphql §5.1): "&" and "|" bind alike and to the right, "!" takes all to its right.
func parseFilter(text string) (node, error) {
	p := &parser{rest: text, whole: text}
	p.next()
	n := p.expression()
	if p.err == nil && p.token.kind != end {
		p.fail()
	}
	if p.err != nil {
		return nil, p.err
	}
	return n, nil
}

type kind int

const (
	end kind = iota
	name
	str
	number
	sign // operators and punctuation
	junk
)

type token struct {
	kind kind
	text string
	at   int
}

type parser struct {
	whole, rest string
	token       token
	terms       int
	err         error
}

func (p *parser) fail() {
	if p.err != nil {
		return
	}
	what := "unexpected end of the text"
	if p.token.kind != end {
		what = "unexpected " + backendai.Repr(clip(p.token.text))
	}
	line, column := position(p.whole, p.token.at)
	p.err = fmt.Errorf("%s, at line %d col %d", what, line, column)
}

// position gives line and column of a byte, both from 1; columns count characters.
func position(text string, at int) (line, column int) {
	before := text[:at]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, len([]rune(before[start:])) + 1
}

func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func (p *parser) next() {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n\f\v")
	at := len(p.whole) - len(p.rest)
	take := func(k kind, n int) {
		p.token = token{k, p.rest[:n], at}
		p.rest = p.rest[n:]
	}
	if p.rest == "" {
		take(end, 0)
		return
	}
	switch c := p.rest[0]; {
	case isLetter(c):
		n := 1
		for n < len(p.rest) && (isLetter(p.rest[n]) || isDigit(p.rest[n])) {
			n++
		}
		take(name, n)
	case c == '"':
		take(p.quoted())
	case isDigit(c) || (c == '-' || c == '+') && len(p.rest) > 1 && isDigit(p.rest[1]):
		n := 1
		for n < len(p.rest) && (isDigit(p.rest[n]) || p.rest[n] == '.' || isLetter(p.rest[n]) || (p.rest[n] == '-' || p.rest[n] == '+') && p.rest[n-1]|0x20 == 'e') {
			n++
		}
		take(number, n)
	case len(p.rest) > 1 && operators[operator(p.rest[:2])] != "":
		take(sign, 2)
	case strings.IndexByte("<>!&|()[],+-", c) >= 0:
		take(sign, 1)
	default:
		take(junk, len(firstRune(p.rest)))
	}
}

func firstRune(s string) string {
	for i := range s {
		if i > 0 {
			return s[:i]
		}
	}
	return s
}

// quoted finds the end of a string: a quote with an even number of backslashes before it.
func (p *parser) quoted() (kind, int) {
	slashes := 0
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			slashes++
			continue
		case '"':
			if slashes%2 == 0 {
				return str, i + 1
			}
		case '\n':
			return junk, i
		}
		slashes = 0
	}
	return junk, len(p.rest)
}

func (p *parser) sign(text string) bool {
	if p.err != nil || p.token.kind != sign || p.token.text != text {
		return false
	}
	p.next()
	return true
}

func (p *parser) expression() node {
	if p.terms++; p.terms > mostTerms && p.err == nil {
		p.err = fmt.Errorf("more than %d terms", mostTerms)
	}
	if p.err != nil {
		return nil
	}
	var left node
	switch {
	case p.sign("!"):
		return not{p.expression()}
	case p.sign("("):
		left = p.expression()
		if !p.sign(")") {
			p.fail()
		}
	case p.token.kind == name:
		left = p.comparison()
	default:
		p.fail()
	}
	switch {
	case p.sign("&"):
		return junction{false, left, p.expression()}
	case p.sign("|"):
		return junction{true, left, p.expression()}
	}
	return left
}

func (p *parser) comparison() node {
	c := comparison{name: p.token.text}
	p.next()
	c.op = operator(p.token.text)
	if _, ok := operators[c.op]; !ok || p.token.kind != sign && p.token.kind != name {
		p.fail()
		return nil
	}
	p.next()
	c.value = p.value(0)
	return c
}

func (p *parser) value(depth int) any {
	t := p.token
	switch {
	case p.err != nil:
		return nil
	case t.kind == str:
		p.next()
		return strings.ReplaceAll(t.text[1:len(t.text)-1], `\"`, `"`)
	case t.kind == number:
		if v, ok := parseNumber(t.text); ok {
			p.next()
			return v
		}
	case t.kind == name && (t.text == "null" || t.text == "true" || t.text == "false"):
		p.next()
		if t.text == "null" {
			return nil
		}
		return t.text == "true"
	case t.kind == sign && t.text == "[" && depth == 0:
		p.next()
		list := []any{}
		for !p.sign("]") {
			if p.terms++; p.terms > mostTerms && p.err == nil {
				p.err = fmt.Errorf("more than %d terms", mostTerms)
			}
			if len(list) > 0 && !p.sign(",") {
				p.fail()
			}
			if p.err != nil {
				return nil
			}
			list = append(list, p.value(depth+1))
		}
		return list
	}
	p.fail()
	return nil
}

// parseNumber reads an integer, or a float if there is a dot; an exponent needs the dot.
func parseNumber(text string) (any, bool) {
	if strings.ContainsRune(text, '.') {
		f, err := strconv.ParseFloat(text, 64)
		return f, err == nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// ordering is one column of an order.
type ordering struct {
	name       string
	descending bool
}

// parseOrder reads the order language (spec/graphql §5.2). An empty text is no order.
func parseOrder(text string) ([]ordering, error) {
	p := &parser{rest: text, whole: text}
	p.next()
	var list []ordering
	if p.token.kind == end {
		return nil, nil
	}
	for {
		var o ordering
		if o.descending = p.sign("-"); !o.descending {
			p.sign("+")
		}
		if p.token.kind != name || len(list) >= mostTerms {
			p.fail()
			return nil, p.err
		}
		o.name = p.token.text
		list = append(list, o)
		p.next()
		if p.token.kind == end {
			return list, nil
		}
		if !p.sign(",") {
			p.fail()
			return nil, p.err
		}
	}
}
