package graphql

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// document is a rough reading of a query's text, for what the library does not tell: the types of variables before they are validated,
// and the places of fields.
type document struct {
	operations []*selection
	fragments  map[string]*selection
	uses       map[string]string // an argument that a variable is used for
}

// selection is a field, a fragment, or a whole operation.
type selection struct {
	name   string // of an operation or fragment; of a spread fragment
	key    string // of a field in the answer; "" for what is none
	field  string
	spread bool
	at     location
	vars   []variable
	inside []*selection
}

type variable struct {
	name, kind string // "limit", "Int!"
	at         location
	defaulted  bool
}

type word struct {
	text string
	at   location
}

// outline reads a text. It never complains about what the library will complain about; ok is false for one that is nested so deep that
// nobody should try.
func outline(text string) (doc *document, ok bool) {
	words, ok := split(text)
	if !ok {
		return nil, false
	}
	doc = &document{fragments: map[string]*selection{}, uses: map[string]string{}}
	for i := 3; i < len(words); i++ {
		if words[i-1].text == "$" && words[i-2].text == ":" {
			doc.uses[words[i].text] = words[i-3].text
		}
	}
	r := &reader{words: words}
	for r.more() {
		switch w := r.take(); w.text {
		case "{":
			doc.operations = append(doc.operations, &selection{at: w.at, inside: r.set()})
		case "query", "mutation", "subscription":
			op := &selection{at: w.at}
			for r.more() && r.peek() != "{" {
				if w := r.take(); w.text == "(" {
					op.vars = r.variables()
				} else if op.name == "" && w.text != "@" {
					op.name = w.text
				}
			}
			if r.more() {
				r.take()
				op.inside = r.set()
			}
			doc.operations = append(doc.operations, op)
		case "fragment":
			f := &selection{at: w.at}
			if r.more() {
				f.name = r.take().text
			}
			for r.more() && r.take().text != "{" {
			}
			f.inside = r.set()
			doc.fragments[f.name] = f
		}
	}
	return doc, true
}

// operation is the one with a name, or the first.
func (d *document) operation(name string) *selection {
	for _, op := range d.operations {
		if name == "" || op.name == name {
			return op
		}
	}
	return &selection{}
}

// fields are those of the top level, for the log.
func (s *selection) fields() []string {
	var list []string
	for _, f := range s.inside {
		if f.key != "" {
			list = append(list, f.field)
		}
	}
	return list
}

// locate finds the field with a path of the answer.
func (d *document) locate(from *selection, path []any) (l location, ok bool) {
	for _, step := range path {
		key, isKey := step.(string)
		if !isKey {
			continue // an index
		}
		if from = d.find(from, key, 0); from == nil {
			return location{}, false
		}
	}
	return from.at, true
}

func (d *document) find(in *selection, key string, depth int) *selection {
	if depth > mostNesting {
		return nil
	}
	for _, s := range in.inside {
		if s.key == key {
			return s
		}
		if s.key != "" {
			continue
		}
		if s.spread {
			if s = d.fragments[s.name]; s == nil {
				continue
			}
		}
		if found := d.find(s, key, depth+1); found != nil {
			return found
		}
	}
	return nil
}

type reader struct {
	words []word
	next  int
}

func (r *reader) more() bool   { return r.next < len(r.words) }
func (r *reader) peek() string { return r.words[r.next].text }
func (r *reader) take() word   { r.next++; return r.words[r.next-1] }

// skip reads to the bracket that closes an open one.
func (r *reader) skip() {
	for depth := 1; depth > 0 && r.more(); {
		switch r.take().text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		}
	}
}

// set reads a selection set behind its bracket.
func (r *reader) set() (list []*selection) {
	var last *selection
	for r.more() {
		switch w := r.take(); w.text {
		case "}":
			return list
		case "(":
			r.skip()
		case "{":
			inside := r.set()
			if last != nil {
				last.inside = inside
			}
		case "@":
			if r.more() {
				r.take()
			}
		case "...":
			last = &selection{at: w.at}
			if r.more() && isName(r.peek()) {
				if name := r.take().text; name != "on" {
					last.spread, last.name = true, name
				} else if r.more() {
					r.take()
				}
			}
			list = append(list, last)
		default:
			if !isName(w.text) {
				continue
			}
			last = &selection{key: w.text, field: w.text, at: w.at}
			if r.more() && r.peek() == ":" {
				if r.take(); r.more() {
					last.field = r.take().text
				}
			}
			list = append(list, last)
		}
	}
	return list
}

