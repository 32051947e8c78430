package scheduler

import (
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Transcripts read like the worked examples of spec/scheduling-lifecycle §10: agents and a queue go in, what a pass does comes out.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newStage()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}

// stage is a scheduler with names in place of ids and a clock that stands still until it is moved.
type stage struct {
	core  *Core
	names map[uuid.UUID]string
	now   time.Time
	order int
	known *backendai.KnownSlots
}

func newStage() *stage {
	s := &stage{names: map[uuid.UUID]string{}, now: time.Date(2020, 6, 29, 0, 0, 0, 0, time.UTC)}
	s.reset()
	return s
}

func (s *stage) reset() {
	s.known = backendai.NewKnownSlots()
	s.core = NewCore("default", protocol.Policy{Name: "fifo"}, s.known)
	s.order = 0
}

func (s *stage) id(name string) uuid.UUID {
	id := uuid.UUID(md5.Sum([]byte(name)))
	s.names[id] = name
	return id
}

func (s *stage) run(t *testing.T, d *datadriven.TestData) string {
	var used strings.Builder
	switch d.Cmd {
	case "reset": // a new group; args: its policy
		s.reset()
		read := s.policy(t, d)
		s.core.Known = s.known
		s.core.Apply(read, s.now)
		if s.core.WantsUses() {
			s.core.takeUses(nil)
		}
	case "policy": // what an administrator has made of it; problem says what is not understood
		s.core.Apply(s.policy(t, d), s.now)
		return s.core.policyNote() + "\n"
	case "reprioritize":
		for _, a := range d.CmdArgs {
			var n int
			a.Scan(t, 0, &n)
			w := s.core.byID[s.id(a.Key)].Wishes
			w.Priority = n
			s.core.Apply(&protocol.WishesChanged{SessionID: s.id(a.Key), Wishes: w}, s.now)
		}
	case "used": // what owners have used as a share of the group for a time, in seconds
		for _, owner := range slices.Sorted(maps.Keys(s.core.uses)) {
			fmt.Fprintf(&used, "%s: %.1f s\n", owner, s.core.useOf(owner, s.core.index.capacity(s.core.agents, s.core.order), s.now))
		}
		return used.String()
	case "takeover": // another scheduler, that knows what was written down and what the rows have
		return s.takeover()
	case "agents":
		for line := range strings.Lines(d.Input) {
			s.agent(strings.Fields(line))
		}
	case "running": // sessions that run already: name owner agent slots [runs:1h] [priority:1] [preemptible] [since:10m]; name/part is a kernel of a cluster session
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			name, _, _ := strings.Cut(f[0], "/")
			a := &protocol.Allocation{SessionID: s.id(name), KernelID: s.id(f[0]), AccessKey: f[1], Agent: f[2], Slots: slots(f[3:]), Main: name == f[0], CountsForUser: true, DomainName: "default", Since: s.now}
			for _, w := range f[3:] {
				wish(&a.Wishes, w)
				if ago, ok := strings.CutPrefix(w, "since:"); ok {
					by, _ := time.ParseDuration(ago)
					a.Since = s.now.Add(-by)
				}
			}
			s.core.allocate(a)
		}
	case "started": // kernels that are RUNNING now
		for _, a := range d.CmdArgs {
			k := s.core.allocs[s.id(a.Key)]
			s.core.Apply(&protocol.Settle{KernelID: k.KernelID, Slots: k.Slots, Since: s.now}, s.now)
		}
	case "reserved":
		return s.reserved()
	case "estimate":
		at, basis, ok := s.core.Estimate(s.id(d.CmdArgs[0].Key), s.now)
		if !ok {
			return "not known\n"
		}
		out := s.clock(at)
		for _, e := range basis {
			out += fmt.Sprintf(", %s ends %s", s.names[e.Session], s.clock(e.At))
		}
		return out + "\n" + estimated(at, basis).Sentence + "\n"
	case "queue":
		for line := range strings.Lines(d.Input) {
			s.enqueue(t, strings.Fields(line))
		}
	case "pass":
		return s.pass()
	case "tick":
		s.now = s.now.Add(10 * time.Second)
		return s.effects(s.core.Apply(&protocol.Tick{Now: s.now}, s.now)) + s.pass()
	case "wait":
		var by time.Duration
		by, _ = time.ParseDuration(d.CmdArgs[0].Key)
		s.now = s.now.Add(by)
	case "committed", "refused": // the sessions' answers to their placements
		for _, a := range d.CmdArgs {
			s.core.Apply(&protocol.Placed{SessionID: s.id(a.Key), Committed: d.Cmd == "committed"}, s.now)
		}
	case "release":
		for _, a := range d.CmdArgs {
			s.core.Apply(&protocol.Release{KernelIDs: []uuid.UUID{s.id(a.Key)}}, s.now)
		}
	case "ending":
		for _, a := range d.CmdArgs {
			s.core.Apply(&protocol.Ending{KernelIDs: []uuid.UUID{s.id(a.Key)}}, s.now)
		}
	case "withdraw":
		for _, a := range d.CmdArgs {
			s.core.Apply(&protocol.Withdraw{SessionID: s.id(a.Key)}, s.now)
		}
	case "succeeded":
		for _, a := range d.CmdArgs {
			s.core.Apply(&protocol.DependencyDone{SessionID: s.id(a.Key)}, s.now)
		}
	case "failed":
		for _, a := range d.CmdArgs {
			s.core.Apply(&protocol.DependencyDone{SessionID: s.id(a.Key), Failed: true}, s.now)
		}
	case "why":
		return s.why(d.CmdArgs[0].Key)
	case "plan": // a session that nobody has asked for yet
		return s.plan(t, strings.Fields(d.Input))
	case "what-if":
		return s.whatIf(t, d.Input)
	case "counterfactual":
		return s.counterfactual(t, d.CmdArgs[0].Key)
	case "occupied":
		var b strings.Builder
		for _, a := range s.core.Agents() {
			fmt.Fprintf(&b, "%s: %s\n", a.ID, a.Occupied.Humanized(s.known))
		}
		return b.String()
	case "due":
		return fmt.Sprintln(s.core.Due())
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

// policy reads a policy with its options: fifo skip=2 timeout=1m priority share=10m spread problem=text slots=(cuda.device)
func (s *stage) policy(t *testing.T, d *datadriven.TestData) *protocol.PolicyChanged {
	read := &protocol.PolicyChanged{Policy: protocol.Policy{Name: "fifo"}}
	p := &read.Policy
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "skip":
			a.Scan(t, 0, &p.RetriesToSkip)
		case "timeout":
			p.PendingTimeout, _ = time.ParseDuration(a.Vals[0])
		case "slots":
			var declared []backendai.KnownSlot
			for _, v := range a.Vals {
				declared = append(declared, backendai.KnownSlot{Name: backendai.SlotName(v), Type: backendai.SlotCount})
			}
			s.known = backendai.NewKnownSlots(declared...)
		case "priority":
			p.Options.Priority = true
		case "share":
			p.Options.FairShareHalfLife, _ = time.ParseDuration(a.Vals[0])
		case "backfill":
			p.Options.Backfill = true
		case "preemption":
			p.Options.Preemption = true
			if len(a.Vals) > 0 {
				p.Options.PreemptionMinRuntime, _ = time.ParseDuration(a.Vals[0])
			}
		case "spread", "pack":
			p.Options.Placement = a.Key
		case "problem":
			read.Problem = strings.Join(a.Vals, " ")
		default:
			p.Name = a.Key
		}
	}
	return read
}

