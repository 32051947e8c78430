package scheduler

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Whatever has happened, the last steps can be made again from what was written of them: to the same effects, byte by byte, every time,
// and to the same state.
func TestReplaysAreExact(t *testing.T) {
	folded, made := 0, 0
	for seed := range uint64(40) {
		p := newPair(t, seed+1<<50)
		p.alone = true
		most := 5 + p.r.IntN(120)
		for range p.r.IntN(30) { // a record may begin at any time
			p.step()
		}
		record := p.core.NewRecord(most)
		for range 100 {
			p.stepAlone()
		}
		if record.broken {
			t.Fatalf("seed %d: folded steps have not led to the same effects", seed)
		}
		if record.next > uint64(len(record.steps)-record.at) {
			folded++
		}
		text := written(t, record.Recording())
		if again := written(t, record.Recording()); !bytes.Equal(text, again) {
			t.Fatalf("seed %d: a recording is written differently the second time", seed)
		}
		first, core := replayed(t, text)
		second, _ := replayed(t, text)
		if !bytes.Equal(first, second) {
			t.Fatalf("seed %d: the second replay differs", seed)
		}
		if bytes.Contains(first, []byte(`"same":false`)) {
			t.Fatalf("seed %d: policy %s: other effects:\n%s", seed, p.core.Policy.Name, different(text, first))
		}
		made += bytes.Count(first, []byte("\n"))
		if d := cmp.Diff(stateText(t, p.core), stateText(t, core)); d != "" {
			t.Fatalf("seed %d: policy %s: the replay has led to another state (-live +replay):\n%s", seed, p.core.Policy.Name, d)
		}
	}
	t.Logf("%d steps made again; %d of 40 records had folded some", made, folded)
	if folded < 15 {
		t.Error("too few records were full")
	}
}

// Schedulers of several scaling groups count their owners' quotas together; each one's record is exact without those of the others.
func TestReplaysOfSharedQuotasAreExact(t *testing.T) {
	others := 0
	for seed := range uint64(30) {
		both := []*pair{newPair(t, seed+1<<52), newPair(t, seed+1<<53)}
		ledger := NewLedger()
		ledger.shared = true
		var records []*Record
		for _, p := range both {
			p.alone, p.predicates = true, true
			p.core.Ledger = ledger
		}
		for i := range 150 {
			if i == 40 {
				for _, p := range both {
					records = append(records, p.core.NewRecord(60))
				}
				ledger.records = map[string]*Record{"one": records[0], "other": records[1]} // both groups have the same name here
			}
			p, other := both[i%2], both[1-i%2]
			p.stepAlone()
			if freed := ledger.freed; len(freed) > 0 {
				ledger.freed = nil
				other.core.Apply(&quotaFreed{freed}, other.now)
				if other.core.Due() {
					other.pass()
				}
			}
		}
		for i, p := range both {
			text := written(t, records[i].Recording())
			others += bytes.Count(text, []byte(`"event":"charged"`)) + bytes.Count(text, []byte(`"event":"quotaFreed"`))
			out, core := replayed(t, text)
			if records[i].broken || bytes.Contains(out, []byte(`"same":false`)) {
				t.Fatalf("seed %d, policy %s: other effects:\n%s", seed, p.core.Policy.Name, different(text, out))
			}
			if d := cmp.Diff(stateText(t, p.core), stateText(t, core)); d != "" {
				t.Fatalf("seed %d: another state (-live +replay):\n%s", seed, d)
			}
		}
	}
	if others < 200 {
		t.Errorf("only %d steps were others'", others)
	}
}

