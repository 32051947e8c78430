package session

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/outbox"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/record"
)

// Phase is where a session is in its life.
type Phase string

// The phases.
const (
	Creating  Phase = "creating"
	Pending   Phase = "pending"
	Launching Phase = "launching"
	Starting  Phase = "starting"
	Running   Phase = "running"
	Aborting  Phase = "aborting"
	Ending    Phase = "ending"
	Gone      Phase = "gone"
)

// Labels of what is persisted, by which a refusal is recognised.
const (
	labelCreate  = "create"
	labelPlace   = "place"
	labelRename  = "rename"
	labelWishes  = "priority"
	labelAttempt = "attempt"
	labelCancel  = "cancel"
)

// destroyWait bounds how long a caller of Destroy waits for the agents: the rows decide, the agents follow.
const destroyWait = 25 * time.Second

const timerDestroy = "destroy-wait"

// timerLimit ends a session that has run as long as it may.
const timerLimit = "time-limit"

// Member is what the session knows of one kernel.
type Member struct {
	Row    record.Kernel
	Freed  bool
	GaveUp bool // see protocol.KernelChanged
	Failed *protocol.StartFailure
	Stats  json.RawMessage
}

func (m *Member) dead() bool { return m.Row.Status.IsDead() }

// The effects of a session, besides outbox.Persist.
type (
	// SpawnKernel makes the actor of a member; Recovered says that its row was alive before.
	SpawnKernel struct {
		Row       record.Kernel
		Recovered bool
	}
	// TellKernel sends a member a message.
	TellKernel struct {
		KernelID uuid.UUID
		Message  any
	}
	// ToScheduler sends the scheduler of the session's group a message.
	ToScheduler struct {
		ScalingGroup string
		Message      any
	}
	// ToAllSchedulers sends every scheduler a message.
	ToAllSchedulers struct{ Message any }
	// Publish puts a session event on the bus and calls the session's web hook.
	Publish struct {
		Name   string
		Reason string
	}
	// PublishKernel puts an event of one member on the bus.
	PublishKernel struct {
		Name     string
		KernelID uuid.UUID
		Reason   string
	}
	// Answer answers an API call.
	Answer struct {
		To    protocol.ReplyTo
		Value any
		Err   error
	}
	// Stored follows the session's first rows: those who wait for them are answered by what CreateCommitted returns.
	Stored struct{}
	// LoadPending reads what the scheduler needs besides the rows; comes back as PendingLoaded.
	LoadPending struct{}
	// Prepare gets a launch ready outside the actor; comes back as Prepared.
	Prepare struct {
		Launch  *protocol.Launch // nil: read it
		Keys    bool             // an SSH key pair is needed
		Network *Network         // to create, nil if none
	}
	// RemoveNetwork removes the session's network.
	RemoveNetwork struct{ Network Network }
	// Forward passes a call on to the agent of the main kernel.
	Forward struct {
		Agent  string
		Invoke protocol.Invoke
	}
	// SetTimer asks for a Tick.
	SetTimer struct {
		Kind  string
		After time.Duration
	}
	// Stop ends the actor and its members.
	Stop struct{}
	// Crash gives up with a reason; the supervisor rebuilds the actor from its rows.
	Crash struct{ Reason string }
)

// Network is a network of a session with several containers (spec/scheduling-lifecycle §11.2).
type Network struct {
	Name  string
	Mode  backendai.ClusterMode
	Agent string // of a single-node session
}

// Prepared is the event that brings a launch that is ready, or says why it can't be.
type Prepared struct {
	Launch  *protocol.Launch
	Keys    *callosum.SSHKeyPair
	Network string // name of the network that was created, "" if none
	Err     *protocol.StartFailure
	Now     time.Time
}

// PendingLoaded brings limits and dependencies of a recovered pending session.
type PendingLoaded struct {
	Limits    protocol.Limits
	DependsOn []protocol.Dependency
}

// Recover is the first event of an actor made from rows that were alive before.
type Recover struct{ Now time.Time }

// Core is the state of one session.
type Core struct {
	ID      uuid.UUID
	Phase   Phase
	Members []*Member // main first
	// Debug adds agent ids to recorded start failures, as the original's debug mode does.
	Debug bool

	launch     *protocol.Launch
	limits     protocol.Limits
	dependsOn  []protocol.Dependency
	scheduler  protocol.SchedulerData
	network    *Network
	createTo   []creator // who waits for the first rows to be written
	stored     bool      // they are
	startTo    []protocol.ReplyTo
	destroyTo  []protocol.ReplyTo
	restartTo  []protocol.ReplyTo
	restarting int
	renameTo   protocol.ReplyTo
	oldName    string
	priorityTo protocol.ReplyTo
	oldOpts    []json.RawMessage // of the members, while a change of the priority is being written
	reason     string
	failure    *protocol.StartFailure // of the launch as a whole
}

