package scheduler

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// What a plan says is what the next pass does, and planning leaves no trace: the scheduler goes on deciding as the scan does.
func TestPlansComeTrue(t *testing.T) {
	const cases = 10_000
	plans, placements := 0, 0
	for seed := uint64(0); plans < cases; seed++ {
		p := newPair(t, seed+1<<20)
		for range 40 {
			before := p.now
			p.quiet = true
			p.step()
			var changes []Change
			if p.r.IntN(2) == 0 {
				changes = p.change()
			}
			due := p.core.Due() || p.naive.due
			plan, err := p.core.WhatIf(p.now, changes...)
			if err != nil {
				t.Fatal(err)
			}
			real := p.core.Clone() // the changes come true here
			for _, ch := range changes {
				real.alter(ch, p.now)
			}
			if len(changes) == 0 && due {
				real = nil
			}
			plans++
			want := []string{}
			for _, placement := range plan.Placements {
				want = append(want, placed(placement))
			}
			placements += len(want)
			var got []string
			if real != nil {
				effects, err := real.Pass(p.now)
				if err != nil {
					t.Fatal(err)
				}
				got = placedBy(effects)
			} else {
				got = placedBy(p.pass())
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d at %s: the plan differs from the pass (-plan +pass):\n%s", seed, before, d)
			}
			if due && real != nil {
				p.pass()
			}
		}
	}
	t.Logf("%d plans with %d placements", plans, placements)
	if placements < cases/10 {
		t.Errorf("only %d placements: the states mean little", placements)
	}
}

// change is something that an administrator or a user could ask about.
func (p *pair) change() []Change {
	r := p.r
	switch r.IntN(5) {
	case 0:
		return []Change{{Kind: AgentDrained, Agent: "agent0"}}
	case 1:
		return []Change{{Kind: AgentSchedulable, Agent: "agent1"}}
	case 2:
		return []Change{{Kind: PolicyChosen, Policy: &protocol.Policy{Name: policies[r.IntN(4)]}}}
	case 3:
		if len(p.waiting) > 0 {
			return []Change{{Kind: OthersWithdrawn, Sessions: p.waiting[:1+r.IntN(len(p.waiting))]}}
		}
	}
	by := backendai.SlotsOf("cpu", "2")
	return []Change{{Kind: QuotaRaised, Scope: &Scope{"keypair", "key1"}, By: &by}}
}

func placed(p protocol.Placement) string {
	text := p.SessionID.String()
	for _, k := range p.Kernels {
		text += " " + k.Agent
	}
	return text
}

func placedBy(effects []Effect) []string {
	list := []string{}
	for _, e := range effects {
		if e, ok := e.(Place); ok {
			list = append(list, placed(*e.Placement))
		}
	}
	return list
}

// Whatever a session waits for, there is a reason; what is said to start it starts it, and a session without any reason is placed next.
func TestExplanationsHold(t *testing.T) {
	explained, changes := 0, 0
	for seed := range uint64(60) {
		p := newPair(t, seed+1<<30)
		if seed%2 == 1 {
			p = newTight(t, seed+1<<30)
		}
		for range 40 {
			p.step()
		}
		var ids []uuid.UUID
		p.core.queue.Ascend(func(s *pending) bool { ids = append(ids, s.ID); return len(ids) < 8 })
		for _, id := range ids {
			before := p.core.Agents()
			e, ok := p.core.Explain(id, p.now)
			if !ok {
				t.Fatalf("seed %d: %s waits without being known", seed, id)
			}
			explained++
			plan, err := p.core.WhatIf(p.now)
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Reasons) == 0 && len(p.core.placing) == 0 && e.Position == 1 && !plan.Places(id) {
				t.Fatalf("seed %d: nothing holds %s up, yet it is not placed", seed, id)
			}
			for _, r := range e.Reasons {
				if r.Sentence() == "" {
					t.Fatalf("seed %d: no sentence for %s", seed, r.Kind)
				}
			}
			if _, err := json.Marshal(e); err != nil {
				t.Fatal(err)
			}
			for _, ch := range p.core.Counterfactual(id, p.now) {
				changes++
				c := p.core.Clone()
				at := c.alter(ch, p.now)
				effects, err := c.Pass(at)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(placedBy(effects), func(s string) bool { return s[:36] == id.String() }) {
					t.Fatalf("seed %d: %q does not start %s", seed, ch.Sentence(), id)
				}
			}
			for i, a := range p.core.Agents() {
				if a.Occupied.String() != before[i].Occupied.String() {
					t.Fatalf("seed %d: asking has changed agent %s", seed, a.ID)
				}
			}
		}
	}
	t.Logf("%d explained, %d changes that would start one", explained, changes)
	if changes == 0 {
		t.Error("no change was ever found")
	}
}