// takeover replaces the core by one that has read what the old one has written: what owners have used, agents, kernels.
func (s *stage) takeover() string {
	rows := &protocol.SchedulerLoaded{Policy: s.core.Policy, Known: s.known, UsesRead: true}
	for _, e := range s.core.Uses(s.now) {
		rows.Uses = append(rows.Uses, e.(Used).Past)
	}
	for _, a := range s.core.Agents() {
		rows.Agents = append(rows.Agents, a.AgentState)
	}
	for _, a := range s.core.allocs {
		since := *a
		since.Since = s.now.Add(-time.Hour) // it runs since long before that was written
		rows.Allocations = append(rows.Allocations, &since)
	}
	s.core.queue.Ascend(func(p *pending) bool { rows.Pending = append(rows.Pending, p.PendingSession); return true })
	s.core = NewCore("default", protocol.Policy{}, nil)
	s.core.Apply(rows, s.now)
	return fmt.Sprintf("%d written\n", len(rows.Uses))
}

// agent reads: id cpu=4 mem=8g | cpu=2 mem=4g arch=x dead excluded. What is behind the bar is taken by others.
func (s *stage) agent(f []string) {
	state := protocol.AgentState{ID: f[0], Addr: "tcp://" + f[0], ScalingGroup: "default", Architecture: "x86_64", Alive: true, Schedulable: true}
	var have, taken []string
	behind := false
	for _, w := range f[1:] {
		switch {
		case w == "|":
			behind = true
		case w == "dead":
			state.Alive = false
		case w == "excluded":
			state.Schedulable = false
		case strings.HasPrefix(w, "arch="):
			state.Architecture = w[5:]
		case behind:
			taken = append(taken, w)
		default:
			have = append(have, w)
		}
	}
	state.Available = slots(have)
	s.core.Apply(&state, s.now)
	if len(taken) > 0 {
		id := s.id("taken of " + f[0])
		s.core.allocate(&protocol.Allocation{SessionID: id, KernelID: id, Agent: f[0], Slots: slots(taken)})
	}
}

