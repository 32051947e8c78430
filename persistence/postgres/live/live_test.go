package live_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/live"
	"backend.ai/manager/test/golden"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const (
	ended  = 4000 // sessions of the past
	living = 20
)

// someLive is a table in which few sessions live among those that have ended.
const someLive = `INSERT INTO kernels (id, session_id, session_creation_id, session_name, session_type, cluster_mode, cluster_size, cluster_role, cluster_idx, cluster_hostname,
 scaling_group, agent, agent_addr, domain_name, group_id, user_uuid, access_key, image, architecture, registry, occupied_slots, occupied_shares, environ, mounts,
 resource_opts, repl_in_port, repl_out_port, stdin_port, stdout_port, service_ports, created_at, status, status_changed, terminated_at, status_info, status_data, num_queries)
SELECT id, id, 'c' || i, 's' || i, 'INTERACTIVE', 'single-node', 1, 'main', 1, 'main1',
 'default', 'i-agent1', '', 'default', '2de2b969-1d04-48a6-af16-0bc8adb3c831', 'dfa9da54-4b28-432f-be29-c0d680c7a412', 'AKIANABBDUSEREXAMPLE',
 'python', 'x86_64', '', '{}', '{}', '{}', '{}', '{}', 0, 0, 0, 0, '[]', '2022-05-01'::timestamptz + i * interval '1 s',
 (CASE WHEN i > $2::int THEN 'RUNNING' WHEN i % 2 = 0 THEN 'CANCELLED' ELSE 'TERMINATED' END)::kernelstatus, now(), '2022-05-02', '', '{}', 0
FROM generate_series(1, $1::int + $2::int) i, LATERAL (SELECT md5(i::text)::uuid id) x`

// statements keeps what is asked about kernels. The pool may open a connection at any time, and set it up with statements of its own.
type statements struct {
	mu   sync.Mutex
	sql  []string
	args [][]any
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "kernels") {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sql, s.args = append(s.sql, q.SQL), append(s.args, q.Args)
	}
	return ctx
}

// take returns what was kept and begins anew.
func (s *statements) take() (sql []string, args [][]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sql, args = s.sql, s.args
	s.sql, s.args = nil, nil
	return sql, args
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

var removed = regexp.MustCompile(`Rows Removed by (?:Filter|Index Recheck|Join Filter): (\d+)`)

// TestNothingReadsThePast: what a shard or a scheduler starts from is found among the sessions that live; those that have ended,
// of which a database of years has millions, are not even looked at.
func TestNothingReadsThePast(t *testing.T) {
	ctx := context.Background()
	plain := dbtest.New(t)
	golden.Cluster(t, plain)
	if _, err := plain.Exec(ctx, `INSERT INTO agents (id, status, status_changed, region, scaling_group, schedulable, available_slots, occupied_slots, addr, first_contact, version, architecture, compute_plugins)
 VALUES ('i-agent1', 'ALIVE', now(), 'local', 'default', true, '{}', '{}', 'tcp://127.0.0.1:6001', now(), '22.03.3', 'x86_64', '{}') ON CONFLICT DO NOTHING`); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Exec(ctx, someLive, living, ended); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Exec(ctx, `ANALYZE kernels`); err != nil {
		t.Fatal(err)
	}
	cfg := plain.Config()
	seen := &statements{}
	cfg.ConnConfig.Tracer = seen
	traced, err := postgres.Open(ctx, cfg, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer traced.Close()

	shardOf := func(id string) string { return cluster.ShardSQL(id, 4) }
	shards := []int32{0, 1, 2, 3}
	user, group := uuid.MustParse("dfa9da54-4b28-432f-be29-c0d680c7a412"), uuid.MustParse("2de2b969-1d04-48a6-af16-0bc8adb3c831")
	for name, read := range map[string]func(*pgxpool.Pool) (int, error){
		"sessions": func(p *pgxpool.Pool) (int, error) {
			list, err := live.Sessions(ctx, p, shardOf, shards)
			return len(list), err
		},
		"sessions on an agent": func(p *pgxpool.Pool) (int, error) {
			list, err := live.SessionsOn(ctx, p, "i-agent1")
			return len(list), err
		},
		"allocations": func(p *pgxpool.Pool) (int, error) {
			list, err := live.Allocations(ctx, p, "default")
			return len(list), err
		},
		"occupancies": func(p *pgxpool.Pool) (n int, err error) {
			list, err := live.Occupancies(ctx, p, "AKIANABBDUSEREXAMPLE", user, group, "default")
			for _, o := range list {
				n += o.Kernels
			}
			return n, err
		},
		"queue": func(p *pgxpool.Pool) (int, error) {
			list, err := live.Queue(ctx, p, "default")
			return len(list) + living, err
		},
		"remnants": func(p *pgxpool.Pool) (int, error) {
			list, err := live.Remnants(ctx, p, shardOf, shards)
			return len(list) + living, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen.take()
			if n, err := read(traced); err != nil || n != living {
				t.Fatalf("%d of %d, %v", n, living, err)
			}
			asked, args := seen.take()
			if len(asked) == 0 {
				t.Fatal("nothing was asked")
			}
			for i, sql := range asked {
				plan := explain(t, plain, sql, args[i])
				for _, m := range removed.FindAllStringSubmatch(plan, -1) {
					if n, _ := strconv.Atoi(m[1]); n > ended/10 {
						t.Errorf("%d rows are read and left out:\n%s", n, plan)
					}
				}
			}
		})
	}
}

func explain(t *testing.T, pool *pgxpool.Pool, sql string, args []any) string {
	t.Helper()
	rows, err := pool.Query(context.Background(), "EXPLAIN ANALYZE "+sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
