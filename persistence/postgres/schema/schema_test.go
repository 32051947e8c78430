package schema_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/schema"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// catalogue describes schema public, a line per thing: what a diff should be of.
func catalogue(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
SELECT format('%s %s #%s %s%s%s', 'column', c.relname || '.' || a.attname,
              row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
              coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')) AS line
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
UNION ALL
SELECT format('%s %s %s', 'relation', c.relname, c.relkind) FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 'i'
UNION ALL
SELECT format('%s %s %s %s', 'constraint', r.conrelid::regclass, r.conname, pg_get_constraintdef(r.oid)) FROM pg_constraint r
WHERE r.connamespace = 'public'::regnamespace
UNION ALL
SELECT format('%s %s %s', 'index', indexname, indexdef) FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT format('%s %s %s', 'enum', t.typname, string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)) FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.typname
UNION ALL
SELECT format('%s %s', 'extension', extname) FROM pg_extension
UNION ALL
SELECT format('%s %s', 'function', p.proname) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
ORDER BY line`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// run executes a script on a connection of its own: dumps change session settings.
func run(t *testing.T, pool *pgxpool.Pool, script string) {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), script, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func oneshot(t *testing.T, pool *pgxpool.Pool) schema.Result {
	t.Helper()
	r, err := schema.Oneshot(t.Context(), pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func load(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// original is a database as 22.03.3 left it, with its revision.
func original(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := dbtest.Empty(t)
	run(t, pool, load(t, "schema-22.03.sql"))
	run(t, pool, `INSERT INTO public.alembic_version VALUES ('`+schema.Head+`')`)
	return pool
}

// TestSameAsTheOriginal compares the catalogue of an empty database after
// Oneshot with that of a dump of the original's.
func TestSameAsTheOriginal(t *testing.T) {
	ours := dbtest.Empty(t)
	if r := oneshot(t, ours); r.Found != schema.Empty {
		t.Errorf("found %q", r.Found)
	}
	want, got := catalogue(t, original(t)), catalogue(t, ours)
	if len(want) < 300 {
		t.Fatalf("only %d things to compare", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("−original +ours:\n%s", diff)
	}
}

// TestAdoption: whatever a 22.03 database looks like in detail, nothing of its
// public schema changes; and without ours it is the original's again.
func TestAdoption(t *testing.T) {
	for name, script := range map[string]string{"fresh": "", "grown": load(t, "grown.sql")} {
		t.Run(name, func(t *testing.T) {
			pool := original(t)
			run(t, pool, script)
			before := catalogue(t, pool)
			r := oneshot(t, pool)
			if r.Found != schema.Current || r.Revision != schema.Head || len(r.Applied) == 0 {
				t.Errorf("%+v", r)
			}
			if diff := cmp.Diff(before, catalogue(t, pool)); diff != "" {
				t.Errorf("changed:\n%s", diff)
			}
			if again := oneshot(t, pool); len(again.Applied) != 0 {
				t.Errorf("second time: %+v", again)
			}
			run(t, pool, `DROP SCHEMA backendai_actors CASCADE`)
			var triggers int
			if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal`).Scan(&triggers); err != nil || triggers != 0 {
				t.Errorf("%d triggers stay, %v", triggers, err)
			}
		})
	}
}

// TestTail upgrades what 21.09.0 had, at every revision it may have stopped at.
func TestTail(t *testing.T) {
	grown := original(t)
	run(t, grown, load(t, "grown.sql"))
	want := withoutOrder(catalogue(t, grown))

	pool := original(t)
	run(t, pool, load(t, "grown.sql"))
	run(t, pool, load(t, "back-to-21.09.sql"))
	run(t, pool, `INSERT INTO scaling_groups (name, driver, driver_opts, scheduler, scheduler_opts) VALUES ('default', 'static', '{}', 'fifo', '{}');
INSERT INTO agents (id, status, addr) VALUES ('i-old', 'LOST', 'tcp://127.0.0.1:6001')`)
	for _, revision := range []string{"8679d0a7e22b", "60a1effa77d2", "d727b5da20e6"} {
		run(t, pool, `UPDATE alembic_version SET version_num = '`+revision+`'`)
		state, err := schema.Status(t.Context(), pool)
		if err != nil || state.Ready() || !strings.Contains(state.Check().Error(), "upgrade") {
			t.Errorf("%s: %+v, %v", revision, state, err)
		}
		if r := oneshot(t, pool); r.Found != schema.Older || r.Revision != revision {
			t.Errorf("%+v", r)
		}
		if diff := cmp.Diff(want, withoutOrder(catalogue(t, pool))); diff != "" {
			t.Errorf("from %s: −grown +upgraded:\n%s", revision, diff)
		}
	}
	var architecture string
	if err := pool.QueryRow(t.Context(), `SELECT architecture FROM agents`).Scan(&architecture); err != nil || architecture != "x86_64" {
		t.Errorf("architecture of an agent from before: %q, %v", architecture, err)
	}
}

