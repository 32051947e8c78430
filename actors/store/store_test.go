package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// sharedOptions are settings with options for one scheduler.
type sharedOptions struct{ Shared }

func (sharedOptions) KnownSlots() *backendai.KnownSlots { return backendai.NewKnownSlots() }
func (sharedOptions) SchedulerOptions(policy string) map[string]any {
	return map[string]map[string]any{"lifo": {"priority": "true"}}[policy]
}

const (
	project = "2de2b969-1d04-48a6-af16-0bc8adb3c831"
	user    = "dfa9da54-4b28-432f-be29-c0d680c7a412"
)

func newRows(t *testing.T) (*pgxpool.Pool, *Store) {
	pool := dbtest.New(t)
	execute(t, pool, `
INSERT INTO domains (name, dotfiles, is_active, total_resource_slots, allowed_vfolder_hosts, allowed_docker_registries) VALUES ('default', '\x90', true, '{}', '{}', '{}');
INSERT INTO groups (id, dotfiles, name, is_active, domain_name, total_resource_slots, allowed_vfolder_hosts) VALUES ('`+project+`', '\x90', 'default', true, 'default', '{}', '{}');
INSERT INTO users (status, uuid, username, email, domain_name, role) VALUES ('active', '`+user+`', 'user', 'user@example.com', 'default', 'user');
INSERT INTO keypair_resource_policies (default_for_unspecified, max_session_lifetime, name, total_resource_slots, max_concurrent_sessions, max_containers_per_session, max_vfolder_count, max_vfolder_size, idle_timeout, allowed_vfolder_hosts) VALUES ('UNLIMITED', 0, 'default', '{}', 5, 1, 10, 0, 600, '{}');
INSERT INTO keypairs (dotfiles, bootstrap_script, user_id, access_key, secret_key, is_active, is_admin, rate_limit, resource_policy, "user") SELECT '\x90', '', 'user@example.com', k, 'secret', true, false, 1000, 'default', '`+user+`' FROM unnest(array['AK1', 'AK2']) k;
INSERT INTO scaling_groups (name, is_active, driver, driver_opts, scheduler, scheduler_opts) VALUES ('default', true, 'static', '{}', 'fifo', '{}'), ('other', true, 'static', '{}', 'lifo', '{}');
INSERT INTO sgroups_for_domains (scaling_group, domain) VALUES ('default', 'default'), ('other', 'default')`)
	return pool, New(pool, sharedOptions{}, slog.New(slog.DiscardHandler))
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// waits adds a session that waits in a group, with one container beside the main one.
func waits(t *testing.T, pool *pgxpool.Pool, group, key, status, opts string) {
	t.Helper()
	execute(t, pool, `WITH s AS (SELECT gen_random_uuid() AS id) INSERT INTO kernels (id, session_id, session_creation_id, session_name, session_type, cluster_mode, cluster_size, cluster_role, cluster_idx, cluster_hostname,
 scaling_group, domain_name, group_id, user_uuid, access_key, image, architecture, registry, occupied_slots, occupied_shares, environ, mount_map, attached_devices, resource_opts, repl_in_port, repl_out_port, stdin_port, stdout_port,
 created_at, status, result, preopen_ports)
SELECT CASE role WHEN 'main' THEN s.id ELSE gen_random_uuid() END, s.id, 'c', s.id::text, 'INTERACTIVE', 'single-node', 2, role, 1, role || '1', $1, 'default', '`+project+`', '`+user+`', $2, 'python', 'x86_64', 'r', '{"cpu": "1"}', '{}', '{}', '{}', '{}', $4::jsonb, 0, 0, 0, 0,
 now(), $3::kernelstatus, 'UNDEFINED', '{}' FROM s, unnest(array['main', 'sub']) role`, group, key, status, opts)
}

func TestPolicyIsReadWithWhatIsWrong(t *testing.T) {
	pool, s := newRows(t)
	read := func(group string) *protocol.PolicyChanged {
		t.Helper()
		p, err := s.Policy(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if d := cmp.Diff(&protocol.PolicyChanged{Policy: protocol.Policy{Name: "lifo", Options: protocol.Options{Priority: true}}}, read("other")); d != "" {
		t.Error(d)
	}
	execute(t, pool, `UPDATE scaling_groups SET scheduler_opts = '{"config": {"placement": "heap"}}' WHERE name = 'default'`)
	if d := cmp.Diff(&protocol.PolicyChanged{Policy: protocol.Policy{Name: "fifo"}, Problem: `placement: "heap" is not one of spread, pack`}, read("default")); d != "" {
		t.Error(d)
	}
	if _, err := s.Policy(t.Context(), "nowhere"); err == nil {
		t.Error("a group that does not exist has a policy")
	}
}

func TestASchedulerStartsWithWhatWasUsed(t *testing.T) {
	pool, s := newRows(t)
	at := time.Now().UTC().Truncate(time.Second)
	execute(t, pool, `INSERT INTO backendai_actors.past_uses VALUES ('default', 'AK1', '{"cpu": 12.5, "mem": 1e12}', $1), ('default', 'AK2', '{"cpu": 1}', $2), ('other', 'AK1', '{"cpu": 99}', $1)`, at, at.Add(-21*time.Hour))
	waits(t, pool, "default", "AK1", "PENDING", `{"priority": 7}`)
	load := func() *protocol.SchedulerLoaded {
		t.Helper()
		rows, err := s.Scheduler(t.Context(), "default")
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if rows := load(); rows.UsesRead || rows.Uses != nil || rows.Pending[0].Wishes.Priority != 7 {
		t.Errorf("uses %+v, wishes %+v", rows.Uses, rows.Pending[0].Wishes)
	}
	execute(t, pool, `UPDATE scaling_groups SET scheduler_opts = '{"config": {"fair_share_half_life": "1h"}}' WHERE name = 'default'`)
	rows := load()
	for i := range rows.Uses {
		rows.Uses[i].At = rows.Uses[i].At.UTC()
	}
	want := []protocol.PastUse{{AccessKey: "AK1", SlotSeconds: map[backendai.SlotName]float64{"cpu": 12.5, "mem": 1e12}, At: at}}
	if d := cmp.Diff(want, rows.Uses); d != "" || !rows.UsesRead {
		t.Errorf("uses (-want +got):\n%s", d)
	}
	execute(t, pool, `UPDATE scaling_groups SET scheduler_opts = '{"config": {"fair_share_half_life": "ten minutes"}}' WHERE name = 'default'`)
	if rows := load(); rows.Problem == "" || !rows.UsesRead || len(rows.Uses) != 2 {
		t.Error("what is not understood is not told, or what it may be about not read")
	}
}

// Requests see a group's options as its scheduler does: the last good ones. What waits is counted by sessions, not by containers.
func TestFactsOfTheQueue(t *testing.T) {
	pool, s := newRows(t)
	l := changes.NewListener(pool) // never started: the caches are dropped by hand
	f := NewFacts(pool, sharedOptions{}, accounts.New(pool, l), s, l)
	for range 3 {
		waits(t, pool, "default", "AK1", "PENDING", `{}`)
	}
	waits(t, pool, "default", "AK2", "PENDING", `{}`)
	waits(t, pool, "default", "AK1", "CANCELLED", `{}`)
	waits(t, pool, "other", "AK1", "PENDING", `{}`)
	read := func() *enqueue.Facts {
		t.Helper()
		f.policies.Drop()
		facts := &enqueue.Facts{Owner: enqueue.Owner{AccessKey: "AK1"}, ScalingGroups: []string{"default", "other"}}
		if err := f.queueFacts(context.Background(), facts, &enqueue.Request{}); err != nil {
			t.Fatal(err)
		}
		return facts
	}
	if facts := read(); facts.Waiting != (enqueue.Waiting{}) || facts.Options != (protocol.Options{}) {
		t.Errorf("without a limit: %+v", facts.Waiting)
	}
	execute(t, pool, `UPDATE scaling_groups SET scheduler_opts = '{"config": {"max_pending_sessions_per_keypair": 2}}' WHERE name = 'default'`)
	if facts := read(); facts.Waiting != (enqueue.Waiting{All: 4, Own: 3}) || facts.Options.MaxPendingPerKeypair != 2 {
		t.Errorf("with a limit: %+v", facts.Waiting)
	}
	execute(t, pool, `UPDATE scaling_groups SET scheduler_opts = '{"config": {"max_pending_sessions_per_keypair": "many"}}' WHERE name = 'default'`)
	if facts := read(); facts.Options.MaxPendingPerKeypair != 2 {
		t.Errorf("with nonsense: %+v", facts.Options)
	}
	facts := &enqueue.Facts{Owner: enqueue.Owner{AccessKey: "AK1"}, ScalingGroups: nil}
	if err := f.queueFacts(context.Background(), facts, &enqueue.Request{}); err != nil {
		t.Errorf("without a scaling group: %v", err)
	}
}