// stepAlone is a step with what only happens between nodes and rows, and with questions, which must leave no trace.
func (p *pair) stepAlone() {
	r := p.r
	for _, e := range p.core.byID {
		if e.placing != nil && !slices.Contains(p.placed, e.ID) {
			p.placed = append(p.placed, e.ID)
		}
	}
	slices.SortFunc(p.placed, compareIDs)
	switch r.IntN(12) {
	case 0:
		p.core.Apply(&protocol.Moved{Shards: []int32{0, 2, 3}, Of: 4, Now: p.now}, p.now)
	case 1:
		p.core.Apply(&protocol.Reread{Rows: p.rows()}, p.now)
	case 3:
		p.core.Books()
	case 4:
		for id := range sortedIDs(func(yield func(uuid.UUID) bool) {
			for id := range p.core.byID {
				if !yield(id) {
					return
				}
			}
		}) {
			p.core.Explain(id, p.now)
		}
	case 5:
		if _, err := p.core.WhatIf(p.now, p.change()...); err != nil {
			p.t.Fatal(err)
		}
	}
	p.step()
}

// rows are what the core has, with something missing, something else and something more.
func (p *pair) rows() *protocol.SchedulerLoaded {
	s := p.core.snapshot()
	rows := &protocol.SchedulerLoaded{Policy: s.Policy, Known: s.Known}
	for _, a := range s.Agents {
		if p.r.IntN(6) > 0 {
			rows.Agents = append(rows.Agents, a.AgentState)
		}
	}
	for _, a := range s.Allocations {
		if p.r.IntN(6) > 0 {
			rows.Allocations = append(rows.Allocations, a)
		}
	}
	if p.r.IntN(3) == 0 && len(s.Agents) > 0 {
		rows.Allocations = append(rows.Allocations, &protocol.Allocation{SessionID: uuid.UUID{1}, KernelID: uuid.UUID{1}, Agent: s.Agents[0].ID, Slots: slots([]string{"mem=1g", "cpu=1"}), Main: true, AccessKey: "key1", CountsForUser: true})
	}
	for _, d := range s.Pending {
		if p.r.IntN(6) > 0 && d.Placing == nil {
			rows.Pending = append(rows.Pending, d.PendingSession)
		}
	}
	return rows
}