// withoutOrder drops the columns' positions, which differ after adding some.
func withoutOrder(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		fields := strings.SplitN(line, " ", 4)
		if fields[0] == "column" {
			line = fields[0] + " " + fields[1] + " " + fields[3]
		}
		out[i] = line
	}
	return out
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"newer":         {`CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('f83d630c0bc9')`, "f83d630c0bc9"},
		"foreign":       {`CREATE TABLE something (x int)`, "no alembic_version"},
		"unfinished":    {`CREATE TABLE alembic_version (version_num varchar(32)); INSERT INTO alembic_version VALUES ('d727b5da20e6'), ('60a1effa77d2')`, "2 rows"},
		"empty version": {`CREATE TABLE alembic_version (version_num varchar(32)); CREATE TABLE kernels (x int)`, "no alembic_version"},
	} {
		t.Run(name, func(t *testing.T) {
			pool := dbtest.Empty(t)
			run(t, pool, c.script)
			before := catalogue(t, pool)
			_, err := schema.Oneshot(t.Context(), pool, nil)
			if !errors.Is(err, backendai.ServerMisconfigured) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if diff := cmp.Diff(before, catalogue(t, pool)); diff != "" {
				t.Errorf("changed:\n%s", diff)
			}
			var ours bool
			if err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'backendai_actors')`).Scan(&ours); err != nil || ours {
				t.Errorf("schema of ours: %v, %v", ours, err)
			}
		})
	}
}

func TestStatusOfAnEmptyDatabase(t *testing.T) {
	state, err := schema.Status(t.Context(), dbtest.Empty(t))
	if err != nil || state.Revision != "" || state.Version != 0 || state.Head != schema.Head || state.Latest < 2 {
		t.Errorf("%+v, %v", state, err)
	}
	if err := state.Check(); err == nil || !strings.Contains(err.Error(), "schema oneshot") {
		t.Errorf("%v", err)
	}
}

// TestTogether: managers that start at the same moment make one schema.
func TestTogether(t *testing.T) {
	pool := dbtest.Empty(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := schema.Oneshot(t.Context(), pool, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if state, err := schema.Status(t.Context(), pool); err != nil || !state.Ready() {
		t.Errorf("%+v, %v", state, err)
	}
}

// TestAnnounce: what changes a cached read is announced once per table and
// transaction, what happens with every request is not.
func TestAnnounce(t *testing.T) {
	pool := dbtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	listener, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(context.Background())
	if _, err := listener.Exec(ctx, "LISTEN "+schema.Channel); err != nil {
		t.Fatal(err)
	}
	steps := []struct{ sql, want string }{
		{`INSERT INTO domains (name, allowed_vfolder_hosts, allowed_docker_registries, dotfiles) VALUES ('d', '{}', '{}', '\x90')`, "domains"},
		{`INSERT INTO users (uuid, email, status, domain_name) VALUES ('00000000-0000-0000-0000-000000000001', 'a@b', 'active', 'd');
		  INSERT INTO users (uuid, email, status, domain_name) VALUES ('00000000-0000-0000-0000-000000000002', 'b@b', 'active', 'd')`, "users"},
		{`INSERT INTO keypair_resource_policies VALUES ('p', now(), 'LIMITED', '{}', 0, 1, 1, 1, 1, 1, '{}')`, "keypair_resource_policies"},
		{`INSERT INTO keypairs (access_key, "user", resource_policy, dotfiles, bootstrap_script) VALUES ('k', '00000000-0000-0000-0000-000000000001', 'p', '', '')`, "keypairs"},
		{`UPDATE keypairs SET last_used = now(), num_queries = num_queries + 1, modified_at = now()`, ""},
		{`UPDATE users SET modified_at = now()`, ""},
		{`UPDATE keypairs SET is_active = false, modified_at = now()`, "keypairs"},
		{`INSERT INTO agents (id, status, region, scaling_group, available_slots, occupied_slots, addr, version, architecture, compute_plugins)
		  SELECT 'i', 'ALIVE', '', name, '{}', '{}', '', '', '', '{}' FROM scaling_groups`, ""},
		{`INSERT INTO groups (name, domain_name, allowed_vfolder_hosts, dotfiles) VALUES ('g', 'd', '{}', '\x90');
		  INSERT INTO association_groups_users SELECT uuid, id FROM users, groups`, "groups association_groups_users"},
		{`DELETE FROM groups`, "groups association_groups_users sgroups_for_groups"}, // by cascade, rows or not
		{`TRUNCATE resource_presets`, "resource_presets"},
		{`INSERT INTO images (name, image, registry, architecture, config_digest, size_bytes, type, labels, resources) VALUES ('n', 'i', 'r', 'x', '', 1, 'COMPUTE', '{}', '{}')`, "images"},
		{`INSERT INTO image_aliases (alias, image) SELECT 'a', id FROM images`, "image_aliases"},
		{`INSERT INTO scaling_groups VALUES ('s', '', true, now(), NULL, 'static', '{}', 'fifo', '{}')`, "scaling_groups"},
		{`INSERT INTO sgroups_for_domains VALUES ('s', 'd')`, "sgroups_for_domains"},
		{`INSERT INTO sgroups_for_keypairs VALUES ('s', 'k')`, "sgroups_for_keypairs"},
		{`INSERT INTO vfolders (host, name, usage_mode, permission, ownership_type, "user", cloneable)
		  SELECT 'local:v', '.n', 'general', 'rw', 'user', uuid, false FROM users LIMIT 1`, "vfolders"},
		{`INSERT INTO vfolder_permissions (vfolder, "user", permission) SELECT v.id, u.uuid, 'ro' FROM vfolders v, users u`, "vfolder_permissions"},
		{`UPDATE vfolders SET last_used = now(), cur_size = 1, num_files = 1`, ""},
		{`UPDATE domains SET total_resource_slots = '{}'`, "domains"},
	}
	for _, step := range steps {
		run(t, pool, step.sql)
		run(t, pool, "NOTIFY "+schema.Channel+", 'mark'")
		got := map[string]int{}
		for {
			n, err := listener.WaitForNotification(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if n.Payload == "mark" {
				break
			}
			got[n.Payload]++
		}
		want := map[string]int{}
		for _, table := range strings.Fields(step.want) {
			want[table] = 1
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s\n%s", step.sql, diff)
		}
	}
}