// wish reads what a session may ask of schedulers.
func wish(w *protocol.Wishes, word string) bool {
	key, value, _ := strings.Cut(word, ":")
	switch key {
	case "runs":
		w.TimeLimit, _ = time.ParseDuration(value)
	case "priority":
		fmt.Sscan(value, &w.Priority)
	case "preemptible":
		w.Preemptible = true
	default:
		return false
	}
	return true
}

func (s *stage) clock(t time.Time) string { return t.Format("15:04:05") }

// reserved prints for whom what is kept, and until when.
func (s *stage) reserved() string {
	var b strings.Builder
	if h := s.core.held; h != nil {
		fmt.Fprintf(&b, "held for %s: %s\n", s.names[h.head], idList(h.victims))
	}
	if r := s.core.reservation; r != nil {
		fmt.Fprintf(&b, "reserved for %s at %s:", s.names[r.head], s.clock(r.at))
		for _, id := range r.agents() {
			fmt.Fprintf(&b, " %s %s", id, r.claims[id].share.Humanized(s.known))
		}
		for _, e := range r.basis {
			fmt.Fprintf(&b, ", when %s ends", s.names[e.Session])
		}
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return s.named(b.String())
}

func slots(words []string) backendai.ResourceSlots {
	var pairs []string
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if ok {
			pairs = append(pairs, k, v)
		}
	}
	return backendai.SlotsOf(pairs...)
}

// enqueue reads: name [user] cpu=1 mem=1g ×3 multi-node batch retries:5 limit:2 quota:cpu=4,mem=8g starts:+1h after:x arch:y on:agent
func (s *stage) enqueue(t *testing.T, f []string) {
	s.core.Apply(&protocol.Enqueue{Session: s.session(t, f)}, s.now)
}

