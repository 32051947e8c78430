package scheduler

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/inspector"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/journal"
)

// quietStore is what an actor reads: rows that are there from the start, and nothing new.
type quietStore struct {
	services.Store
	rows *protocol.SchedulerLoaded
}

func (s quietStore) Scheduler(context.Context, string) (*protocol.SchedulerLoaded, error) {
	return s.rows, nil
}

func (s quietStore) Policy(context.Context, string) (*protocol.PolicyChanged, error) {
	return &protocol.PolicyChanged{Policy: s.rows.Policy}, nil
}

func (s quietStore) KnownSlots(context.Context) (*backendai.KnownSlots, error) {
	return s.rows.Known, nil
}

func (s quietStore) Limits(context.Context, protocol.Owner) (protocol.Limits, error) {
	return s.rows.Pending[0].Limits, nil
}

type (
	noJournal struct{}
	noLive    struct{ services.Live }
)

func (noJournal) Submit(*journal.Entry) error { return nil }
func (noLive) Concurrency(string, int)        {}

// lone is a scheduler's actor without a node around it.
type lone struct {
	*testing.T
	svc  *services.Services
	desk *ask.Desk
	pid  *actor.PID
}

func newLone(t *testing.T, record int, rows *protocol.SchedulerLoaded) *lone {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return log }))
	svc := &services.Services{Log: log, System: system, Inspector: inspector.New("n", system), Journal: noJournal{}, Live: noLive{}, Store: quietStore{rows: rows},
		Work: services.NewWorkers(2, 100), SchedulerRecord: record}
	svc.Router = cluster.NewRouter(system, 1, nil)
	desk, err := ask.NewDesk(system, svc.Inspector)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{T: t, svc: svc, desk: desk, pid: system.Root.Spawn(Props(svc, journal.Guard{}, NewCouncil([]string{"g"}), "g"))}
	t.Cleanup(func() {
		_ = system.Root.StopFuture(l.pid).Wait()
		svc.Work.Stop()
		system.Shutdown()
	})
	l.ask(func(to protocol.ReplyTo) any { return &protocol.Why{Reply: to} }) // until it has read its rows
	return l
}

func (l *lone) send(msg any) { l.svc.System.Root.Send(l.pid, msg) }

// begin puts a question; the answer comes later.
func (l *lone) begin(message func(protocol.ReplyTo) any) *ask.Call {
	call := l.desk.Begin()
	l.send(message(call.To))
	return call
}

func (l *lone) answer(call *ask.Call) *ask.Answer {
	l.Helper()
	select {
	case a := <-call.Answer:
		return a
	case <-time.After(20 * time.Second):
		l.Fatal("nobody answers")
		return nil
	}
}

// ask asks until the scheduler has read its rows.
func (l *lone) ask(message func(protocol.ReplyTo) any) *ask.Answer {
	l.Helper()
	for {
		a := l.answer(l.begin(message))
		if backendai.CodeOf(a.Err) != backendai.ServiceUnavailable {
			return a
		}
	}
}

func (l *lone) after(id uuid.UUID, known string, patience time.Duration) *ask.Call {
	return l.begin(func(to protocol.ReplyTo) any {
		return &protocol.WhyAfter{SessionID: id, Known: known, Patience: patience, Reply: to}
	})
}

// rowsOf are those of one agent with 4 cores, and of a session that wants as many as given.
func rowsOf(cores string) (*protocol.SchedulerLoaded, uuid.UUID) {
	known, id := backendai.NewKnownSlots(), uuid.UUID{7}
	free, _ := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, known)
	return &protocol.SchedulerLoaded{Policy: protocol.Policy{Name: policyFIFO}, Known: known,
		Agents: []protocol.AgentState{{ID: "a", ScalingGroup: "g", Architecture: "x", Alive: true, Schedulable: true, Available: backendai.SlotsOf("cpu", "4", "mem", "8g")}},
		Pending: []protocol.PendingSession{{ID: id, Name: "s", Type: backendai.Interactive, AccessKey: "key", ScalingGroup: "g", ClusterMode: backendai.SingleNode, CreatedAt: time.Now(),
			Limits:  protocol.Limits{Keypair: free, Group: free, Domain: free, ScalingGroups: map[string][]backendai.SessionType{"g": backendai.SessionTypes}},
			Kernels: []protocol.PendingKernel{{ID: id, Architecture: "x", Slots: backendai.SlotsOf("cpu", cores, "mem", "1g")}}}}}, id
}

