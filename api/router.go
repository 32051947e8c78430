package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Handler answers a request, or returns why it can't. Errors are turned into problem documents; see backendai.Error.
type Handler func(*Request) error

// Resource registers the routes of one path prefix.
type Resource interface{ Register(*Router) }

// Route is a registered handler.
type Route struct {
	Method, Path string

	handler  Handler
	guards   []func(*Request) error
	signed   bool // the signature is checked
	waits    bool
	segments []string // of a pattern; "" = a variable
	names    []string // of the variables
	order    int
}

// Option adds a guard or a property to a route. Guards refuse in the order in which they are given (spec/rest-core §2.8).
type Option func(*Route)

// Router registers routes below a prefix.
type Router struct {
	prefix string
	table  *table
}

// GET registers a route; path is relative to the prefix, "" is the prefix itself, "{name}" stands for one segment.
func (r *Router) GET(path string, h Handler, opts ...Option) { r.Handle("GET", path, h, opts...) }

// HEAD registers a route; those of GET do not imply it.
func (r *Router) HEAD(path string, h Handler, opts ...Option) { r.Handle("HEAD", path, h, opts...) }

// POST registers a route.
func (r *Router) POST(path string, h Handler, opts ...Option) { r.Handle("POST", path, h, opts...) }

// PUT registers a route.
func (r *Router) PUT(path string, h Handler, opts ...Option) { r.Handle("PUT", path, h, opts...) }

// PATCH registers a route.
func (r *Router) PATCH(path string, h Handler, opts ...Option) { r.Handle("PATCH", path, h, opts...) }

// DELETE registers a route.
func (r *Router) DELETE(path string, h Handler, opts ...Option) { r.Handle("DELETE", path, h, opts...) }

// Handle registers a route for any method. It panics on a route that is there already: that is a mistake of the program.
func (r *Router) Handle(method, path string, h Handler, opts ...Option) {
	route := &Route{Method: method, Path: r.prefix + path, handler: h}
	for _, o := range opts {
		o(route)
	}
	r.table.add(route)
}

// table finds routes. It is not changed once the server has started.
type table struct {
	exact    map[string][]*Route // by whole path
	patterns map[int][]*Route    // by number of segments, in the order of registration
	count    int
}

func newTable() *table { return &table{exact: map[string][]*Route{}, patterns: map[int][]*Route{}} }

func (t *table) add(r *Route) {
	t.count++
	r.order = t.count
	if !strings.HasPrefix(r.Path, "/") {
		panic("api: the path of a route starts with a slash: " + r.Path)
	}
	segments := strings.Split(r.Path[1:], "/")
	for i, s := range segments {
		if name, ok := strings.CutPrefix(s, "{"); ok {
			r.names = append(r.names, strings.TrimSuffix(name, "}"))
			segments[i] = ""
		}
	}
	same := t.exact[r.Path]
	if r.names != nil {
		r.segments = segments
		same = t.patterns[len(segments)]
	}
	for _, other := range same {
		if other.Method == r.Method && slices.Equal(other.segments, r.segments) {
			panic(fmt.Sprintf("api: %s %s is registered twice", r.Method, r.Path))
		}
	}
	if r.names != nil {
		t.patterns[len(segments)] = append(same, r)
	} else {
		t.exact[r.Path] = append(same, r)
	}
}

// match is what a path leads to: the first route of the method in the order of registration, and all methods of matching routes.
type match struct {
	route   *Route
	values  []string // of the route's variables, percent-decoded
	methods []string // sorted; empty = no such path
}

// find looks a path up, percent-encoded but normal (see normalPath). methods is only filled when there is no route for the method, or
// when all is asked for.
func (t *table) find(method, path string, all bool) match {
	var m match
	for _, r := range t.exact[path] {
		if r.Method == method {
			m.route = r
		}
	}
	var parts []string
	if candidates := t.patterns[strings.Count(path, "/")]; candidates != nil {
		parts = strings.Split(path[1:], "/")
		for _, r := range candidates {
			if r.Method == method && (m.route == nil || r.order < m.route.order) && r.matches(parts) {
				m.route = r
				break
			}
		}
	}
	if m.route != nil && m.route.segments != nil {
		for i, s := range m.route.segments {
			if s == "" {
				m.values = append(m.values, unescapePath(parts[i]))
			}
		}
	}
	if m.route == nil || all {
		m.methods = t.methods(path, parts)
	}
	return m
}

func (t *table) methods(path string, parts []string) []string {
	var methods []string
	for _, r := range t.exact[path] {
		methods = append(methods, r.Method)
	}
	for _, r := range t.patterns[len(parts)] {
		if r.matches(parts) {
			methods = append(methods, r.Method)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

func (r *Route) matches(parts []string) bool {
	for i, s := range r.segments {
		if s == "" {
			if parts[i] == "" || strings.ContainsAny(parts[i], "{}") {
				return false
			}
		} else if s != parts[i] {
			return false
		}
	}
	return true
}

// splitTarget parts a request target into path and query, as they were sent. The absolute form is accepted.
func splitTarget(target string) (path, query string) {
	if !strings.HasPrefix(target, "/") {
		if _, rest, ok := strings.Cut(target, "://"); ok {
			if i := strings.IndexAny(rest, "/?"); i >= 0 {
				target = rest[i:]
			} else {
				target = "/"
			}
		}
	}
	path, query, _ = strings.Cut(target, "?")
	if path == "" {
		path = "/"
	}
	return path, query
}

// normalPath decodes percent-encoded characters that need no encoding, so that one path has one form for matching (spec/rest-core §1.3).
func normalPath(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if c, err := url.PathUnescape(path[i : i+3]); err == nil && unreserved(c[0]) {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

func unreserved(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func unescapePath(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
