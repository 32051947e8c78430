package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"backend.ai/manager/api"
	"backend.ai/manager/api/rest/auth"
	"backend.ai/manager/api/rest/hello"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// counter counts without a window: tests are shorter than it.
type counter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *counter) Check(_ context.Context, key string, _ int, _ time.Duration) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[key]++
	return c.counts[key], nil
}

// sessions stands for the resource whose preflights were recorded.
type sessions struct{}

func (sessions) Register(r *api.Router) {
	nothing := func(r *api.Request) error { return r.JSON(struct{}{}) }
	r.POST("", nothing, api.AllAllowed, api.Auth)
	r.POST("/_/create", nothing, api.AllAllowed, api.Auth)
	r.GET("/{session}", nothing, api.ReadAllowed, api.Auth)
}

// serve starts a server on a database with the recorded cluster.
func serve(t testing.TB, deps api.Deps) (url string, a *accounts.Accounts) {
	t.Helper()
	pool := dbtest.New(t)
	golden.Cluster(t, pool)
	listener := changes.NewListener(pool)
	a = accounts.New(pool, listener)
	if err := listener.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Stop(context.Background()) })
	deps.Credentials = a
	url, _ = start(t, api.Config{}, deps, func(s *api.Server) {
		s.Mount("", hello.Hello{})
		s.Mount("/auth", auth.New(a, deps.Hooks))
		s.Mount("/session", sessions{})
	})
	return url, a
}

func start(t testing.TB, config api.Config, deps api.Deps, mount func(*api.Server)) (url string, s *api.Server) {
	t.Helper()
	config.Addr = "127.0.0.1:0"
	s = api.New(config, deps)
	mount(s)
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String(), s
}

// version is what the original of the recording said of itself.
func version(r *golden.Response) {
	if body, ok := r.Body.(map[string]any); ok && body["version"] == "v6.20220315" {
		r.Body = map[string]any{"version": api.Latest, "manager": api.Release}
	}
}

func problem(r *golden.Response, status int, slug, title, msg string) map[string]any {
	r.Status = status
	delete(r.Headers, "Content-Type")
	r.Headers["Content-Type"] = "application/problem+json; charset=utf-8"
	body := map[string]any{"type": "https://api.backend.ai/probs/" + slug, "title": title, "msg": msg}
	r.Body = body
	return body
}

func notAllowed(method string, methods ...string) golden.Difference {
	return golden.Difference{Why: "the original fails with 500 while it makes its 405 (spec/rest-core §3.3)", Want: func(r *golden.Response) {
		allowed := make([]any, len(methods))
		for i, m := range methods {
			allowed[i] = m
		}
		problem(r, 405, "method-not-allowed", "HTTP Method Not Allowed.", method)["data"] = allowed
		r.Headers["Allow"] = strings.Join(methods, ", ")
		if method == "HEAD" {
			r.Body = ""
			delete(r.Headers, "Content-Length") // of the body that is left out
		}
	}}
}

func badParameters(msg string) golden.Difference {
	return golden.Difference{Why: "500 in the original (spec/rest-core §4)", Want: func(r *golden.Response) {
		problem(r, 400, "invalid-api-params", "Missing or invalid API parameters.", msg)
	}}
}

func TestGoldenBasics(t *testing.T) {
	url, _ := serve(t, api.Deps{RateLimiter: &counter{}})
	p := golden.Replayer{
		URL:    url,
		Always: version,
		Before: func(e golden.Entry, r *http.Request) {
			if e.Name == "body of 1 MiB" {
				text := []byte(`{"echo": "` + strings.Repeat("x", 1<<20) + `"}`)
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
			}
		},
		Differences: map[string]golden.Difference{
			"wrong method":          notAllowed("PUT", "GET", "POST"),
			"wrong method on hello": notAllowed("POST", "GET"),
			"HEAD on hello":         notAllowed("HEAD", "GET"),
			"method override, public": {Why: "an overridden request goes through the whole chain (spec/rest-core §1.6)", Want: func(r *golden.Response) {
				r.Headers["X-RateLimit-Limit"], r.Headers["X-RateLimit-Remaining"], r.Headers["X-RateLimit-Window"] = "1000", "1000", "900"
			}},
			"method override, protected": {Why: "the overriding method is what must be signed (spec/rest-core §1.6)", Want: func(r *golden.Response) {
				problem(r, 401, "auth-failed", "Credential/signature mismatch.", "Signature mismatch")
			}},
			"json array instead of object": badParameters("Malformed body"),
		},
	}
	p.Run(t, golden.Load(t, "testdata/basics.json"))
}

func TestGoldenAuth(t *testing.T) {
	url, _ := serve(t, api.Deps{RateLimiter: &counter{}})
	p := golden.Replayer{
		URL:    url,
		Always: version,
		Differences: map[string]golden.Difference{
			"authorization header: item without =": {Why: "500 in the original (spec/rest-core §2.4)", Want: func(r *golden.Response) {
				problem(r, 400, "invalid-auth-params", "Missing or invalid authorization parameters.", "Missing or malformed authorization parameters")
			}},
			"update-password, new ones differ": {Why: "clients stumble over an error without a title (spec/rest-core §7.1)", Want: func(r *golden.Response) {
				problem(r, 400, "generic-bad-request", "Bad request.", "new password mismitch")["error_msg"] = "new password mismitch"
			}},
			"signup, unknown domain": {Why: "500 in the original (spec/rest-core §7.1)", Want: func(r *golden.Response) {
				problem(r, 400, "generic-bad-request", "Bad request.", "No such domain")
			}},
		},
	}
	p.Run(t, golden.Load(t, "testdata/auth.json"))
}
