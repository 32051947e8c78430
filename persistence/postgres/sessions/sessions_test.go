package sessions

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// sessionRows adds sessions of the user, young ones last: every third has ended; a session's second kernel has an id of its own.
const sessionRows = `INSERT INTO kernels (id, session_id, session_creation_id, session_name, session_type, cluster_mode, cluster_size, cluster_role, cluster_idx, cluster_hostname,
 scaling_group, agent_addr, domain_name, group_id, user_uuid, access_key, image, architecture, registry, occupied_slots, occupied_shares, environ, mounts,
 resource_opts, repl_in_port, repl_out_port, stdin_port, stdout_port, service_ports, created_at, status, status_changed, status_info, status_data, num_queries)
SELECT CASE role WHEN 'main' THEN id ELSE ('b' || substr(id::text, 2))::uuid END, id, 'c' || i, 's' || i, 'INTERACTIVE', 'single-node', 2, role, 1, role || '1',
 'default', '', 'default', '2de2b969-1d04-48a6-af16-0bc8adb3c831', 'dfa9da54-4b28-432f-be29-c0d680c7a412', 'AKIANABBDUSEREXAMPLE',
 'python', 'x86_64', '', '{}', '{}', '{}', '{}', '{}', 0, 0, 0, 0, '[]', '2022-05-01'::timestamptz + i * interval '1 s',
 (CASE WHEN i % 3 = 0 THEN 'TERMINATED' ELSE 'RUNNING' END)::kernelstatus, now(), '', '{}', 0
FROM generate_series($1::int, $2::int) i, LATERAL (SELECT ('a' || lpad(i::text, 7, '0') || '-0000-4000-8000-000000000000')::uuid id) x, unnest(ARRAY['main', 'sub']) role`

func cluster(t *testing.T, from, to int) *pgxpool.Pool {
	t.Helper()
	pool := dbtest.New(t)
	golden.Cluster(t, pool)
	if _, err := pool.Exec(context.Background(), sessionRows, from, to); err != nil {
		t.Fatal(err)
	}
	return pool
}

const key = "AKIANABBDUSEREXAMPLE"

// TestFind: the kinds of references go one after the other, live ones and all (spec/rest-session §2.2).
func TestFind(t *testing.T) {
	pool := cluster(t, 1, 30)
	for _, c := range []struct {
		name, ref, key string
		live, all      string
	}{
		{"a name", "s4", key, "s4", "s4"},
		{"a name that has ended", "s3", key, "", "s3"},
		{"a name before its prefixes", "s1", key, "s1", "s1"},
		{"an id", "a0000005-0000-4000-8000-000000000000", key, "s5", "s5"},
		{"a prefix of an id", "a0000005", key, "s5", "s5"},
		{"a prefix of many ids, newest first", "a000001", key, "s19 s17 s16 s14 s13 s11 s10", "s19 s18 s17 s16 s15 s14 s13 s12 s11 s10"},
		{"a prefix of names, cut off", "s", key, "s29 s28 s26 s25 s23 s22 s20 s19 s17 s16", "s30 s29 s28 s27 s26 s25 s24 s23 s22 s21"},
		{"a kernel of a session", "b0000007", key, "s7", "s7"},
		{"wildcards mean themselves", "s%", key, "", ""},
		{"another's", "s4", "AKIAIOSFODNN7EXAMPLE", "", ""},
		{"nothing", "x", key, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for stale, want := range map[bool]string{false: c.live, true: c.all} {
				list, err := Find(context.Background(), pool, c.ref, c.key, stale)
				if err != nil {
					t.Fatal(err)
				}
				names := make([]string, len(list))
				for i, m := range list {
					names[i] = m.Name
				}
				if got := strings.Join(names, " "); got != want {
					t.Errorf("stale %v: got %q, want %q", stale, got, want)
				}
			}
		})
	}
	if _, err := One(context.Background(), pool, "a000001", key, false); !is(err, backendai.TooManySessionsMatched) {
		t.Error(err)
	}
	if _, err := One(context.Background(), pool, "x", key, false); !is(err, backendai.SessionNotFound) {
		t.Error(err)
	}
	if m, err := Live(context.Background(), pool, "s3", key); m != nil || err != nil {
		t.Error(m, err)
	}
	if m, err := Live(context.Background(), pool, "s4", key); err != nil || m == nil || m.Status != backendai.Running || m.ID.String() != "a0000004-0000-4000-8000-000000000000" {
		t.Error(m, err)
	}
}

func is(err error, code backendai.Code) bool {
	var e *backendai.Error
	return errors.As(err, &e) && e.Code == code
}

// TestPlans: names and ids are looked up in indexes of names and ids, also where the database has no statistics of the table yet
// and hardly any rows: the plans that connections make then, for any arguments, they keep.
func TestPlans(t *testing.T) {
	ctx := context.Background()
	pool := cluster(t, 1, 1)
	for rows := 2; rows <= 600; rows += rows/3 + 1 {
		for _, c := range []struct{ where, index, arguments string }{
			{`access_key = $1 AND k.session_name = $2` + ofLive + inOrder, "ix_kernels_unique_sess_token", `'key', 's4'`},
			{`access_key = $1 AND k.session_name = $2` + ofLive, "ix_kernels_unique_sess_token", `'key', 's4'`},
			{`access_key = $1 AND k.session_name = $2` + ofAll + inOrder, "ix_kernels_session_name", `'key', 's4'`},
			{byID, "Index Scan using", `'a0000004-0000-4000-8000-000000000000'`},
		} {
			tx, err := pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, sql := range []string{`SET LOCAL plan_cache_mode = force_generic_plan`, `PREPARE search AS SELECT status FROM public.kernels k WHERE ` + c.where} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					t.Fatal(err)
				}
			}
			found, err := tx.Query(ctx, `EXPLAIN EXECUTE search(`+c.arguments+`)`, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(found, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if plan := strings.Join(lines, "\n"); !strings.Contains(plan, c.index) || strings.Contains(plan, "Index Scan using ix_kernels_cluster_role") || strings.Contains(plan, "Seq Scan") {
				t.Errorf("%d rows, %s\n%s", rows, c.where, plan)
			}
			_, err = tx.Exec(ctx, `DEALLOCATE search`)
			if err := errors.Join(err, tx.Rollback(ctx)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := pool.Exec(ctx, sessionRows, rows, rows+rows/3); err != nil {
			t.Fatal(err)
		}
	}
}
