package auth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/rest/auth"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// guest is a hook that has an opinion on everything, and remembers what it was told.
type guest struct{ told []string }

func (*guest) Name() string { return "guest" }

func (g *guest) Authorize(_ context.Context, _ *api.Request, l api.Login) (*accounts.User, error) {
	switch l.Username {
	case "fake-email":
		return &accounts.User{ID: uuid.MustParse("dfa9da54-4b28-432f-be29-c0d680c7a412"), Status: backendai.UserActive, Role: backendai.RoleUser}, nil
	case "banned":
		return nil, errors.New("banned")
	}
	return nil, nil
}

func (g *guest) PostAuthorize(_ context.Context, _ *api.Request, u accounts.User, p accounts.Pair) error {
	g.told = append(g.told, fmt.Sprintf("authorized %s %v", p.Access, p.Secret))
	return errors.New("nobody minds")
}

func (g *guest) PreSignup(_ context.Context, s *accounts.Signup) error {
	if s.Email == "banned" {
		return errors.New("banned")
	}
	if strings.HasPrefix(s.Email, "wait") {
		s.Status = backendai.UserBeforeVerification
	}
	return nil
}

func (g *guest) PostSignup(_ context.Context, email string, _ uuid.UUID, lang string) error {
	g.told = append(g.told, "signed up "+email+" "+lang)
	return nil
}

func (g *guest) VerifyPasswordFormat(_ context.Context, _, new string) error {
	if len(new) < 8 {
		return errors.New("invalid password format")
	}
	return nil
}

func serve(t *testing.T, g *guest) (url string, pool *pgxpool.Pool) {
	t.Helper()
	pool = dbtest.New(t)
	golden.Cluster(t, pool)
	a := accounts.New(pool, nil)
	hooks := api.NewHooks(g)
	s := api.New(api.Config{Addr: "127.0.0.1:0"}, api.Deps{Credentials: a, Hooks: hooks})
	s.Mount("/auth", auth.New(a, hooks))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String(), pool
}

// call sends parameters, signed unless who is "", and gives status and body.
func call(t *testing.T, url, who, method, path string, parameters map[string]any) string {
	t.Helper()
	body, err := json.Marshal(parameters)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Language", "ko-KR,en")
	if who != "" {
		m, _ := signing.ParseMethod(signing.DefaultMethod)
		now := time.Now().UTC()
		s := signing.Subject{Method: method, Target: path, Date: now.Format(time.RFC3339), Host: req.URL.Host, ContentType: "application/json", Version: api.Latest}
		req.Header.Set("Date", s.Date)
		req.Header.Set("X-BackendAI-Version", s.Version)
		req.Header.Set("Authorization", signing.Authorization{Method: signing.DefaultMethod, AccessKey: golden.Keys[who].Access,
			Signature: signing.DeriveKey(m, golden.Keys[who].Secret, now.Format(signing.Day), s.Host).Sign(s)}.Header())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(res.StatusCode, " ", string(text))
}

func has(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %s, want %s", what, got, w)
		}
	}
}

