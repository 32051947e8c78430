package accounts_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/credential"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const userKey, adminKey = "AKIANABBDUSEREXAMPLE", "AKIAIOSFODNN7EXAMPLE"

func open(t *testing.T) (*accounts.Accounts, *pgxpool.Pool) {
	t.Helper()
	pool := dbtest.New(t)
	golden.Cluster(t, pool)
	l := changes.NewListener(pool)
	a := accounts.New(pool, l)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	<-l.Listening()
	return a, pool
}

// eventually polls: announcements travel through the database.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatal("in vain: " + what)
		}
	}
}

func TestReads(t *testing.T) {
	a, _ := open(t)
	ctx := t.Context()
	c, err := a.Credential(ctx, adminKey)
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	if !c.IsAdmin() || !c.IsSuperadmin() || c.User.Email != "admin@lablup.com" || c.User.Domain != "default" || c.User.Status != backendai.UserActive ||
		c.Secret != "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" || *c.Keypair.RateLimit != 1000000 || c.Policy.Name != "default" ||
		c.Policy.MaxConcurrentSessions != 30 || c.Policy.IdleTimeout != time.Hour || c.Policy.DefaultForUnspecified != backendai.Unlimited ||
		len(c.Policy.AllowedVFolderHosts) != 1 {
		t.Errorf("%+v", c)
	}
	if shown := fmt.Sprintf("%+v", c); strings.Contains(shown, "wJalrXUtnFEMI") {
		t.Error("the secret shows")
	}
	if c, err := a.Credential(ctx, "AKIAUNKNOWN"); c != nil || err != nil {
		t.Error(c, err)
	}
	o, err := a.Owner(ctx, userKey)
	if err != nil || o == nil || o.Domain != "default" || o.Role != backendai.RoleUser || o.Email != "user@lablup.com" {
		t.Error(o, err)
	}
	u, err := a.UserByEmail(ctx, "user@lablup.com")
	if err != nil || u == nil || u.ID != o.User {
		t.Error(u, err)
	}
	d, err := a.Domain(ctx, "default")
	if err != nil || d == nil || !d.IsActive || len(d.AllowedDockerRegistries) != 2 {
		t.Error(d, err)
	}
	groups, err := a.GroupsOf(ctx, u.ID)
	if err != nil || len(groups) != 1 || groups[0].Name != "default" {
		t.Fatal(groups, err)
	}
	g, err := a.Group(ctx, groups[0].ID)
	if err != nil || g == nil || g.Domain != "default" {
		t.Error(g, err)
	}
	g, err = a.GroupByName(ctx, "default", "default")
	if err != nil || g == nil || g.ID != groups[0].ID {
		t.Error(g, err)
	}
	for _, get := range []func() (any, error){
		func() (any, error) { v, err := a.Group(ctx, uuid.New()); return v == nil, err },
		func() (any, error) { v, err := a.GroupByName(ctx, "other", "default"); return v == nil, err },
		func() (any, error) { v, err := a.Domain(ctx, "nowhere"); return v == nil, err },
		func() (any, error) { v, err := a.UserByEmail(ctx, "nobody"); return v == nil, err },
		func() (any, error) { v, err := a.Owner(ctx, "AKIA"); return v == nil, err },
		func() (any, error) { v, err := a.Login(ctx, "other", "user@lablup.com"); return v == nil, err },
	} {
		if none, err := get(); none != true || err != nil {
			t.Error(none, err)
		}
	}
}

// A change by anybody, not only through this package, is seen long before a cached value would be too old.
func TestChangesAreSeen(t *testing.T) {
	a, pool := open(t)
	ctx := t.Context()
	for i := range 3 {
		active := i%2 == 1
		if c, _ := a.Credential(ctx, userKey); (c != nil) == active {
			t.Fatal("wrong start", i)
		}
		if _, err := pool.Exec(ctx, `UPDATE public.keypairs SET is_active = $2 WHERE access_key = $1`, userKey, active); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the change of the key", func() bool { c, _ := a.Credential(ctx, userKey); return (c != nil) == active })
	}
}

