package journal

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/record"
	"backend.ai/manager/persistence/postgres/shards"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var (
	groupID = uuid.MustParse("2de2b969-1d04-48a6-af16-0bc8adb3c831")
	userID  = uuid.MustParse("dfa9da54-4b28-432f-be29-c0d680c7a412")
)

// world is a database with an owner, a scaling group, eight shards under their first epoch, and a running journal.
type world struct {
	*testing.T
	db      postgres.Config
	pool    *pgxpool.Pool
	journal *Journal
	epochs  map[int32]int64
}

func newWorld(t *testing.T) *world {
	ctx := t.Context()
	db := dbtest.Config(t)
	pool, err := postgres.Connect(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	_, err = pool.Exec(ctx, `
INSERT INTO domains (name, dotfiles, is_active, total_resource_slots, allowed_vfolder_hosts, allowed_docker_registries) VALUES ('default', '\x90', true, '{}', '{}', '{}');
INSERT INTO groups (id, dotfiles, name, is_active, domain_name, total_resource_slots, allowed_vfolder_hosts) VALUES ('2de2b969-1d04-48a6-af16-0bc8adb3c831', '\x90', 'default', true, 'default', '{}', '{}');
INSERT INTO users (status, uuid, username, email, domain_name, role) VALUES ('active', 'dfa9da54-4b28-432f-be29-c0d680c7a412', 'user', 'user@example.com', 'default', 'user');
INSERT INTO keypair_resource_policies (default_for_unspecified, max_session_lifetime, name, total_resource_slots, max_concurrent_sessions, max_containers_per_session, max_vfolder_count, max_vfolder_size, idle_timeout, allowed_vfolder_hosts) VALUES ('UNLIMITED', 0, 'default', '{}', 5, 1, 10, 0, 600, '{}');
INSERT INTO keypairs (dotfiles, bootstrap_script, user_id, access_key, secret_key, is_active, is_admin, rate_limit, resource_policy, "user") VALUES ('\x90', '', 'user@example.com', 'AKTEST', 'secret', true, false, 1000, 'default', 'dfa9da54-4b28-432f-be29-c0d680c7a412');
INSERT INTO scaling_groups (name, is_active, driver, driver_opts, scheduler, scheduler_opts) VALUES ('default', true, 'static', '{}', 'fifo', '{}');`)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := shards.Ensure(ctx, pool, 8); err != nil || n != 8 {
		t.Fatal(n, err)
	}
	epochs, err := shards.Take(ctx, pool, []int32{0, 1, 2, 3, 4, 5, 6, 7}, "node")
	if err != nil {
		t.Fatal(err)
	}
	j := New(pool, Config{}, slog.New(slog.DiscardHandler))
	j.Start()
	t.Cleanup(j.Stop)
	return &world{t, db, pool, j, epochs}
}

func (w *world) guard(shard int32) Guard { return Guard{shard, w.epochs[shard]} }

// submit hands entries over and returns what became of each.
func (w *world) submit(entries ...*Entry) []error {
	w.Helper()
	results := make([]error, len(entries))
	done := make(chan int, len(entries))
	for i, e := range entries {
		e.Done = func(err error) { results[i] = err; done <- i }
		if err := w.journal.Submit(e); err != nil {
			w.Fatal(err)
		}
	}
	for range entries {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			w.Fatal("the journal does not answer")
		}
	}
	return results
}

