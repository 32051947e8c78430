package simulation

import (
	"time"

	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
)

// busEvent is an event of the stream in Redis.
type busEvent struct {
	name      string
	agent     string
	kernel    uuid.UUID
	reason    string
	heartbeat *protocol.Heartbeat
}

// publish puts an event on the stream. One process consumes it, sooner or later; it may be lost, and it may come twice.
func (w *World) publish(e busEvent) {
	if w.chance(w.faults.eventLost) {
		w.log("  event %s of %s%s is lost", e.name, e.agent, w.about(e))
		return
	}
	d := w.between(time.Millisecond, 50*time.Millisecond)
	if w.chance(w.faults.eventLate) {
		d += w.between(0, time.Minute)
	}
	w.after(d, nil, func() { w.consume(e) })
	if w.chance(w.faults.eventTwice) {
		w.after(d+w.between(0, 30*time.Second), nil, func() { w.consume(e) })
	}
}

func (w *World) about(e busEvent) string {
	if e.kernel == uuid.Nil {
		return ""
	}
	return " about " + w.name(e.kernel)
}

func (w *World) consume(e busEvent) {
	var alive []*process
	for _, n := range w.nodes {
		if !n.proc.dead {
			alive = append(alive, n.proc)
		}
	}
	if len(alive) == 0 {
		return // nobody reads: the stream is trimmed
	}
	p := pick(w, alive)
	w.after(0, p, func() { p.handleEvent(e) })
}

// handleEvent mirrors actors/node's HandleEvent.
func (p *process) handleEvent(e busEvent) {
	now := p.w.time()
	switch e.name {
	case "agent_heartbeat":
		hb := *e.heartbeat
		hb.Received = now
		p.route(cluster.Agent(e.agent), &hb)
	case "agent_started":
		p.route(cluster.Agent(e.agent), &protocol.AgentJoined{Agent: e.agent, Reason: e.reason})
	case "agent_terminated":
		p.route(cluster.Agent(e.agent), &protocol.AgentLeft{Agent: e.agent, Reason: e.reason, Now: now})
	case "kernel_started":
	default:
		if p.w.trace != nil {
			p.w.log("%s takes event %s%s (%s)", p, e.name, p.w.about(e), e.reason)
		}
		p.deliver(&protocol.AgentEvent{Name: e.name, KernelID: e.kernel, Reason: e.reason, ExitCode: -1, Now: now})
	}
}

// deliver mirrors actors/node's directory: a kernel's session is known here, or guessed; seek looks it up.
func (p *process) deliver(e *protocol.AgentEvent) {
	if s, ok := p.roster[e.KernelID]; ok {
		p.route(cluster.Session(s), e)
		return
	}
	if !p.route(cluster.Session(e.KernelID), e) {
		p.seek(e)
	}
}

func (p *process) seek(e *protocol.AgentEvent) {
	sought := *e
	sought.Sought = true
	var found *row
	p.work([]func() error{func() error { found = p.w.db.kernels[e.KernelID]; return nil }}, func(err error) {
		if err == nil && found != nil {
			p.route(cluster.Session(found.SessionID), &sought)
		}
	})
}
