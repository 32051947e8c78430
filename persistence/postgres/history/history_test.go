package history

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/fixture"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// people own the kernels.
const people = `{
  "domains": [{"name": "default"}],
  "groups": [{"id": "2de2b969-1d04-48a6-af16-0bc8adb3c831", "name": "default", "domain_name": "default"}],
  "keypair_resource_policies": [{"name": "default", "max_concurrent_sessions": 1, "max_containers_per_session": 1, "max_vfolder_count": 1, "max_vfolder_size": 0, "idle_timeout": 0}],
  "users": [{"uuid": "dfa9da54-4b28-432f-be29-c0d680c7a412", "username": "u", "email": "u@example.com", "domain_name": "default", "role": "user"}],
  "keypairs": [{"user_id": "u@example.com", "user": "dfa9da54-4b28-432f-be29-c0d680c7a412", "access_key": "AKIA", "secret_key": "x", "resource_policy": "default"}]
}`

func TestOnlyWhatEndedLongAgoGoes(t *testing.T) {
	pool, ctx := dbtest.New(t), t.Context()
	if _, err := fixture.Populate(ctx, pool, strings.NewReader(people)); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const many = batch + 5
	// A live kernel, one that ended just now, and more than a batch of old ones.
	if _, err := pool.Exec(ctx, `INSERT INTO public.kernels (id, session_id, session_type, cluster_mode, cluster_size, cluster_role, cluster_idx, cluster_hostname,
 domain_name, group_id, user_uuid, access_key, status, result, created_at, terminated_at, occupied_slots, occupied_shares, repl_in_port, repl_out_port, stdin_port, stdout_port)
 SELECT k.id, k.id, 'INTERACTIVE', 'single-node', 1, 'main', 1, 'main1', 'default', g.id, u.uuid, kp.access_key, 'TERMINATED', 'SUCCESS',
 $1, CASE n WHEN 0 THEN NULL WHEN 1 THEN $1 ELSE $1::timestamptz - interval '2 years' END, '{}', '{}', 0, 0, 0, 0
 FROM generate_series(0, $2::int + 1) n, LATERAL (SELECT md5(n::text)::uuid AS id) k, (SELECT id FROM public.groups LIMIT 1) g, (SELECT uuid FROM public.users LIMIT 1) u,
 (SELECT access_key FROM public.keypairs LIMIT 1) kp`, now, many); err != nil {
		t.Fatal(err)
	}
	before := now.AddDate(-1, 0, 0)
	ended, err := Ended(ctx, pool, before)
	if err != nil || len(ended) != many || ended[0].UUID == uuid.Nil {
		t.Fatal(len(ended), err)
	}
	deleted, err := Delete(ctx, pool, before)
	if err != nil || deleted != many {
		t.Error(deleted, err)
	}
	for _, full := range []bool{false, true} {
		if err := Vacuum(ctx, pool, full); err != nil {
			t.Error(fmt.Sprint("full ", full), err)
		}
	}
	if left, err := Count(ctx, pool); left != 2 || err != nil {
		t.Error(left, err)
	}
}