// What the recorded answers do not have; those are replayed by the tests of package api.
func TestAuthorize(t *testing.T) {
	g := &guest{}
	url, pool := serve(t, g)
	login := func(username, password string) string {
		return call(t, url, "", "POST", "/auth/authorize", map[string]any{"type": "keypair", "domain": "default", "username": username, "password": password})
	}
	for status, want := range map[backendai.UserStatus]string{
		backendai.UserInactive:           "User credential mismatch.",
		backendai.UserDeleted:            "User credential mismatch.",
		backendai.UserBeforeVerification: "This account needs email verification.",
	} {
		if _, err := pool.Exec(t.Context(), `UPDATE public.users SET status = $1 WHERE email = 'user@lablup.com'`, string(status)); err != nil {
			t.Fatal(err)
		}
		has(t, string(status), login("user@lablup.com", "C8qnIo29"), "401 ", want)
	}
	has(t, "a login by the hook", login("fake-email", "fake-pwd"), "200 ", `"access_key": "AKIANABBDUSEREXAMPLE"`)
	has(t, "a login the hook refuses", login("banned", "x"), "400 ", `"msg": "banned"`, `"plugins": "guest"`)
	has(t, "NUL in the name", login("a\x00b", "x"), "401 ", "User credential mismatch.")
	has(t, "NUL in the password", login("admin@lablup.com", "wJalrXUt\x00"), "401 ", "User credential mismatch.")
	has(t, "a domain admin", login("domain-admin@lablup.com", "cWbsM_vB"), "200 ", `"role": "admin"`)
	if len(g.told) != 2 || strings.Contains(strings.Join(g.told, ""), golden.Keys["user"].Secret.Reveal()) {
		t.Error(g.told)
	}
	for _, sql := range []string{`UPDATE public.keypairs SET is_active = false WHERE user_id = 'admin@lablup.com'`, `UPDATE public.users SET password = NULL WHERE email = 'monitor@lablup.com'`} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	has(t, "no active keypair", login("admin@lablup.com", "wJalrXUt"), "401 ", "No API keypairs found.")
	has(t, "no password", login("monitor@lablup.com", "7tuEwF1J"), "401 ", "User credential mismatch.")
}

func TestSignup(t *testing.T) {
	g := &guest{}
	url, pool := serve(t, g)
	signup := func(extra map[string]any) string {
		p := map[string]any{"domain": "default", "email": "new@example.com", "password": "Passw0rd!"}
		for k, v := range extra {
			p[k] = v
		}
		return call(t, url, "", "POST", "/auth/signup", p)
	}
	has(t, "refused by the hook", signup(map[string]any{"email": "banned"}), "400 ", "rejected-by-hook")
	has(t, "with extras", signup(map[string]any{"full_name": "New", "username": nil, "unheard": 1}), "201 ", `"access_key": "AKIA`)
	has(t, "taken name", signup(map[string]any{"email": "other@example.com", "username": "new@example.com"}), "400 ", "Username already exists")
	has(t, "to be verified", signup(map[string]any{"email": "wait@example.com"}), "201 ")
	var name string
	var active, waiting bool
	if err := pool.QueryRow(t.Context(), `SELECT u.full_name, k.is_active, (SELECT is_active FROM public.keypairs WHERE user_id = 'wait@example.com')
FROM public.users u JOIN public.keypairs k ON k."user" = u.uuid WHERE u.email = 'new@example.com'`).Scan(&name, &active, &waiting); err != nil {
		t.Fatal(err)
	}
	if name != "New" || !active || waiting {
		t.Error(name, active, waiting)
	}
	if got := strings.Join(g.told, ","); got != "signed up new@example.com ko-kr,signed up wait@example.com ko-kr" {
		t.Error(got)
	}
}

func TestUpdatePassword(t *testing.T) {
	url, _ := serve(t, &guest{})
	update := func(old, new string) string {
		return call(t, url, "user", "POST", "/auth/update-password", map[string]any{"old_password": old, "new_password": new, "new_password2": new})
	}
	has(t, "too short for the hook", update("C8qnIo29", "short"), "400 ", "rejected-by-hook", "invalid password format")
	has(t, "right", update("C8qnIo29", "longer than that"), "200 {}")
	has(t, "the old one", update("C8qnIo29", "longer than that"), "401 ", "Old password mismatch")
	has(t, "the new one", call(t, url, "", "POST", "/auth/authorize", map[string]any{"type": "keypair", "domain": "default", "username": "user@lablup.com", "password": "longer than that"}), "200 ")
	has(t, "too long a name", call(t, url, "user", "POST", "/auth/update-full-name", map[string]any{"email": "x", "full_name": strings.Repeat("x", 65)}), "400 ")
}