func TestSignup(t *testing.T) {
	a, _ := open(t)
	ctx := t.Context()
	s := accounts.Signup{Domain: "default", Email: "new@example.com", Username: "new@example.com", Hash: "x", Status: backendai.UserActive, StatusInfo: "user-signup",
		Role: backendai.RoleUser, ResourcePolicy: "default", Group: "default", RateLimit: 1000}
	user, pair, err := a.Signup(ctx, s)
	if err != nil || !pair.Access.Generated() || len(pair.Secret.Reveal()) != 40 {
		t.Fatal(user, pair, err)
	}
	c, err := a.Credential(ctx, pair.Access)
	if err != nil || c == nil || c.User.ID != user || c.IsAdmin() || c.User.Role != backendai.RoleUser || c.Secret != pair.Secret {
		t.Fatal(c, err)
	}
	if g, err := a.GroupsOf(ctx, user); err != nil || len(g) != 1 {
		t.Error(g, err)
	}
	for what, change := range map[string]func(*accounts.Signup){
		"Email already exists":            func(*accounts.Signup) {},
		"No such domain":                  func(s *accounts.Signup) { s.Email, s.Username, s.Domain = "a@b", "a@b", "nowhere" },
		"No such keypair resource policy": func(s *accounts.Signup) { s.Email, s.Username, s.ResourcePolicy = "a@b", "a@b", "nowhere" },
		"Username already exists":         func(s *accounts.Signup) { s.Email = "a@b" },
		"A value is too long or has characters that can't be stored": func(s *accounts.Signup) { s.Email, s.Username = "a@b", strings.Repeat("x", 65) },
	} {
		other := s
		change(&other)
		_, _, err := a.Signup(ctx, other)
		if e := backendai.AsError(err); e == nil || e.Code != backendai.GenericBadRequest || *e.Message != what {
			t.Errorf("%v, want %s", err, what)
		}
	}
	other := s
	other.Email, other.Username, other.Group = "c@d", "c@d", "nowhere"
	user, _, err = a.Signup(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	if g, err := a.GroupsOf(ctx, user); err != nil || len(g) != 0 {
		t.Error(g, err)
	}
	if err := a.Deactivate(ctx, s.Email); err != nil {
		t.Fatal(err)
	}
	if c, err := a.Credential(ctx, pair.Access); c != nil || err != nil {
		t.Error("the key still works", err)
	}
	if u, err := a.UserByEmail(ctx, s.Email); err != nil || u.Status != backendai.UserInactive {
		t.Error(u, err)
	}
}

func TestPasswordAndNameAndSSHKeys(t *testing.T) {
	a, _ := open(t)
	ctx := t.Context()
	l, err := a.Login(ctx, "default", "user@lablup.com")
	if err != nil || l == nil || !credential.CheckPassword(l.Hash, "C8qnIo29") {
		t.Fatal(l, err)
	}
	if err := a.SetPassword(ctx, l.User.ID, l.Hash, "new"); err != nil {
		t.Fatal(err)
	}
	if err := a.SetPassword(ctx, l.User.ID, l.Hash, "newer"); !errors.Is(err, accounts.ErrChanged) {
		t.Error(err)
	}
	if ok, err := a.SetFullName(ctx, l.User.ID, "Ünï"); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := a.SetFullName(ctx, uuid.New(), "x"); ok || err != nil {
		t.Error(ok, err)
	}
	if _, err := a.SetFullName(ctx, l.User.ID, "a\x00b"); backendai.CodeOf(err) != backendai.GenericBadRequest {
		t.Error(err)
	}
	if u, err := a.UserByEmail(ctx, "user@lablup.com"); err != nil || *u.FullName != "Ünï" {
		t.Error(u, err)
	}
	if key, err := a.SSHPublicKey(ctx, userKey); key != nil || err != nil {
		t.Error(key, err)
	}
	if err := a.SetSSHKeypair(ctx, userKey, credential.SSHKeypair{Public: "ssh-rsa AAAA", Private: "secret"}); err != nil {
		t.Fatal(err)
	}
	if key, err := a.SSHPublicKey(ctx, userKey); err != nil || *key != "ssh-rsa AAAA" {
		t.Error(key, err)
	}
	pair, err := a.LoginKeypair(ctx, l.User.ID)
	if err != nil || pair.Access != userKey {
		t.Error(pair, err)
	}
	if pair, err := a.LoginKeypair(ctx, uuid.New()); pair != nil || err != nil {
		t.Error(pair, err)
	}
}

func TestUsage(t *testing.T) {
	_, pool := open(t)
	u := accounts.NewUsage(accounts.SaveUsage(pool))
	if err := u.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 5 {
		u.Note(userKey, at.Add(time.Duration(i)*time.Second))
	}
	u.Note("AKIAUNKNOWN", at)
	if err := u.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	var last time.Time
	if err := pool.QueryRow(t.Context(), `SELECT num_queries, last_used FROM public.keypairs WHERE access_key = $1`, userKey).Scan(&n, &last); err != nil {
		t.Fatal(err)
	}
	if n != 5 || !last.Equal(at.Add(4*time.Second)) {
		t.Error(n, last)
	}
}
