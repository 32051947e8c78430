package shared

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	backendai "backend.ai/manager"
)

// Pair is a key and its value.
type Pair struct{ Key, Value string }

// Tree is a nested map in etcd's order. A key that has both a value and children is a map with its value under "" (spec/config-cli-ops
// §2.5). The zero value is an empty map.
type Tree struct {
	names    []string
	children map[string]*Tree
	value    string
	leaf     bool
}

// NewTree builds the tree of pairs whose keys start with prefix as texts; the pairs must be in etcd's order. The rest of each key loses
// one leading slash, is split at slashes and unquoted.
func NewTree(prefix string, pairs []Pair) *Tree {
	t := &Tree{}
	for _, p := range pairs {
		rest, ok := strings.CutPrefix(p.Key, prefix)
		if !ok {
			continue
		}
		at := t
		for component := range strings.SplitSeq(strings.TrimPrefix(rest, "/"), "/") {
			at = at.descend(Unquote(component))
		}
		at.set(p.Value)
	}
	return t
}

// descend makes a map of t if it was a value, which moves under "".
func (t *Tree) descend(name string) *Tree {
	if t.leaf {
		t.leaf = false
		own := t.value
		t.value = ""
		t.descend("").set(own)
	}
	if t.children == nil {
		t.children = map[string]*Tree{}
	}
	c, ok := t.children[name]
	if !ok {
		c = &Tree{}
		t.children[name] = c
		t.names = append(t.names, name)
	}
	return c
}

func (t *Tree) set(value string) {
	if len(t.names) > 0 {
		t.descend("").set(value)
		return
	}
	t.leaf, t.value = true, value
}

// Empty tells whether there is nothing; it holds for nil.
func (t *Tree) Empty() bool { return t == nil || !t.leaf && len(t.names) == 0 }

// Names are the names of a map's members in order; none for a value.
func (t *Tree) Names() []string {
	if t == nil {
		return nil
	}
	return slices.Clone(t.names)
}

// Child is the subtree of a path, nil when there is none.
func (t *Tree) Child(path ...string) *Tree {
	for _, name := range path {
		if t == nil {
			return nil
		}
		t = t.children[name]
	}
	return t
}

// Value is the text of a leaf, or of a map's own value under "".
func (t *Tree) Value() (text string, ok bool) {
	switch {
	case t == nil:
		return "", false
	case t.leaf:
		return t.value, true
	}
	return t.children[""].Value()
}

// Text is Value of a path, or fallback.
func (t *Tree) Text(fallback string, path ...string) string {
	if text, ok := t.Child(path...).Value(); ok {
		return text
	}
	return fallback
}

// MarshalJSON keeps the order.
func (t *Tree) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if t != nil && t.leaf {
		return json.Marshal(t.value)
	}
	b.WriteByte('{')
	for i, name := range t.Names() {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		value, err := t.children[name].MarshalJSON()
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// overlay is a lookup in several trees, at the first level only: a member of an earlier tree hides all of a later one's. The order of
// names is that of the last tree, then what the others add (spec/config-cli-ops §2.3).
func overlay(trees []*Tree) *Tree {
	out := &Tree{}
	for _, t := range slices.Backward(trees) {
		for _, name := range t.names {
			*out.descend(name) = *t.children[name]
		}
	}
	return out
}

// Flatten turns nested maps, as JSON decodes them, into pairs below prefix: names are quoted, "" is the path itself, members sorted.
// Texts, booleans and numbers become text; a list of those is joined with commas, which is what every list-valued key expects. Null
// and lists of anything else are refused (spec/config-cli-ops §2.6). Errors: InvalidArgument.
func Flatten(prefix string, value any) ([]Pair, error) {
	var pairs []Pair
	err := flatten(strings.TrimSuffix(prefix, "/"), value, &pairs)
	return pairs, err
}

func flatten(path string, value any, pairs *[]Pair) error {
	members, ok := value.(map[string]any)
	if !ok {
		if m, isTexts := value.(map[string]string); isTexts {
			members, ok = map[string]any{}, true
			for k, v := range m {
				members[k] = v
			}
		}
	}
	if !ok {
		text, err := Text(value)
		if err != nil {
			return backendai.Errorf(backendai.InvalidArgument, "%s: %s", path, *backendai.AsError(err).Message)
		}
		if path == "" {
			return backendai.Errorf(backendai.InvalidArgument, "a value needs a key")
		}
		*pairs = append(*pairs, Pair{path, text})
		return nil
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		at := path
		if name != "" {
			at = strings.TrimPrefix(path+"/"+Quote(name), "/")
		}
		if err := flatten(at, members[name], pairs); err != nil {
			return err
		}
	}
	return nil
}

// Text is how one value is written. Errors: InvalidArgument.
func Text(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool, int, int64, json.Number:
		return fmt.Sprint(v), nil
	case float64:
		text, err := json.Marshal(v)
		return string(text), err
	case []string:
		return strings.Join(v, ","), nil
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			if _, nested := item.([]any); nested {
				return "", backendai.Errorf(backendai.InvalidArgument, "a list inside a list can't be stored")
			}
			text, err := Text(item)
			if err != nil {
				return "", err
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	}
	return "", backendai.Errorf(backendai.InvalidArgument, "only texts, numbers, booleans and lists of them can be stored")
}