func newKernel(name string) *record.Kernel {
	id := uuid.New()
	return &record.Kernel{
		ID: id, SessionID: id, CreationID: "c", SessionName: name, SessionType: backendai.Interactive,
		ClusterMode: backendai.SingleNode, ClusterSize: 1, ClusterRole: "main", ClusterIdx: 1, ClusterHostname: "main1",
		ScalingGroup: "default", DomainName: "default", GroupID: groupID, UserUUID: userID, AccessKey: "AKTEST",
		Image: "cr.example.com/stable/python:3.9", Architecture: "x86_64", Registry: "cr.example.com",
		OccupiedSlots: backendai.SlotsOf("cpu", "1", "mem", "1g"), Environ: []string{"A=1", `B="q", \`},
		ResourceOpts: json.RawMessage(`{"shmem": 67108864}`), PreopenPorts: []int32{8080},
		CreatedAt: time.Now(), Status: backendai.Pending, Result: backendai.ResultUndefined,
	}
}

func (w *world) text(sql string, args ...any) string {
	w.Helper()
	var s string
	if err := w.pool.QueryRow(context.Background(), sql, args...).Scan(&s); err != nil {
		w.Fatal(err)
	}
	return s
}

func TestSessionIsWrittenAsTheOriginalWritesIt(t *testing.T) {
	w := newWorld(t)
	k := newKernel("first")
	if err := w.submit(&Entry{Guard: w.guard(1), Sessions: []NewSession{{Kernels: []*record.Kernel{k}}}})[0]; err != nil {
		t.Fatal(err)
	}
	got := w.text(`SELECT concat_ws('|', status, session_type, cluster_mode, occupied_slots, occupied_shares, environ, resource_opts, preopen_ports, mount_map,
		result, coalesce(status_info, '-'), coalesce(status_data::text, '-'), coalesce(agent, '-'), repl_in_port, attached_devices) FROM kernels WHERE id = $1`, k.ID)
	want := `PENDING|INTERACTIVE|single-node|{"cpu": "1", "mem": "1073741824"}|{}|{A=1,"B=\"q\", \\"}|{"shmem": 67108864}|{8080}|{}|UNDEFINED|-|-|-|0|{}`
	if got != want {
		t.Errorf("row\n got %s\nwant %s", got, want)
	}
}

func TestPatchesOfOneBatchKeepTheirOrder(t *testing.T) {
	w := newWorld(t)
	k := newKernel("order")
	patch := func(mask record.Field, change func(*record.Kernel)) *Entry {
		p := &record.KernelPatch{ID: k.ID, Mask: mask}
		change(&p.Kernel)
		return &Entry{Guard: w.guard(1), Kernels: []*record.KernelPatch{p}}
	}
	info := func(s string) func(*record.Kernel) { return func(k *record.Kernel) { k.StatusInfo = &s } }
	results := w.submit(
		&Entry{Guard: w.guard(1), Sessions: []NewSession{{Kernels: []*record.Kernel{k}}}},
		patch(record.FieldStatus|record.FieldStatusInfo, func(k *record.Kernel) { k.Status = backendai.Preparing; info("one")(k) }),
		patch(record.FieldStatusInfo, info("two")),
		patch(record.FieldContainerLog, func(*record.Kernel) {}),
		patch(record.FieldStatusInfo, info("three")),
	)
	if err := errors.Join(results...); err != nil {
		t.Fatal(err)
	}
	if got := w.text(`SELECT status || ' ' || status_info FROM kernels WHERE id = $1`, k.ID); got != "PREPARING three" {
		t.Errorf("got %q", got)
	}
}

func TestDeposedEntriesAreRefusedAlone(t *testing.T) {
	w := newWorld(t)
	mine, lost := newKernel("mine"), newKernel("lost")
	old := w.guard(2)
	if _, err := shards.Take(t.Context(), w.pool, []int32{2}, "other"); err != nil {
		t.Fatal(err)
	}
	also := old
	placed := newKernel("placed")
	results := w.submit(
		&Entry{Guard: w.guard(0), Sessions: []NewSession{{Kernels: []*record.Kernel{mine}}}},
		&Entry{Guard: old, Sessions: []NewSession{{Kernels: []*record.Kernel{lost}}}},
		&Entry{Guard: w.guard(4), Also: &also, Sessions: []NewSession{{Kernels: []*record.Kernel{placed}}}},
	)
	if results[0] != nil || !errors.Is(results[1], ErrDeposed) || !errors.Is(results[2], ErrSchedulerDeposed) {
		t.Errorf("results %v", results)
	}
	if n := w.text(`SELECT string_agg(session_name, ',') FROM kernels`); n != "mine" {
		t.Errorf("rows of %s", n)
	}
}

// A transaction that waits for a shard's row while another node raises its epoch sees the new one.
func TestEpochRaisedMeanwhile(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	raise, err := w.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raise.Rollback(ctx) }()
	if _, err := raise.Exec(ctx, `UPDATE backendai_actors.shards SET epoch = epoch + 1 WHERE shard = 2`); err != nil {
		t.Fatal(err)
	}
	results := make(chan []error, 1)
	go func() {
		results <- w.submit(&Entry{Guard: w.guard(2), Sessions: []NewSession{{Kernels: []*record.Kernel{newKernel("late")}}}},
			&Entry{Guard: w.guard(4), Sessions: []NewSession{{Kernels: []*record.Kernel{newKernel("beside")}}}})
	}()
	deadline := time.Now().Add(10 * time.Second)
	for w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == "0" {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the row")
		}
	}
	if err := raise.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if errs := <-results; !errors.Is(errs[0], ErrDeposed) || errs[1] != nil {
		t.Errorf("results %v", errs)
	}
	if names := w.text(`SELECT string_agg(session_name, ',') FROM kernels`); names != "beside" {
		t.Errorf("rows of %s", names)
	}
}

func TestTakenNameIsRefusedAloneAndOwnRowIsRecognised(t *testing.T) {
	w := newWorld(t)
	first, second := newKernel("same"), newKernel("same")
	sub := newKernel("same")
	sub.ID, sub.SessionID, sub.ClusterRole = uuid.New(), second.ID, "sub"
	results := w.submit(
		&Entry{Guard: w.guard(0), Sessions: []NewSession{{Kernels: []*record.Kernel{first}}}},
		&Entry{Guard: w.guard(0), Sessions: []NewSession{{Kernels: []*record.Kernel{second, sub}}}},
	)
	if results[0] != nil || !errors.Is(results[1], ErrNameTaken) {
		t.Fatalf("results %v", results)
	}
	// The commit's answer may get lost: the same entry again is no conflict with itself.
	if err := w.submit(&Entry{Guard: w.guard(0), Sessions: []NewSession{{Kernels: []*record.Kernel{first}}}})[0]; err != nil {
		t.Errorf("repeated: %v", err)
	}
	if n := w.text(`SELECT count(*)::text FROM kernels`); n != "1" {
		t.Errorf("%s rows", n)
	}
	// A rename into a taken name.
	other := newKernel("other")
	w.submit(&Entry{Guard: w.guard(0), Sessions: []NewSession{{Kernels: []*record.Kernel{other}}}})
	rename := &record.KernelPatch{ID: other.ID, Mask: record.FieldSessionName, Kernel: record.Kernel{SessionName: "same"}}
	if err := w.submit(&Entry{Guard: w.guard(0), Kernels: []*record.KernelPatch{rename}})[0]; !errors.Is(err, ErrNameTaken) {
		t.Errorf("rename: %v", err)
	}
}

func TestBrokenEntryIsFoundAndRefusedAlone(t *testing.T) {
	w := newWorld(t)
	var entries []*Entry
	for i := range 9 {
		k := newKernel("session-" + string(rune('a'+i)))
		if i == 5 {
			agent := "no-such-agent"
			k.Agent = &agent // breaks a foreign key
		}
		entries = append(entries, &Entry{Guard: w.guard(0), Sessions: []NewSession{{Kernels: []*record.Kernel{k}}}})
	}
	for i, err := range w.submit(entries...) {
		if (err != nil) != (i == 5) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

func TestAgentRows(t *testing.T) {
	w := newWorld(t)
	agent := record.Agent{ID: "i-a", Status: backendai.AgentAlive, Region: "local", ScalingGroup: "default", Schedulable: true,
		AvailableSlots: backendai.SlotsOf("cpu", "4"), Addr: "tcp://127.0.0.1:6001", FirstContact: time.Now(), Version: "22.03.14", Architecture: "x86_64"}
	stranger := agent
	stranger.ID, stranger.ScalingGroup = "i-b", "nowhere"
	register := func(a record.Agent) *Entry {
		return &Entry{Guard: w.guard(3), Agents: []*AgentPatch{{Mask: AgentRegistration, Agent: a}}}
	}
	results := w.submit(register(agent), register(stranger))
	if results[0] != nil || !errors.Is(results[1], ErrUnknownScalingGroup) {
		t.Fatalf("results %v", results)
	}
	now := time.Now()
	lost := record.Agent{ID: "i-a", Status: backendai.AgentLost, StatusChanged: &now, LostAt: &now}
	occupied := record.Agent{ID: "i-a", OccupiedSlots: backendai.SlotsOf("cpu", "3")}
	w.submit(&Entry{Guard: w.guard(3), Agents: []*AgentPatch{{Mask: AgentLiveness, Agent: lost}}},
		&Entry{Guard: w.guard(3), Agents: []*AgentPatch{{Mask: AgentOccupied, Agent: occupied}}})
	if got := w.text(`SELECT concat_ws('|', status, lost_at IS NOT NULL, occupied_slots, schedulable, addr) FROM agents`); got != `LOST|t|{"cpu": "3"}|t|tcp://127.0.0.1:6001` {
		t.Errorf("agent %s", got)
	}
}

// The statements test the mask by number; record names its bits.
func TestMaskBits(t *testing.T) {
	for field, column := range map[record.Field]string{
		record.FieldStatus: "status ", record.FieldStatusInfo: "status_info", record.FieldStatusData: "status_data", record.FieldStatusChanged: "status_changed",
		record.FieldTerminatedAt: "terminated_at", record.FieldPlacement: "agent_addr", record.FieldContainer: "service_ports", record.FieldOccupied: "occupied_slots",
		record.FieldDevices: "attached_devices", record.FieldLastStat: "last_stat", record.FieldContainerLog: "container_log", record.FieldResult: "result",
		record.FieldSessionName: "session_name", record.FieldNumQueries: "num_queries", record.FieldResourceOpts: "resource_opts",
	} {
		want := "p.mask & " + strconv.Itoa(int(field)) + " <> 0"
		found := false
		for line := range strings.Lines(updateKernels) {
			if strings.HasPrefix(strings.TrimSpace(line), column) && strings.Contains(line, want) {
				found = true
			}
		}
		if !found {
			t.Errorf("no column %s under %s", column, want)
		}
	}
}

// The last of what is said of an owner counts, within a batch and after it; a deposed scheduler says nothing any more.
func TestUses(t *testing.T) {
	w := newWorld(t)
	at := time.Date(2022, 3, 1, 12, 0, 0, 0, time.UTC)
	use := func(key string, cpu float64) *record.PastUse {
		return &record.PastUse{ScalingGroup: "default", AccessKey: key, SlotSeconds: map[backendai.SlotName]float64{"cpu": cpu}, At: at}
	}
	w.submit(&Entry{Guard: w.guard(3), Uses: []*record.PastUse{use("a", 1), use("b", 2)}}, &Entry{Guard: w.guard(3), Uses: []*record.PastUse{use("a", 3.5)}})
	at = at.Add(time.Minute)
	old := w.guard(3)
	if _, err := shards.Take(t.Context(), w.pool, []int32{3}, "another"); err != nil {
		t.Fatal(err)
	}
	errs := w.submit(&Entry{Guard: old, Uses: []*record.PastUse{use("a", 9)}}, &Entry{Guard: Guard{3, old.Epoch + 1}, Uses: []*record.PastUse{use("b", 1e-7)}})
	if !errors.Is(errs[0], ErrDeposed) || errs[1] != nil {
		t.Errorf("results %v", errs)
	}
	if got := w.text(`SELECT string_agg(concat_ws(' ', scaling_group, access_key, slot_seconds, extract(epoch FROM at)::bigint - 1646136000), ', ' ORDER BY access_key) FROM backendai_actors.past_uses`); got !=
		`default a {"cpu": 3.5} 0, default b {"cpu": 0.0000001} 60` {
		t.Errorf("rows %s", got)
	}
}

func TestOptionsOfASessionChange(t *testing.T) {
	w := newWorld(t)
	k := newKernel("first")
	w.submit(&Entry{Guard: w.guard(1), Sessions: []NewSession{{Kernels: []*record.Kernel{k}}}})
	k.ResourceOpts = json.RawMessage(`{"shmem":67108864,"priority":5}`)
	if err := w.submit(&Entry{Guard: w.guard(1), Kernels: []*record.KernelPatch{{ID: k.ID, Mask: record.FieldResourceOpts, Kernel: *k}}})[0]; err != nil {
		t.Fatal(err)
	}
	if got := w.text(`SELECT concat_ws('|', resource_opts, session_name, occupied_slots->>'cpu') FROM kernels WHERE id = $1`, k.ID); got != `{"shmem": 67108864, "priority": 5}|first|1` {
		t.Errorf("row %s", got)
	}
}

func TestStopAnswersWhatWaits(t *testing.T) {
	w := newWorld(t)
	w.journal.Stop()
	if err := w.journal.Submit(&Entry{Guard: w.guard(0)}); !errors.Is(err, ErrStopped) {
		t.Errorf("submit after stop: %v", err)
	}
}

// An entry without rows is told whether its shard is still owned, if it asks for that.
func TestEntryThatWantsToBeSure(t *testing.T) {
	w := newWorld(t)
	old := w.guard(3)
	if errs := w.submit(&Entry{Guard: old, Sure: true}, &Entry{Guard: old}); errs[0] != nil || errs[1] != nil {
		t.Errorf("while it is owned: %v", errs)
	}
	if _, err := shards.Take(t.Context(), w.pool, []int32{3}, "another"); err != nil {
		t.Fatal(err)
	}
	if errs := w.submit(&Entry{Guard: old, Sure: true}, &Entry{Guard: old}, &Entry{Guard: w.guard(4), Sure: true}); !errors.Is(errs[0], ErrDeposed) || errs[1] != nil || errs[2] != nil {
		t.Errorf("after it was taken: %v", errs)
	}
}

// A process that is stopped in the midst of a transaction does not keep its shards: after a moment the server ends the transaction, and another node
// can take them.
func TestStoppedWriterKeepsNoShard(t *testing.T) {
	w := newWorld(t)
	cfg := w.db
	cfg.IdleTimeout = IdleTimeout
	pool, err := postgres.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	batch := []*Entry{{Guard: w.guard(3), Sure: true}}
	if err := begin(t.Context(), conn, batch, map[*Entry]error{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	epochs, err := shards.Take(ctx, w.pool, []int32{3}, "other")
	if err != nil || epochs[3] != w.epochs[3]+1 {
		t.Fatal(epochs, err)
	}
	if took := time.Since(began); took < IdleTimeout/2 {
		t.Errorf("the lock was not held: %v", took)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("the stopped one could go on")
	} else if !retryable(err) || !postgres.IsUnavailable(err) {
		t.Errorf("what it had in hand would be refused instead of tried again: %v", err)
	}
}
