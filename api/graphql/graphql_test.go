package graphql_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/api"
	"backend.ai/manager/api/graphql"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// served is a server on a database with the recorded cluster.
type served struct {
	url  string
	pool *pgxpool.Pool
}

func serve(t testing.TB, deps graphql.Deps) served {
	t.Helper()
	pool := dbtest.New(t)
	golden.Cluster(t, pool)
	listener := changes.NewListener(pool)
	a := accounts.New(pool, listener)
	if err := listener.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Stop(context.Background()) })
	s := api.New(api.Config{Addr: "127.0.0.1:0"}, api.Deps{Credentials: a})
	s.Mount("/admin", graphql.New(pool, deps))
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
	return served{"http://" + s.Addr().String(), pool}
}

func (s served) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// post signs a request of one of golden.Keys.
func (s served) post(t testing.TB, as, path string, body any) (status int, answer string) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("POST", s.url+path, strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	subject := signing.Subject{Method: "POST", Target: path, Date: now.Format("2006-01-02T15:04:05.000000+00:00"), Host: req.URL.Host, Version: api.Latest, ContentType: "application/json"}
	m, err := signing.ParseMethod("HMAC-SHA256")
	if err != nil {
		t.Fatal(err)
	}
	key := golden.Keys[as]
	auth := signing.Authorization{Method: "HMAC-SHA256", AccessKey: key.Access, Signature: signing.DeriveKey(m, key.Secret, now.Format(signing.Day), req.URL.Host).Sign(subject)}
	req.Header.Set("Date", subject.Date)
	req.Header.Set("X-BackendAI-Version", string(subject.Version))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", auth.Header())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// ask gives the body of /admin/gql.
func (s served) ask(t testing.TB, as, query string, variables map[string]any) string {
	t.Helper()
	_, body := s.post(t, as, "/admin/gql", map[string]any{"query": query, "variables": variables})
	return body
}