func (s *stage) session(t *testing.T, f []string) protocol.PendingSession {
	s.order++
	p := protocol.PendingSession{ID: s.id(f[0]), Name: f[0], Type: backendai.Interactive, AccessKey: "user", ScalingGroup: "default",
		ClusterMode: backendai.SingleNode, CreatedAt: s.now.Add(time.Duration(s.order) * time.Microsecond),
		Limits: protocol.Limits{ScalingGroups: map[string][]backendai.SessionType{"default": backendai.SessionTypes}}}
	var want []string
	copies, arch, on := 1, "x86_64", ""
	var quota, groupQuota, domainQuota backendai.ResourceSlots
	missing := backendai.Unlimited
	for _, w := range f[1:] {
		key, value, ok := strings.Cut(w, ":")
		switch {
		case strings.HasPrefix(w, "x"):
			if _, err := fmt.Sscanf(w, "x%d", &copies); err != nil {
				t.Fatal(err)
			}
		case w == "multi-node":
			p.ClusterMode = backendai.MultiNode
		case w == "batch":
			p.Type = backendai.Batch
		case w == "limited":
			missing = backendai.Limited
		case ok && key == "retries":
			fmt.Sscan(value, &p.Retries)
		case wish(&p.Wishes, w):
		case ok && key == "limit":
			fmt.Sscan(value, &p.Limits.MaxConcurrentSessions)
		case ok && key == "quota":
			quota = slots(strings.Split(value, ","))
		case ok && key == "group-quota":
			groupQuota = slots(strings.Split(value, ","))
		case ok && key == "domain-quota":
			domainQuota = slots(strings.Split(value, ","))
		case ok && key == "starts":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			at := s.now.Add(d)
			p.StartsAt = &at
		case ok && key == "after":
			p.DependsOn = append(p.DependsOn, protocol.Dependency{ID: s.id(value), Name: value})
		case ok && key == "arch":
			arch = value
		case ok && key == "on":
			on = value
		case ok && key == "groups":
			p.Limits.ScalingGroups = map[string][]backendai.SessionType{}
			for _, g := range strings.Split(value, ",") {
				name, types, _ := strings.Cut(g, "=")
				for _, typ := range strings.Split(types, "+") {
					p.Limits.ScalingGroups[name] = append(p.Limits.ScalingGroups[name], backendai.SessionType(typ))
				}
			}
		case strings.Contains(w, "="):
			want = append(want, w)
		default:
			p.AccessKey = w
		}
	}
	limits, err := backendai.SlotsFromPolicy(quota, missing, s.known)
	if err != nil {
		t.Fatal(err)
	}
	group, _ := backendai.SlotsFromPolicy(groupQuota, backendai.Unlimited, s.known)
	domain, _ := backendai.SlotsFromPolicy(domainQuota, backendai.Unlimited, s.known)
	p.Limits.Keypair, p.Limits.Group, p.Limits.Domain = limits, group, domain
	p.DomainName = "default"
	for i := range copies {
		name := f[0]
		if i > 0 {
			name = fmt.Sprintf("%s.sub%d", f[0], i)
		}
		p.Kernels = append(p.Kernels, protocol.PendingKernel{ID: s.id(name), Image: "python", Architecture: arch, Slots: slots(want), Agent: on})
	}
	return p
}

func (s *stage) pass() string {
	effects, err := s.core.Pass(s.now)
	out := s.effects(effects)
	if err != nil {
		out += "error: " + err.Error() + "\n"
	}
	if out == "" {
		out = "nothing\n"
	}
	return out
}

func (s *stage) effects(effects []Effect) string {
	var b strings.Builder
	for _, effect := range effects {
		switch e := effect.(type) {
		case Place:
			var on []string
			for _, k := range e.Placement.Kernels {
				on = append(on, k.Agent)
			}
			if len(slices.Compact(slices.Clone(on))) == 1 {
				on = on[:1]
			}
			fmt.Fprintf(&b, "%s → %s\n", s.names[e.SessionID], strings.Join(on, ", "))
		case Report:
			fmt.Fprintf(&b, "%s waits: %s, retries %d", s.names[e.SessionID], *e.Attempt.StatusInfo, e.Attempt.Scheduler.Retries)
			for _, f := range e.Attempt.Scheduler.Failed {
				fmt.Fprintf(&b, "; %s: %s", f.Name, f.Msg)
			}
			if m := e.Attempt.Scheduler.Msg; m != "" {
				fmt.Fprintf(&b, "; %s", m)
			}
			if e.Attempt.KernelID != uuid.Nil {
				fmt.Fprintf(&b, " [%s]", s.names[e.Attempt.KernelID])
			}
			b.WriteByte('\n')
		case Preempt:
			fmt.Fprintf(&b, "%s has to go for %s\n", s.names[e.SessionID], s.names[e.For])
		case TimeOut:
			fmt.Fprintf(&b, "%s times out\n", s.names[e.SessionID])
		}
	}
	return s.named(b.String())
}

