package api

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func routes(paths ...string) *table {
	t := newTable()
	r := &Router{table: t}
	for _, p := range paths {
		method, path, _ := strings.Cut(p, " ")
		r.Handle(method, path, nil)
	}
	return t
}

func TestFind(t *testing.T) {
	table := routes("GET /session/_/match", "POST /session", "GET /session/{s}", "DELETE /session/{s}", "POST /session/{s}", "GET /session/{s}/logs", "GET /session/_/logs", "HEAD /session/_/logs", "POST /session/_/create")
	for request, want := range map[string]string{
		"GET /session/x":        "/session/{s} x",
		"GET /session/_/match":  "/session/_/match",
		"GET /session/x/logs":   "/session/{s}/logs x",
		"GET /session/_/logs":   "/session/{s}/logs _", // registered first
		"HEAD /session/_/logs":  "/session/_/logs",
		"PUT /session/x":        "405 DELETE GET POST",
		"PUT /session/_/logs":   "405 GET HEAD",
		"GET /session":          "405 POST",
		"GET /session/":         "404",
		"GET /session//logs":    "404",
		"GET /Session/x":        "404",
		"GET /":                 "404",
		"GET /session/x/y/z":    "404",
		"GET /session/{x}":      "404",
		"DELETE /session/a%2Fb": "/session/{s} a/b",
	} {
		method, path, _ := strings.Cut(request, " ")
		m := table.find(method, path, false)
		got := "404"
		if m.route != nil {
			got = strings.TrimSpace(m.route.Path + " " + strings.Join(m.values, " "))
		} else if len(m.methods) > 0 {
			got = "405 " + strings.Join(m.methods, " ")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
	if diff := cmp.Diff([]string{"DELETE", "GET", "POST"}, table.find("OPTIONS", "/session/x", true).methods); diff != "" {
		t.Error(diff)
	}
}

func TestRoutesRegisteredTwicePanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the mistake goes unnoticed")
		}
	}()
	routes("GET /a/{x}/b", "GET /a/{y}/b")
}

// A variable gets exactly what the client put into the segment, however it was encoded.
func TestVariablesSurviveEncoding(t *testing.T) {
	table := routes("GET /a/{x}/b")
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringN(1, 20, -1).Draw(t, "value")
		encoded := url.PathEscape(value)
		if rapid.Bool().Draw(t, "every byte") {
			encoded = ""
			for _, c := range []byte(value) {
				encoded += "%" + string("0123456789abcdef"[c>>4]) + string("0123456789ABCDEF"[c&15])
			}
		}
		m := table.find("GET", normalPath("/a/"+encoded+"/b"), false)
		if m.route == nil {
			t.Fatalf("%q is not found", encoded)
		}
		if m.values[0] != value {
			t.Fatalf("%q became %q", value, m.values[0])
		}
	})
}

func TestTargets(t *testing.T) {
	for target, want := range map[string][2]string{
		"/a?b=c?d": {"/a", "b=c?d"}, "/": {"/", ""}, "http://h/a?b": {"/a", "b"}, "http://h": {"/", ""}, "http://h?x": {"/", "x"}, "?x": {"/", "x"}, "*": {"*", ""},
	} {
		path, query := splitTarget(target)
		if path != want[0] || query != want[1] {
			t.Errorf("%q: %q %q", target, path, query)
		}
	}
}