// New makes the core of a session from its rows, main first.
func New(rows []record.Kernel) *Core {
	c := &Core{ID: rows[0].SessionID, Phase: Creating}
	for _, r := range rows {
		c.Members = append(c.Members, &Member{Row: r})
	}
	return c
}

func (c *Core) main() *Member { return c.Members[0] }

func (c *Core) member(id uuid.UUID) *Member {
	for _, m := range c.Members {
		if m.Row.ID == id {
			return m
		}
	}
	return nil
}

func (c *Core) all(holds func(*Member) bool) bool {
	for _, m := range c.Members {
		if !holds(m) {
			return false
		}
	}
	return true
}

// Step takes one event and returns what is to be done. Unknown events are ignored.
func (c *Core) Step(event any) []outbox.Effect {
	switch e := event.(type) {
	case *protocol.Create:
		if c.Phase != Creating {
			return c.createAgain(e)
		}
		return c.create(e)
	case *Recover:
		return c.recover(e)
	case *PendingLoaded:
		c.limits, c.dependsOn = e.Limits, e.DependsOn
		if c.Phase == Pending {
			return []outbox.Effect{c.enqueue()}
		}
	case *protocol.Requeue:
		if c.Phase == Pending {
			return []outbox.Effect{LoadPending{}}
		}
	case *protocol.Moved:
		if c.Phase == Pending && c.stored && e.Has(cluster.ShardOf(cluster.Scheduler(c.main().Row.ScalingGroup), e.Of)) {
			return []outbox.Effect{LoadPending{}}
		}
	case *protocol.Placement:
		return c.place(e)
	case *protocol.Attempt:
		return c.attempt(e)
	case *protocol.TimedOut:
		if c.Phase == Pending {
			return c.cancelPending("pending-timeout", "pending timeout", time.Time{}, protocol.ReplyTo{})
		}
	case *Prepared:
		return c.prepared(e)
	case *protocol.KernelChanged:
		return c.kernelChanged(e)
	case *protocol.AwaitStart:
		return c.awaitStart(e)
	case *protocol.Destroy:
		return c.destroy(e)
	case *protocol.Restart:
		return c.restart(e)
	case *protocol.Rename:
		return c.rename(e)
	case *protocol.Reprioritize:
		return c.reprioritize(e)
	case *protocol.Invoke:
		return c.invoke(e)
	case *protocol.Reach:
		here := &protocol.Reached{}
		if agent := c.main().Row.Agent; agent != nil {
			here.Agent = *agent
		}
		return []outbox.Effect{Answer{To: e.Reply, Value: here}}
	case *protocol.AgentEvent:
		return c.agentEvent(e)
	case *protocol.Reconcile:
		var effects []outbox.Effect
		for _, m := range c.Members {
			if m.Row.Status == backendai.Running {
				effects = append(effects, TellKernel{m.Row.ID, e})
			}
		}
		return effects
	case *protocol.Tick:
		switch e.Kind {
		case timerDestroy:
			return c.answerDestroy()
		case timerLimit:
			return c.overLimit(e.Now)
		}
	case *protocol.Preempt:
		return c.preempt(e)
	case *protocol.LostShard:
		return []outbox.Effect{Deposed{}}
	case *outbox.Refused:
		return c.refused(e)
	}
	return nil
}

// patchAll returns the effect of writing the named fields of every row as they are now.
func (c *Core) patchAll(label string, mask record.Field) *outbox.Persist {
	p := &outbox.Persist{Label: label}
	for _, m := range c.Members {
		p.Kernels = append(p.Kernels, &record.KernelPatch{ID: m.Row.ID, Mask: mask, Kernel: m.Row})
	}
	return p
}

func (c *Core) kernelIDs() []uuid.UUID {
	ids := make([]uuid.UUID, len(c.Members))
	for i, m := range c.Members {
		ids[i] = m.Row.ID
	}
	return ids
}

// enqueue is the effect of putting the session into its scaling group's queue.
func (c *Core) enqueue() outbox.Effect {
	rows := make([]*record.Kernel, len(c.Members))
	for i, m := range c.Members {
		rows[i] = &m.Row
	}
	s := protocol.PendingOf(rows, c.limits, c.dependsOn)
	s.Retries = c.scheduler.Retries
	return ToScheduler{s.ScalingGroup, &protocol.Enqueue{Session: s}}
}

func text(s string) *string { return &s }
