package redis_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	raw "github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/embedded"
	"backend.ai/manager/persistence/redis/event"
	"backend.ai/manager/persistence/redis/redistest"
)

func open(t *testing.T, addr string) *redis.Set {
	t.Helper()
	s, err := redis.Open(t.Context(), redis.Config{Addr: addr, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// direct is a plain client, to look and to play the agent.
func direct(t *testing.T, addr string, db int) func(words ...string) raw.RedisResult {
	t.Helper()
	c, err := raw.NewClient(raw.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true, DisableCache: true, SelectDB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func(words ...string) raw.RedisResult {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return c.Do(ctx, c.B().Arbitrary(words...).Build())
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenTellsWhatIsWrong(t *testing.T) {
	_, err := redis.Open(t.Context(), redis.Config{Addr: "127.0.0.1:1", Patience: 300 * time.Millisecond})
	if backendai.CodeOf(err) != backendai.ServiceUnavailable || !strings.Contains(err.Error(), "config/redis: Redis at 127.0.0.1:1") {
		t.Error(err)
	}
	if _, err := redis.Open(t.Context(), redis.Config{}); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Error(err)
	}
	server, err := embedded.New(embedded.Config{Dir: t.TempDir(), Password: "right"})
	ok(t, err)
	ok(t, server.Start(t.Context()))
	defer func() { ok(t, server.Stop(context.Background())) }()
	_, err = redis.Open(t.Context(), redis.Config{Addr: server.Addr(), Password: config.NewSecret("wr0ng")})
	if backendai.CodeOf(err) != backendai.InvalidConfig || !strings.Contains(err.Error(), "config/redis/password") || strings.Contains(err.Error(), "wr0ng") {
		t.Error(err)
	}
	s, err := redis.Open(t.Context(), redis.Config{Addr: server.Addr(), Password: config.NewSecret("right")})
	ok(t, err)
	ok(t, s.Ping(t.Context()))
	s.Close()
}

func TestAgents(t *testing.T) {
	server, ctx := redistest.New(t), t.Context()
	s := open(t, server.Addr())
	at := time.UnixMicro(1795542799710783)
	ok(t, s.SeeAgents(ctx, map[backendai.AgentID]time.Time{"i-1": at, "i-2": at.Add(time.Second)}))
	live := direct(t, server.Addr(), 2)
	if text, err := live("HGET", "agent.last_seen", "i-1").ToString(); err != nil || text != "1795542799.710783" {
		t.Error(text, err)
	}
	ok(t, live("HSET", "agent.last_seen", "odd", "soon").Error())
	ok(t, s.ForgetAgents(ctx, "i-2", "i-3"))
	seen, err := s.LastSeen(ctx)
	if d := cmp.Diff(map[backendai.AgentID]time.Time{"i-1": at}, seen); err != nil || d != "" {
		t.Error(d, err)
	}
	ok(t, s.UpdateAgentImages(ctx, "i-1", nil, []string{"a", "b"}))
	ok(t, s.UpdateAgentImages(ctx, "i-2", nil, []string{"b"}))
	ok(t, s.UpdateAgentImages(ctx, "i-1", []string{"a", "b"}, []string{"b", "c"}))
	images, err := s.ImageAgents(ctx, []string{"a", "b", "c"})
	if d := cmp.Diff(map[string][]backendai.AgentID{"b": {"i-1", "i-2"}, "c": {"i-1"}}, images); err != nil || d != "" {
		t.Error(d, err)
	}
	ok(t, s.RemoveAgentImages(ctx, "i-1"))
	images, err = s.ImageAgents(ctx, []string{"a", "b", "c"})
	if d := cmp.Diff(map[string][]backendai.AgentID{"b": {"i-2"}}, images); err != nil || d != "" {
		t.Error(d, err)
	}
}

func TestStatistics(t *testing.T) {
	server, ctx := redistest.New(t), t.Context()
	s, stat := open(t, server.Addr()), direct(t, server.Addr(), 0)
	var recorded []struct {
		Key   string
		Hex   string `json:"raw_hex"`
		Value json.RawMessage
	}
	text, err := os.ReadFile("testdata/stats.json")
	ok(t, err)
	ok(t, json.Unmarshal(text, &recorded))
	same := func(o event.Object, want json.RawMessage) {
		t.Helper()
		got, err := json.Marshal(o)
		var a, b any
		if err != nil || json.Unmarshal(got, &a) != nil || json.Unmarshal(want, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s\n%s %v", got, want, err)
		}
	}
	for _, r := range recorded {
		packed, err := hex.DecodeString(r.Hex)
		ok(t, err)
		ok(t, stat("SET", r.Key, string(packed)).Error())
		id, err := backendai.ParseKernelID(r.Key)
		if err != nil {
			agents, err := s.AgentStats(ctx, []backendai.AgentID{backendai.AgentID(r.Key), "nobody"})
			ok(t, err)
			same(agents[backendai.AgentID(r.Key)], r.Value)
			continue
		}
		ids := make([]backendai.KernelID, 700)
		for i := range ids {
			ids[i] = backendai.NewKernelID()
		}
		ids[600] = id
		ok(t, stat("SET", ids[0].String(), "no map").Error())
		kernels, err := s.KernelStats(ctx, ids)
		if err != nil || len(kernels) != 1 {
			t.Error(len(kernels), err)
		}
		same(kernels[id], r.Value)
		ok(t, s.DropKernelStats(ctx, ids))
		if kernels, _ := s.KernelStats(ctx, ids); len(kernels) != 0 {
			t.Error(kernels)
		}
	}
	ok(t, s.SetConcurrency(ctx, map[backendai.AccessKey]int{"AK1": 3, "AK2": 0}))
	used, err := s.Concurrency(ctx, []backendai.AccessKey{"AK1", "AK2", "AK3"})
	if d := cmp.Diff(map[backendai.AccessKey]int{"AK1": 3, "AK2": 0, "AK3": 0}, used); err != nil || d != "" {
		t.Error(d, err)
	}
	if v, _ := stat("GET", "keypair.concurrency_used.AK1").ToString(); v != "3" {
		t.Error(v)
	}
	ok(t, s.CountQueries(ctx, map[backendai.AccessKey]int{"AK1": 2}))
	ok(t, s.CountQueries(ctx, map[backendai.AccessKey]int{"AK1": 5}))
	queries, err := s.QueryCounts(ctx, []backendai.AccessKey{"AK1"})
	ttl, _ := stat("TTL", "kp:AK1:num_queries").AsInt64()
	if err != nil || queries["AK1"] != 7 || ttl < 2591000 {
		t.Error(queries, ttl, err)
	}
}

func TestRateLimit(t *testing.T) {
	server, ctx := redistest.New(t), t.Context()
	s, rate := open(t, server.Addr()), direct(t, server.Addr(), 1)
	now := time.UnixMilli(1795542345220)
	count := func(ak backendai.AccessKey, at time.Time) int64 {
		t.Helper()
		n, err := s.Hit(ctx, ak, at)
		ok(t, err)
		return n
	}
	if a, b, other, later := count("A", now), count("A", now.Add(time.Second)), count("B", now), count("A", now.Add(900*time.Second)); a != 1 || b != 2 || other != 1 || later != 2 {
		t.Error(a, b, other, later)
	}
	answer := rate("ZRANGE", "A", "0", "-1", "WITHSCORES")
	members := answer.String()
	ttl, _ := rate("TTL", "A").AsInt64()
	if !strings.Contains(members, "1795542346.22") || ttl < 890 || ttl > 900 {
		t.Error(members, ttl)
	}
	ok(t, rate("SET", "__request_id", "999999999999").Error())
	count("A", now.Add(901*time.Second))
	if v, _ := rate("GET", "__request_id").ToString(); v != "1" {
		t.Error(v)
	}
	ok(t, rate("SCRIPT", "FLUSH").Error()) // as after a restart
	if n := count("C", now); n != 1 {
		t.Error(n)
	}
}

func TestContainerLog(t *testing.T) {
	server, ctx := redistest.New(t), t.Context()
	s, stream := open(t, server.Addr()), direct(t, server.Addr(), 4)
	var want strings.Builder
	for i := range 40 {
		part := strings.Repeat(string(rune('a'+i%26)), 1000) + "\n"
		want.WriteString(part)
		ok(t, stream("RPUSH", "containerlog.c1", part).Error())
	}
	failed := errors.New("the database is away")
	if err := s.DrainLog(ctx, "c1", func([]byte) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	var got string
	ok(t, s.DrainLog(ctx, "c1", func(log []byte) error { got = string(log); return nil }))
	if got != want.String() {
		t.Error(len(got), want.Len())
	}
	ok(t, s.DrainLog(ctx, "c1", func(log []byte) error { got = string(log); return nil }))
	if got != "" {
		t.Error(len(got))
	}
}

func TestSessionsAndTasks(t *testing.T) {
	server, ctx := redistest.New(t), t.Context()
	s := open(t, server.Addr())
	id, unknown := backendai.NewSessionID(), backendai.NewSessionID()
	ok(t, s.HoldSession(ctx, unknown)) // never touched: stays unknown
	ok(t, s.TouchSession(ctx, id, time.Hour))
	access, now, err := s.SessionAccess(ctx, []backendai.SessionID{id, unknown})
	ok(t, err)
	if a := access[id]; a.Held || now.Sub(a.Last) > time.Minute || now.Before(a.Last) || access[unknown] != (redis.Access{}) {
		t.Error(access, now)
	}
	ok(t, s.HoldSession(ctx, id))
	c := redis.Connection{Kernel: id.MainKernel(), Service: "jupyter", Stream: "ab"}
	old := redis.Connection{Kernel: id.MainKernel(), Service: "jupyter", Stream: "cd"}
	ok(t, s.SeeConnection(ctx, id, c, now))
	ok(t, s.SeeConnection(ctx, id, old, now.Add(-time.Hour)))
	access, _, err = s.SessionAccess(ctx, []backendai.SessionID{id})
	if err != nil || !access[id].Held || access[id].Connections != 2 {
		t.Error(access, err)
	}
	if left, err := s.PurgeConnections(ctx, id, now.Add(-5*time.Minute)); left != 1 || err != nil {
		t.Error(left, err)
	}
	if left, err := s.EndConnection(ctx, id, c); left != 0 || err != nil {
		t.Error(left, err)
	}
	u := redis.Utilization{Series: map[string][]float64{"cpu_util": {1, 2.5}, "mem": {3}}, Collected: time.UnixMicro(1795542799710783)}
	ok(t, s.SetUtilization(ctx, id, u, time.Hour))
	got, err := s.Utilization(ctx, id)
	if d := cmp.Diff(u, got); err != nil || d != "" {
		t.Error(d, err)
	}
	ok(t, s.DropSession(ctx, id))
	if got, err := s.Utilization(ctx, id); err != nil || len(got.Series) != 0 {
		t.Error(got, err)
	}
	if _, err := s.Task(ctx, "none"); backendai.CodeOf(err) != backendai.BackgroundTaskNotFound {
		t.Error(err)
	}
	ok(t, s.StartTask(ctx, "t", now))
	ok(t, s.UpdateTask(ctx, "t", event.Int(1), event.FloatOf(2), "half", now))
	task, err := s.Task(ctx, "t")
	if err != nil || task.Ended() || task.Current != "1" || task.Total != "2.0" || task.Message != "half" {
		t.Error(task, err)
	}
	ok(t, s.EndTask(ctx, "t", "done", "", now))
	if task, err = s.Task(ctx, "t"); err != nil || !task.Ended() || !task.Started.Equal(now.Truncate(time.Microsecond)) {
		t.Error(task, err)
	}
}

func TestCallsSurviveARestart(t *testing.T) {
	server := redistest.New(t)
	s := open(t, server.Addr())
	ok(t, s.SetConcurrency(t.Context(), map[backendai.AccessKey]int{"AK": 5}))
	server.Stop()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Concurrency(short, []backendai.AccessKey{"AK"}); backendai.CodeOf(err) != backendai.ServiceUnavailable {
		t.Error(err)
	}
	result := make(chan error)
	go func() {
		got, err := s.Concurrency(t.Context(), []backendai.AccessKey{"AK"})
		if err == nil && got["AK"] != 5 {
			err = errors.New("the counter did not survive")
		}
		result <- err
	}()
	server.Start()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestMiniredisServes: what `backend.ai up` falls back to knows every command this package needs.
func TestMiniredisServes(t *testing.T) {
	server, err := embedded.New(embedded.Config{Dir: t.TempDir(), Binary: "none"})
	ok(t, err)
	ok(t, server.Start(t.Context()))
	defer func() { ok(t, server.Stop(context.Background())) }()
	s, ctx, box := open(t, server.Addr()), t.Context(), newInbox()
	c := startConsumer(t, s, "one", box.handle)
	sub := redis.NewSubscriber(s, redis.SubscriberConfig{Block: 200 * time.Millisecond}, nil)
	ok(t, sub.Start(ctx))
	l := sub.Listen(10, nil)
	p := startProducer(t, s)
	ok(t, p.Publish(reason(1), "i-1"))
	box.await(t, "an event", has("i-1 {Reason:1}"))
	if m := <-l.C; m.Event != reason(1) {
		t.Error(m)
	}
	if n, err := s.Hit(ctx, "A", time.Now()); n != 1 || err != nil {
		t.Error(n, err)
	}
	id := backendai.NewSessionID()
	ok(t, s.TouchSession(ctx, id, time.Hour))
	if access, _, err := s.SessionAccess(ctx, []backendai.SessionID{id}); err != nil || access[id].Last.IsZero() {
		t.Error(access, err)
	}
	ok(t, s.UpdateAgentImages(ctx, "i-1", nil, []string{"a"}))
	ok(t, s.RemoveAgentImages(ctx, "i-1"))
	ok(t, s.SetConcurrency(ctx, map[backendai.AccessKey]int{"A": 1}))
	ok(t, s.DrainLog(ctx, "c", func([]byte) error { return nil }))
	direct(t, server.Addr(), 4)("FLUSHALL")
	ok(t, p.Publish(reason(2), "i-1"))
	box.await(t, "an event after a flush", has("i-1 {Reason:2}"))
	c.Stop()
	sub.Stop()
}