// variables reads the declarations behind their bracket.
func (r *reader) variables() (list []variable) {
	for r.more() {
		switch w := r.take(); w.text {
		case ")":
			return list
		case "$":
			v := variable{at: w.at}
			if r.more() {
				v.name = r.take().text
			}
			if r.more() && r.peek() == ":" {
				r.take()
			}
			for r.more() && (strings.Contains("[]!", r.peek()) || isName(r.peek()) && (v.kind == "" || strings.HasSuffix(v.kind, "["))) {
				v.kind += r.take().text
			}
			list = append(list, v)
		case "=":
			if len(list) > 0 {
				list[len(list)-1].defaulted = true
			}
			if r.more() {
				if w := r.take().text; w == "[" || w == "{" {
					r.skip()
				}
			}
		}
	}
	return list
}

func isName(s string) bool {
	c := s[0]
	return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// split cuts a text into words; strings are one word each, comments and commas none.
func split(text string) (words []word, ok bool) {
	line, column, counted, nesting := 1, 1, 0, 0 // column of the byte at counted
	for i := 0; i < len(text); {
		c := text[i]
		end := i + 1
		switch {
		case c == '\n':
			line, column, counted = line+1, 1, end
			i = end
			continue
		case c == ' ' || c == '\t' || c == '\r' || c == ',':
			i = end
			continue
		case c == '#':
			for end < len(text) && text[end] != '\n' {
				end++
			}
			i = end
			continue
		case strings.HasPrefix(text[i:], `"""`):
			if n := strings.Index(text[i+3:], `"""`); n >= 0 {
				end = i + n + 6
			} else {
				end = len(text)
			}
		case c == '"':
			for end < len(text) && text[end] != '"' && text[end] != '\n' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end+1, len(text))
		case strings.HasPrefix(text[i:], "..."):
			end = i + 3
		case c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9':
			for end < len(text) && (text[end] == '_' || text[end]|0x20 >= 'a' && text[end]|0x20 <= 'z' || text[end] >= '0' && text[end] <= '9') {
				end++
			}
		case c == '(' || c == '[' || c == '{':
			if nesting++; nesting > mostNesting {
				return nil, false
			}
		case c == ')' || c == ']' || c == '}':
			nesting--
		}
		column += utf8.RuneCountInString(text[counted:i])
		counted = i
		words = append(words, word{text[i:end], location{line, column}})
		if n := strings.LastIndexByte(text[i:end], '\n'); n >= 0 { // inside a block string
			line += strings.Count(text[i:end], "\n")
			column, counted = 1, i+n+1
		}
		i = end
	}
	return words, true
}

// coerce makes of variables what the library takes. Null is the same as nothing, numbers do for texts and texts of digits for integers
// (spec/graphql §1.1). defaults are those of arguments; the library does not apply them where a variable is missing. missing says which
// required variables are not there.
func (d *document) coerce(of *selection, sent, defaults map[string]any) (variables map[string]any, missing []problem) {
	variables = make(map[string]any, len(sent))
	for _, v := range of.vars {
		value := sent[v.name]
		if value != nil {
			variables[v.name] = coerced(value, strings.Trim(v.kind, "[]!"))
			continue
		}
		if strings.HasSuffix(v.kind, "!") && !v.defaulted {
			missing = append(missing, problem{Message: fmt.Sprintf("Variable \"$%s\" of required type \"%s\" was not provided.", v.name, v.kind), Locations: []location{v.at}})
		}
		if value, ok := defaults[d.uses[v.name]]; ok && !v.defaulted {
			variables[v.name] = value
		}
	}
	return variables, missing
}

func coerced(value any, kind string) any {
	switch v := value.(type) {
	case json.Number:
		if kind == "String" || kind == "ID" {
			return v.String()
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case string:
		if kind == "Int" && v != "" && strings.Trim(v, "0123456789") == "" {
			return coerced(json.Number(v), kind)
		}
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = coerced(v[i], kind)
		}
		return list
	}
	return value
}
