package up

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	backendai "backend.ai/manager"
	agentimages "backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/images"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDirectory(path); !errors.Is(err, backendai.Conflict) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Error("two in one directory:", err)
	}
	first, err := d.port("a")
	second, err2 := d.port("b")
	if err != nil || err2 != nil || first == second {
		t.Fatal(first, second, err, err2)
	}
	name, secret := d.state.Name, d.state.Secret
	d.close()

	d, err = openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.port("a"); again != first || err != nil || d.state.Name != name || d.state.Secret != secret {
		t.Error("not remembered:", again, first, err, d.state)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if other, err := d.port("a"); other == first || other == second || err != nil {
		t.Error("a port in use was given:", other, err)
	}
	d.close()

	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDirectory(foreign); !errors.Is(err, backendai.InvalidConfig) {
		t.Error("a directory of somebody else's was taken:", err)
	}
	for _, f := range []string{"state.json", "lock"} {
		if st, err := os.Stat(filepath.Join(path, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Error(f, st, err)
		}
	}
}

func TestAddressesOfRealServers(t *testing.T) {
	env := func(name string) string { return map[string]string{"PGPASSWORD": "pp", "REDISCLI_AUTH": "rr"}[name] }
	for text, want := range map[string]string{
		"postgresql://u:p@h:1/n": "h:1 n u p", "postgres://u@h/n": "h:5432 n u pp", "postgresql://h/n": "", "mysql://u@h/n": "", "postgresql://u:hush@h/": "",
	} {
		db, err := parseDatabase(text, env)
		got := ""
		if err == nil {
			got = strings.Join([]string{db.Addr.String(), db.Name, db.User, db.Password.Reveal()}, " ")
		}
		if got != want || err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %q %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"h:1": "h:1 rr", "redis://:p@h:1": "h:1 p", "redis://h:1/": "h:1 rr", "h": "", "redis://h:1/2": "", "http://h:1": ""} {
		addr, password, err := parseRedis(text, env)
		got := ""
		if err == nil {
			got = addr.String() + " " + password
		}
		if got != want {
			t.Errorf("%s: %q %v", text, got, err)
		}
	}
}

func TestSettings(t *testing.T) {
	c := shared.New(etcdtest.New(t).Client(), shared.Config{Namespace: "test"})
	ctx := t.Context()
	if _, err := c.Put(ctx, "volumes/_mount", "/mine", shared.Global); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(writeMissing(ctx, c, wantedSettings("/folders")), writeRedis(ctx, c, "h:1", "secret")); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeRedis(ctx, c, "h:2", ""); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"volumes/_mount": "/mine", "volumes/_default_host": "local", "volumes/_types/user": "", "config/redis/addr": "h:2", "config/docker/registry/cr.backend.ai": "https://cr.backend.ai",
	} {
		if got, ok, err := c.Get(ctx, key, shared.Global); got != want || !ok || err != nil {
			t.Error(key, got, ok, err)
		}
	}
	if _, ok, _ := c.Get(ctx, "config/redis/password", shared.Global); ok {
		t.Error("the old password stayed")
	}
}

func offered(version string) agentimages.Image {
	return agentimages.Image{
		Registry: imageRegistry, Name: "stable/python", Tag: version + ownTag, Architecture: "x86_64", Digest: "sha256:" + version, Runtime: agentimages.RuntimePython,
		Labels: map[string]string{"ai.backend.resource.min.cpu": "1"},
	}
}

func TestCatalogFollowsTheMachine(t *testing.T) {
	pool, ctx := dbtest.New(t), t.Context()
	foreign := images.Image{Canonical: "cr.backend.ai/stable/python:3.9", Registry: imageRegistry, Name: "stable/python", Tag: "3.9", Architecture: "x86_64"}
	if err := images.Put(ctx, pool, foreign); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"3.10", "3.11", "3.11"} {
		if err := fillCatalog(ctx, pool, []agentimages.Image{offered(version)}, false); err != nil {
			t.Fatal(err)
		}
		i, err := images.Find(ctx, pool, pythonAlias, "")
		if err != nil || i.Tag != version+ownTag || i.Resources["cpu"].Min != "1" {
			t.Error(version, i, err)
		}
	}
	list, err := images.List(ctx, pool)
	if err != nil || len(list) != 2 {
		t.Error(list, err)
	}
	// What somebody has decided stays.
	if err := images.Dealias(ctx, pool, pythonAlias); err != nil {
		t.Fatal(err)
	}
	i, err := images.Find(ctx, pool, foreign.Canonical, "")
	if err == nil {
		err = images.Alias(ctx, pool, pythonAlias, i)
	}
	if err == nil {
		err = fillCatalog(ctx, pool, []agentimages.Image{offered("3.12")}, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	if i, err = images.Find(ctx, pool, pythonAlias, ""); err != nil || i.Tag != "3.9" {
		t.Error(i.Canonical, err)
	}
	if list, err = images.List(ctx, pool); err != nil || len(list) != 3 {
		t.Error("a shared table lost an image of another machine:", list, err)
	}
}

func TestProgressIsLinesWithoutATerminal(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b)
	p.Say("one")
	p.Say("two")
	p.Close()
	if b.String() != "one\ntwo\n" {
		t.Errorf("%q", b.String())
	}
}