func written(t *testing.T, r Recording) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func replayed(t *testing.T, text []byte) ([]byte, *Core) {
	t.Helper()
	r, err := NewReplay(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n := 0
	for {
		step, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(step.Lines()) != len(step.list) {
			t.Fatal("an effect without a line")
		}
		line, err := json.Marshal(step)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
		n++
	}
	if n != r.Steps {
		t.Fatalf("%d steps of %d", n, r.Steps)
	}
	return out.Bytes(), r.core
}

// stateText is all of the state but what is only remembered to be quick, and kinds of slots of which nothing is taken: trying something
// out can leave those behind.
func stateText(t *testing.T, c *Core) string {
	t.Helper()
	s := c.snapshot()
	s.Nowhere = nil
	for _, list := range [][]usageDoc{s.Keys, s.Groups, s.Domains} {
		for i := range list {
			var taken backendai.ResourceSlots
			for _, name := range slices.Sorted(slices.Values(list[i].Slots.Names())) {
				if amount := list[i].Slots.Get(name); !amount.IsZero() {
					taken = taken.With(name, amount)
				}
			}
			list[i].Slots = taken
		}
	}
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// different are the steps up to the first that differs.
func different(text, out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		b.WriteString(line)
		if strings.Contains(line, `"same":false`) {
			return b.String()
		}
	}
	return b.String()
}

// A core that goes on from a snapshot decides as the one that it was taken of, also in the midst of a reservation or of a preemption.
func TestSnapshotsGoOn(t *testing.T) {
	reserved, held := 0, 0
	goOn := func(p *pair) {
		for range 40 {
			p.step()
		}
		if p.core.reservation != nil {
			reserved++
		}
		if p.core.held != nil {
			held++
		}
		text, err := json.Marshal(p.core.snapshot())
		if err != nil {
			t.Fatal(err)
		}
		var s snapshot
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		core, err := s.core()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(stateText(t, p.core), stateText(t, core)); d != "" {
			t.Fatalf("%s: %s", p.origin, d)
		}
		p.core = core
		for range 40 {
			p.step() // is compared with the scan
		}
	}
	for seed := range uint64(80) {
		goOn(newPair(t, seed+1<<51))
	}
	for seed := range uint64(160) { // there is more of both where room is short
		goOn(newTight(t, seed+1<<51))
	}
	t.Logf("%d snapshots amidst a reservation, %d amidst a preemption", reserved, held)
	if reserved < 10 || held == 0 {
		t.Error("the states mean little")
	}
}

// Every field of the state is in a snapshot, or is made of what is.
func TestNothingOfTheStateIsForgotten(t *testing.T) {
	check := func(of any, written, derived string) {
		known := strings.Fields(written + " " + derived)
		typ := reflect.TypeOf(of)
		for i := range typ.NumField() {
			if name := typ.Field(i).Name; !slices.Contains(known, name) {
				t.Errorf("%s.%s is new: write it in snapshot (snapshot.go), or say here that it is made of something else", typ, name)
			}
			known = slices.DeleteFunc(known, func(k string) bool { return k == typ.Field(i).Name })
		}
		if len(known) > 0 {
			t.Errorf("%s has no %v any more", typ, known)
		}
	}
	check(Core{}, "Group Policy Known Ledger agents allocs crowds watches byID nowhere changes holdsUp due blocked touched owners doubts agentDoubts "+
		"problem understood now uses halving usesTold usesWanted tenures leaving dismissed reservation held vain bookings backfilled preempted",
		"ends order index alive queue fresh stale ofOwner clock parked spare dependents placing sessions holders record names foreseen blanks")
	check(Ledger{}, "keys groups domains", "freed shared records")
	check(pending{}, "PendingSession parked crowd leads stale placing placedAt told found", "requested size")
	check(finding{}, "at changes since failing obstacle", "")
	check(obstacle{}, "kind text kernel agent short delay", "")
	check(use{}, "at slots kernels known changed", "")
	check(usedSlot{}, "name sum perSecond", "")
	check(tenure{}, "session kernels wishes end ending", "")
	check(reservation{}, "head at kernels claims basis", "")
	check(claim{}, "share freed", "")
	check(hold{}, "head victims leaving kernels shares since told", "")
	check(vain{}, "head priority bookings again", "")
	check(crowd{}, "key", "members ahead")
	check(watch{}, "text limit least", "crowds")
	check(Agent{}, "AgentState Occupied", "class position")
}

func TestReplayRefuses(t *testing.T) {
	for _, text := range []string{"", "x", "{}", `{"recording":9}`, `{"recording":2,"state":{"Pending":[{"Crowd":7}]}}`} {
		if _, err := NewReplay(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken for a recording", text)
		}
	}
	p := newPair(t, 1)
	p.alone = true
	record := p.core.NewRecord(100)
	for range 20 {
		p.step()
	}
	text := written(t, record.Recording())
	// A single effect that is another is noticed.
	lines := bytes.Split(text, []byte("\n"))
	at := slices.IndexFunc(lines, func(l []byte) bool { return bytes.Contains(l, []byte(`"event":"pass"`)) })
	lines[at] = bytes.Replace(lines[at], []byte(`"effects":"`), []byte(`"effects":"0`), 1)
	out, _ := replayed(t, bytes.Join(lines, []byte("\n")))
	if n := bytes.Count(out, []byte(`"same":false`)); n != 1 {
		t.Errorf("%d steps differ", n)
	}
	// A line that is cut off is no step.
	r, err := NewReplay(bytes.NewReader(text[:len(text)-20]))
	for err == nil {
		_, err = r.Next()
	}
	if errors.Is(err, io.EOF) {
		t.Error("a recording that is cut off is taken for a whole one")
	}
}

// What is switched off costs nothing; what is on says how much.
func BenchmarkRecord(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(map[bool]string{false: "off", true: "on"}[on], func(b *testing.B) {
			p := newPair(&testing.T{}, 7)
			p.alone = true
			if on {
				p.core.NewRecord(10_000)
			}
			for b.Loop() {
				p.now = p.now.Add(time.Millisecond)
				p.core.Apply(&protocol.Tick{Now: p.now}, p.now)
				if _, err := p.core.Pass(p.now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