// A policy that is only asked about is tried as it is, also when it would not be taken.
func TestAPlanUnderAnUnknownPolicyIsAnError(t *testing.T) {
	p := newPair(t, 1)
	p.core.Apply(&protocol.PolicyChanged{Policy: protocol.Policy{Name: policyFIFO}}, p.now)
	if _, err := p.core.WhatIf(p.now, Change{Kind: PolicyChosen, Policy: &protocol.Policy{Name: "random"}}); err == nil {
		t.Error("no error")
	}
	if _, err := p.core.WhatIf(p.now); err != nil {
		t.Error(err)
	}
}

// A clone and its original go their own ways.
func TestClonesAreIndependent(t *testing.T) {
	for seed := range uint64(100) {
		p := newPair(t, seed+1<<40)
		for range 30 {
			p.step()
		}
		other := &pair{t: t, r: rand.New(rand.NewPCG(seed, 9)), now: p.now, known: p.known, core: p.core.Clone(), naive: newNaive("g", p.core.Policy, p.known),
			kernels: map[uuid.UUID][]uuid.UUID{}, predicates: true, alone: true}
		for range 30 {
			other.step() // what happens to the clone …
			p.step()     // … leaves the original deciding as the scan does
		}
	}
}

// A plan for 5,000 agents and 10,000 waiting sessions is made in milliseconds.
func BenchmarkClone(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	p := newPair(&testing.T{}, 1)
	c := NewCore("g", protocol.Policy{Name: policyFIFO}, p.known)
	for i := range 5000 {
		c.Apply(&protocol.AgentState{ID: uuid.UUID{byte(i >> 8), byte(i)}.String(), ScalingGroup: "g", Architecture: "x", Alive: true, Schedulable: true,
			Available: backendai.SlotsOf("cpu", "8", "mem", "16g")}, p.now)
	}
	free, _ := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, p.known)
	var last uuid.UUID
	for i := range 36_000 {
		last = p.id(1)
		c.Apply(&protocol.Enqueue{Session: protocol.PendingSession{ID: last, AccessKey: "key", CreatedAt: p.now.Add(time.Duration(i) * time.Microsecond),
			Limits:  protocol.Limits{Keypair: free, Group: free, Domain: free, ScalingGroups: map[string][]backendai.SessionType{"g": {""}}},
			Kernels: []protocol.PendingKernel{{ID: p.id(2), Architecture: "x", Slots: backendai.SlotsOf("cpu", []string{"1", "2"}[r.IntN(2)], "mem", "1g")}}}}, p.now)
	}
	effects, err := c.Pass(p.now)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range effects {
		if e, ok := e.(Place); ok {
			c.Apply(&protocol.Placed{SessionID: e.SessionID, Committed: true}, p.now)
		}
	}
	waiting, _ := c.QueueLength()
	b.Logf("%d wait, %d run", waiting, len(c.allocs))
	b.Run("clone", func(b *testing.B) {
		for b.Loop() {
			c.Clone()
		}
	})
	b.Run("explain", func(b *testing.B) {
		for b.Loop() {
			c.Explain(last, p.now)
		}
	})
	b.Run("counterfactual", func(b *testing.B) {
		for b.Loop() {
			c.Counterfactual(last, p.now)
		}
	})
}
