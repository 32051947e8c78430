package bus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/persistence/redis/event"
	"github.com/alicebob/miniredis/v2"
)

func start(t *testing.T, where Where) *Bus {
	b := New("i-test", where, slog.New(slog.NewTextHandler(t.Output(), nil)))
	b.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.Stop(ctx)
	})
	return b
}

func flush(t *testing.T, b *Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !b.Flush(ctx) {
		t.Fatal("not sent")
	}
}

func names(t *testing.T, m *miniredis.Miniredis) (list []string) {
	t.Helper()
	entries, err := m.DB(dbStream).Stream("events")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		ev, err := event.Decode(e.Values[1], []byte(e.Values[5]))
		if err != nil || e.Values[3] != "i-test" {
			t.Fatal(e, err)
		}
		list = append(list, event.Name(ev))
	}
	return list
}

func TestEventsWaitForRedis(t *testing.T) {
	m := miniredis.NewMiniRedis() // not started
	there := make(chan struct{})
	b := start(t, func(context.Context) (redis.Config, error) {
		select {
		case <-there:
			return redis.Config{Addr: m.Addr()}, nil
		default:
			return redis.Config{}, errors.New("nobody knows")
		}
	})
	b.Publish(event.AgentStarted{Reason: "self-started"})
	b.PushLog(event.DoSyncKernelLogs{Kernel: backendai.NewKernelID(), Container: "c"}, []byte(strings.Repeat("x", logChunk+5)))
	b.Publish(event.AgentTerminated{Reason: "shutdown"})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	close(there)
	flush(t, b)
	if got := strings.Join(names(t, m), " "); got != "agent_started do_sync_kernel_logs agent_terminated" {
		t.Error(got)
	}
	if list, err := m.DB(dbStream).List("containerlog.c"); err != nil || len(list) != 2 || len(list[0]) != logChunk || len(list[1]) != 5 {
		t.Error(len(list), err)
	}
	if ttl := m.DB(dbStream).TTL("containerlog.c"); ttl != time.Hour {
		t.Error(ttl)
	}
	b.StoreStats(context.Background(), "i-test", []byte{0x80}, 120*time.Second)
	if v, err := m.DB(dbStat).Get("i-test"); err != nil || v != "\x80" || m.DB(dbStat).TTL("i-test") != 2*time.Minute {
		t.Error(v, err)
	}
}

func TestEventsSurviveARestartOfRedis(t *testing.T) {
	m := miniredis.RunT(t)
	b := start(t, func(context.Context) (redis.Config, error) { return redis.Config{Addr: m.Addr()}, nil })
	b.Publish(event.AgentStarted{Reason: "self-started"})
	flush(t, b)
	m.Close()
	for range 100 {
		b.Beat(event.Heartbeat{Addr: "tcp://x:1"}, nil)
	}
	b.Publish(event.AgentTerminated{Reason: "shutdown"})
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	flush(t, b)
	got := names(t, m)
	if len(got) < 2 || got[len(got)-1] != "agent_terminated" || len(got) > staleAfter+3 {
		t.Error(len(got), got)
	}
}

func TestHeartbeatCarriesFeatures(t *testing.T) {
	m := miniredis.RunT(t)
	b := start(t, func(context.Context) (redis.Config, error) { return redis.Config{Addr: m.Addr()}, nil })
	b.Beat(event.Heartbeat{Addr: "tcp://x:1", Images: []event.Image{{Tag: "a/b:1", ID: "sha256:00"}}, Slots: []event.Slot{{Name: "cpu", Unit: "count", Amount: "2"}}}, []string{"epoch"})
	flush(t, b)
	entries, _ := m.DB(dbStream).Stream("events")
	args := entries[0].Values[5]
	if !strings.HasSuffix(args, "\xa8features\x91\xa5epoch") {
		t.Errorf("%q", args)
	}
	e, err := event.Decode("agent_heartbeat", []byte(args))
	if h, ok := e.(event.AgentHeartbeat); err != nil || !ok || h.Info.Addr != "tcp://x:1" || len(h.Info.Images) != 1 {
		t.Error(e, err)
	}
}