// named puts the names in place of the ids.
func (s *stage) named(text string) string {
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id.String(), name)
	}
	return text
}

// why prints the explanation, which must have changed nothing.
func (s *stage) why(name string) string {
	before := s.core.Agents()
	e, ok := s.core.Explain(s.id(name), s.now)
	if !ok {
		return "not known\n"
	}
	var b strings.Builder
	for _, r := range e.Reasons {
		fmt.Fprintf(&b, "%s", r.Kind)
		if r.Never {
			b.WriteString(" (never)")
		}
		fmt.Fprintf(&b, ": %s", r.Sentence())
		switch r.Kind {
		case HasReservation:
			fmt.Fprintf(&b, " on %s", strings.Join(r.Reserved.Agents, ", "))
		case WouldDelay:
			fmt.Fprintf(&b, " (%s)", r.Delays.Head)
		case WaitsForPreempted:
			fmt.Fprintf(&b, " (%s)", idList(r.Preempted))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "number %d of %d, retries %d, since %s", e.Position, e.Waiting, e.Retries, e.Since.Format("15:04:05"))
	if e.LastTry != nil {
		fmt.Fprintf(&b, ", last try %s", e.LastTry.Format("15:04:05"))
	}
	b.WriteByte('\n')
	if d := cmp.Diff(before, s.core.Agents(), cmpopts.IgnoreUnexported(Agent{})); d != "" {
		return "CHANGED: " + d
	}
	return s.named(b.String())
}

// counterfactual prints the changes, and does each, on a copy, to see the session start.
func (s *stage) counterfactual(t *testing.T, name string) string {
	id := s.id(name)
	changes := s.core.Counterfactual(id, s.now)
	if len(changes) == 0 {
		return "nothing\n"
	}
	var b strings.Builder
	for _, ch := range changes {
		b.WriteString(ch.Sentence() + "\n")
		c := s.core.Clone()
		now := c.alter(ch, s.now)
		effects, err := c.Pass(now)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(effects, func(e Effect) bool { p, ok := e.(Place); return ok && p.SessionID == id }) {
			b.WriteString("  BUT IT DOES NOT START\n")
		}
	}
	return s.named(b.String())
}

// plan prints what would come of a session.
func (s *stage) plan(t *testing.T, f []string) string {
	plan, err := s.core.PlanFor(s.session(t, f), s.now)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, k := range plan.Placements {
		fmt.Fprintf(&b, "%s → %s\n", s.names[k.KernelID], k.Agent)
	}
	if !plan.Starts {
		fmt.Fprintf(&b, "would wait as number %d of %d\n", plan.Position, plan.Waiting)
	}
	for i, r := range plan.Reasons {
		fmt.Fprintf(&b, "%s: %s\n", r.Kind, plan.Sentences[i])
	}
	for _, ch := range plan.Changes {
		fmt.Fprintf(&b, "- %s\n", ch.Sentence)
	}
	return s.named(b.String())
}

// whatIf reads changes as administrators write them, with names in place of ids.
func (s *stage) whatIf(t *testing.T, text string) string {
	for id, name := range s.names {
		text = strings.ReplaceAll(text, `"`+name+`"`, `"`+id.String()+`"`)
	}
	changes, err := ParseChanges([]byte(text))
	if err != nil {
		return err.Error() + "\n"
	}
	d, err := s.core.Differ(s.now, changes...)
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, x := range d.Sentences {
		fmt.Fprintln(&b, x)
	}
	list := func(what string, ids []uuid.UUID) {
		if len(ids) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", what, idList(ids))
		}
	}
	for _, x := range d.Starts {
		fmt.Fprintf(&b, "%s → %s\n", x.Name, x.Kernels[0].Agent)
	}
	list("starts more", d.StartsMore)
	list("starts less", d.StartsLess)
	for _, w := range d.Waits {
		fmt.Fprintf(&b, "%s waits: %s\n", w.Name, strings.Join(w.Sentences, " "))
	}
	for _, a := range d.Drained {
		list("stay on "+a.Agent, a.Sessions)
	}
	return s.named(b.String())
}
