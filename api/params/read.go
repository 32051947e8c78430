package params

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
	"gopkg.in/yaml.v3"

	backendai "backend.ai/manager"
)

// Values are parameters as they came. Numbers are json.Number, so that no digit is lost before a type has looked at them.
type Values = map[string]any

// Read decodes the parameters of a request: of the body if it has any bytes, else of the query string (spec/rest-core §4).
//
// Errors: InvalidAPIParameters "Malformed body" for anything that is not one object in the charset it claims to be in.
func Read(contentType string, body []byte, query string) (Values, error) {
	if len(body) == 0 {
		return FromQuery(query), nil
	}
	kind, attributes, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		kind, attributes = "", nil // an odd content type never hindered anybody
	}
	text, err := decodeCharset(body, attributes["charset"])
	if err != nil {
		return nil, malformed(err)
	}
	var values Values
	if kind == "text/yaml" {
		values, err = fromYAML(text)
	} else {
		values, err = fromJSON(text)
	}
	if err != nil {
		return nil, malformed(err)
	}
	return values, nil
}

func malformed(cause error) error {
	return backendai.Errorf(backendai.InvalidAPIParameters, "Malformed body").WithCause(cause)
}

func decodeCharset(body []byte, charset string) ([]byte, error) {
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		if !utf8.Valid(body) {
			return nil, errors.New("not UTF-8")
		}
		return body, nil
	}
	e, err := htmlindex.Get(charset)
	if err != nil {
		return nil, err
	}
	return e.NewDecoder().Bytes(body)
}

// FromQuery takes the first value of each key. Parts that do not decode are taken as they stand.
func FromQuery(query string) Values {
	values := Values{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		key = unescape(key)
		if _, seen := values[key]; !seen {
			values[key] = unescape(value)
		}
	}
	return values
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return strings.ReplaceAll(s, "+", " ")
}

func fromJSON(text []byte) (Values, error) {
	v, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	values, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	return values, nil
}

func parseJSON(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}

// maxYAMLNodes bounds what aliases may blow a small document up to.
const maxYAMLNodes = 100_000

// fromYAML reads every scalar as a text.
func fromYAML(text []byte) (Values, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	left := maxYAMLNodes
	v, err := fromNode(&document, &left, 0)
	if err != nil {
		return nil, err
	}
	values, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	return values, nil
}

func fromNode(n *yaml.Node, left *int, depth int) (any, error) {
	if *left--; *left < 0 || depth > 100 {
		return nil, errors.New("too large")
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return fromNode(n.Content[0], left, depth)
	case yaml.AliasNode:
		return fromNode(n.Alias, left, depth+1)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			v, err := fromNode(item, left, depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Kind != yaml.ScalarNode {
				return nil, errors.New("a key is no text")
			}
			v, err := fromNode(n.Content[i+1], left, depth+1)
			if err != nil {
				return nil, err
			}
			m[n.Content[i].Value] = v
		}
		return m, nil
	case yaml.ScalarNode:
		return n.Value, nil
	}
	return nil, errors.New("empty")
}