func TestFollowers(t *testing.T) {
	rows, id := rowsOf("8")
	l := newLone(t, 0, rows)
	told := func(call *ask.Call) *protocol.Told {
		t.Helper()
		a := l.answer(call)
		if a.Err != nil || a.Value == nil {
			t.Fatalf("%+v", a)
		}
		return a.Value.(*protocol.Told)
	}
	// Who knows nothing is answered at once; who knows it hears that it is so when the patience ends.
	first := told(l.after(id, "", time.Minute))
	var answer Answer
	if err := json.Unmarshal(first.Answer, &answer); err != nil || first.Mark == "" || len(answer.Reasons) != 1 || answer.Reasons[0].Kind != WaitsForAgent || len(answer.Changes) == 0 {
		t.Fatalf("%v %s", err, first.Answer)
	}
	impatient := l.after(id, first.Mark, 0)
	if again := told(impatient); !again.Unchanged || again.Mark != first.Mark || again.Answer != nil {
		t.Errorf("%+v", again)
	}
	// Something that does not change the answer is not told; something that does is.
	waiting := l.after(id, first.Mark, time.Minute)
	l.send(&protocol.LimitsChanged{SessionID: id, Limits: rows.Pending[0].Limits})
	b := rows.Agents[0]
	b.ID = "b"
	l.send(&b)
	second := told(waiting)
	if second.Unchanged || second.Mark == first.Mark {
		t.Errorf("%+v", second)
	}
	if err := json.Unmarshal(second.Answer, &answer); err != nil || answer.Reasons[0].Agents.Total != 2 {
		t.Errorf("%v %s", err, second.Answer)
	}
	// Who is not known (any more) is answered with nothing.
	waiting = l.after(id, second.Mark, time.Minute)
	l.send(&protocol.Withdraw{SessionID: id})
	if a := l.answer(waiting); a.Value != nil || a.Err != nil {
		t.Errorf("%+v", a)
	}
	if a := l.answer(l.after(uuid.UUID{1}, "", time.Minute)); a.Value != nil || a.Err != nil {
		t.Errorf("%+v", a)
	}
}

// Only so many may wait; those whose patience has ended make room.
func TestFollowersAreBounded(t *testing.T) {
	rows, id := rowsOf("8")
	l := newLone(t, 0, rows)
	first := l.answer(l.after(id, "", time.Minute)).Value.(*protocol.Told)
	calls := make([]*ask.Call, followersAtMost)
	for i := range calls {
		patience := time.Minute
		if i == 0 {
			patience = time.Millisecond
		}
		calls[i] = l.after(id, first.Mark, patience)
	}
	<-time.After(2 * time.Millisecond)
	kept := l.after(id, first.Mark, time.Minute) // for the first, which has expired
	if a := l.answer(calls[0]); !a.Value.(*protocol.Told).Unchanged {
		t.Errorf("%+v", a)
	}
	if a := l.answer(l.after(id, first.Mark, time.Minute)); !errors.Is(a.Err, backendai.Overloaded) {
		t.Errorf("%+v", a)
	}
	// All of them hear of a change.
	b := rows.Agents[0]
	b.ID = "b"
	l.send(&b)
	for _, c := range append(calls[1:], kept) {
		if told := l.answer(c).Value.(*protocol.Told); told.Unchanged || told.Mark == first.Mark || len(told.Answer) == 0 {
			t.Fatalf("%+v", told)
		}
	}
}

// An actor that is to keep a record has its steps made again to the same effects, load and all; one that is not says so.
func TestActorKeepsARecord(t *testing.T) {
	rows, _ := rowsOf("2")
	l := newLone(t, 50, rows)
	for i := range 80 {
		b := rows.Agents[0]
		b.Schedulable = i%2 == 0
		l.send(&b)
	}
	a := l.answer(l.begin(func(to protocol.ReplyTo) any { return &protocol.SchedulerRecord{Reply: to} }))
	if a.Err != nil {
		t.Fatal(a.Err)
	}
	lines, err := gzip.NewReader(bytes.NewReader(a.Value.([]byte)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReplay(lines)
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps != 50 || r.From == 0 {
		t.Errorf("%d steps from %d on", r.Steps, r.From)
	}
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || !s.Same {
			t.Fatalf("%v %+v", err, s)
		}
	}
	l = newLone(t, 0, rows)
	if a := l.answer(l.begin(func(to protocol.ReplyTo) any { return &protocol.SchedulerRecord{Reply: to} })); !errors.Is(a.Err, backendai.ObjectNotFound) {
		t.Errorf("%+v", a)
	}
}
