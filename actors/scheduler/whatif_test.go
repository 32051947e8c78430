package scheduler

import (
	"encoding/json"
	"fmt"
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

// What a plan says of a session is what comes of it when it is enqueued and the next pass is made; planning leaves no trace.
func TestSessionPlansComeTrue(t *testing.T) {
	starts, waits, helped := 0, 0, 0
	for seed := range uint64(80) {
		p := newPair(t, seed+1<<45)
		for range 25 {
			p.step()
		}
		for range 6 {
			p.step()
			s := p.asked()
			before := stateText(t, p.core)
			plan, err := p.core.PlanFor(s, p.now)
			if err != nil {
				t.Fatal(err)
			}
			if after := stateText(t, p.core); after != before {
				t.Fatalf("seed %d: planning has left a trace: %s", seed, cmp.Diff(before, after))
			}
			real := p.core.Clone()
			real.Apply(&protocol.Enqueue{Session: s}, p.now)
			effects, err := real.Pass(p.now)
			if err != nil {
				t.Fatal(err)
			}
			var got []KernelStart
			for _, e := range effects {
				if e, ok := e.(Place); ok && e.SessionID == s.ID {
					got = kernelStarts(*e.Placement)
				}
			}
			if plan.Starts != (got != nil) || !slices.Equal(plan.Placements, got) {
				t.Fatalf("seed %d: the plan is %+v; what comes of it is %v", seed, plan, got)
			}
			if plan.Starts {
				starts++
				continue
			}
			e, known := real.Explain(s.ID, p.now)
			if d := cmp.Diff(e.Sentences(), plan.Sentences); d != "" && (known || len(plan.Sentences) > 0) {
				t.Fatalf("seed %d: the plan's reasons differ: %s", seed, d)
			}
			waits++
			for _, ch := range plan.Changes {
				helped++
				other := p.core.Clone()
				other.alter(Change{Kind: SessionAsked, Request: &s}, p.now)
				if after, err := other.WhatIf(p.now, ch.Change); err != nil || !after.Places(s.ID) {
					t.Fatalf("seed %d: %q does not start it", seed, ch.Sentence)
				}
			}
		}
	}
	t.Logf("%d would start, %d would wait; %d changes were told", starts, waits, helped)
	if starts < 25 || waits < 25 || helped == 0 {
		t.Error("the states mean little")
	}
}

// asked is a session as enqueue makes them, that is not enqueued.
func (p *pair) asked() protocol.PendingSession {
	other := &pair{t: p.t, r: p.r, now: p.now, known: p.known, core: p.core.Clone(), kernels: map[uuid.UUID][]uuid.UUID{}, predicates: p.predicates, alone: true, created: 1 << 20}
	other.enqueue()
	return other.core.byID[other.waiting[0]].PendingSession
}

// A difference says what starts more and what less, and which sessions stay on an agent that is drained.
func TestDifferencesAddUp(t *testing.T) {
	more, less := 0, 0
	for seed := range uint64(200) {
		p := newPair(t, seed+1<<46)
		for range 40 {
			p.step()
		}
		p.quiet = true // what comes now is to be decided yet
		for range 6 {
			p.step()
		}
		var changes []Change
		if changes = p.change(); changes[0].Agent != "" && p.core.agents[changes[0].Agent] == nil {
			if _, err := p.core.Differ(p.now, changes...); backendai.CodeOf(err) != backendai.InvalidArgument {
				t.Fatal(err)
			}
			continue
		}
		d, err := p.core.Differ(p.now, changes...)
		if err != nil {
			t.Fatal(err)
		}
		starts := func(changes ...Change) map[uuid.UUID]bool {
			plan, _ := p.core.WhatIf(p.now, changes...)
			m := map[uuid.UUID]bool{}
			for _, x := range plan.Placements {
				m[x.SessionID] = true
			}
			return m
		}
		was, is := starts(), starts(changes...)
		for _, id := range d.StartsMore {
			delete(is, id)
			more++
		}
		for _, id := range d.StartsLess {
			delete(was, id)
			less++
		}
		if !reflect.DeepEqual(was, is) || d.Starting != len(d.Starts) || len(d.Waits) != min(d.Waiting, waitsAtMost) {
			t.Fatalf("seed %d: %+v", seed, d)
		}
		if _, err := json.Marshal(d); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d start more, %d less", more, less)
	if more == 0 || less == 0 {
		t.Error("the changes mean little")
	}
}

// Changes that are told can be asked about, as they are.
func TestChangesAreUnderstood(t *testing.T) {
	n := 0
	for seed := range uint64(60) {
		p := newPair(t, seed+1<<47)
		for range 40 {
			p.step()
		}
		p.core.queue.Ascend(func(s *pending) bool {
			for _, ch := range p.core.Counterfactual(s.ID, p.now) {
				text, err := json.Marshal([]Change{ch})
				if err != nil {
					t.Fatal(err)
				}
				list, err := ParseChanges(text)
				if err != nil {
					t.Fatalf("%s: %v", text, err)
				}
				if list[0].Sentence() != ch.Sentence() {
					t.Fatalf("%s: %q, not %q", text, list[0].Sentence(), ch.Sentence())
				}
				if plan, err := p.core.WhatIf(p.now, list...); err != nil || !plan.Places(s.ID) {
					t.Fatalf("%s does not start %s", text, s.ID)
				}
				n++
			}
			return true
		})
	}
	if n < 20 {
		t.Errorf("only %d changes", n)
	}
	for _, k := range ChangeKinds {
		if _, err := ParseChanges([]byte(fmt.Sprintf(`[{"kind": %q}]`, k))); backendai.CodeOf(err) != backendai.InvalidArgument || !strings.Contains(err.Error(), " needs ") {
			t.Errorf("%s without anything: %v", k, err)
		}
	}
}

// A policy is written as it is read, with every option it has.
func TestPolicyAsJSON(t *testing.T) {
	var p protocol.Policy
	var fill func(reflect.Value)
	fill = func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.Struct:
				fill(f)
			case reflect.String:
				f.SetString("x")
			case reflect.Bool:
				f.SetBool(true)
			default:
				if f.SetInt(int64(i + 2)); f.Type() == reflect.TypeFor[time.Duration]() {
					f.SetInt(int64(90+i) * int64(time.Second))
				}
			}
		}
	}
	fill(reflect.ValueOf(&p).Elem())
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again protocol.Policy
	if err := json.Unmarshal(text, &again); err != nil || again != p {
		t.Errorf("%s is read as %+v: %v", text, again, err)
	}
	for _, bad := range []string{`{"name": "fifo", "pending_timeout": "soon"}`, `{"name": "fifo", "pending_timeout": -1}`, `{"nmae": "fifo"}`, `3`} {
		if err := json.Unmarshal([]byte(bad), &again); err == nil {
			t.Errorf("%s is understood", bad)
		}
	}
}
