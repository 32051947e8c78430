package node

import (
	"context"
	"encoding/json"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/redis/event"
)

// Errors of agents are kept where administrators look for them.
type ErrorLog interface {
	// AgentError stores an agent's error; it never blocks.
	AgentError(agent string, e event.AgentError)
}

// HandleEvent takes one event of the stream that this node consumes and brings it to its actor. It does not wait for the actor.
// Events of this manager itself are ignored: what they say is known.
func (n *Node) HandleEvent(e event.Event, source string) {
	now := time.Now()
	kernel := func(name string, id backendai.KernelID, creation backendai.CreationID, reason string, exit int) {
		n.directory.deliver(&protocol.AgentEvent{Name: name, KernelID: id.UUID, CreationID: string(creation), Reason: reason, ExitCode: exit, Now: now})
	}
	switch e := e.(type) {
	case event.AgentHeartbeat:
		n.heartbeat(source, e.Info, now)
	case event.AgentStarted:
		if e.Reason != "revived" { // that one is a manager's own
			n.Send(cluster.Agent(source), &protocol.AgentJoined{Agent: source, Reason: e.Reason})
		}
	case event.AgentTerminated:
		n.Send(cluster.Agent(source), &protocol.AgentLeft{Agent: source, Reason: e.Reason, Now: now})
	case event.AgentError:
		if n.cfg.Errors != nil {
			n.cfg.Errors.AgentError(source, e)
		}
	case event.KernelPulling:
		kernel("kernel_pulling", e.Kernel, e.Creation, e.Reason, 0)
	case event.KernelCreating:
		kernel("kernel_creating", e.Kernel, e.Creation, e.Reason, 0)
	case event.KernelTerminated:
		if source != managerSource {
			kernel("kernel_terminated", e.Kernel, "", e.Reason, e.ExitCode)
		}
	case event.SessionSuccess:
		kernel("session_success", e.Session.MainKernel(), "", e.Reason, e.ExitCode)
	case event.SessionFailure:
		kernel("session_failure", e.Session.MainKernel(), "", e.Reason, e.ExitCode)
	case event.DoTerminateSession:
		n.Send(cluster.Session(e.Session), &protocol.AgentEvent{Name: "do_terminate_session", KernelID: e.Session.UUID, Reason: e.Reason, Now: now})
	case event.DoSyncKernelLogs:
		n.containerLog(e)
	case event.ExecutionStarted:
		n.svc.Live.Accessed(e.Session.UUID, true)
	case event.ExecutionFinished:
		n.svc.Live.Accessed(e.Session.UUID, false)
	case event.ExecutionTimeout:
		n.svc.Live.Accessed(e.Session.UUID, false)
	case event.ExecutionCancelled:
		n.svc.Live.Accessed(e.Session.UUID, false)
	}
}

// managerSource is the source of events that managers publish for themselves.
const managerSource = "manager"

func (n *Node) heartbeat(agent string, info event.Heartbeat, now time.Time) {
	hb := &protocol.Heartbeat{
		Agent: agent, Region: info.Region, ScalingGroup: info.ScalingGroup, Addr: info.Addr, Version: info.Version,
		Architecture: backendai.NormalizeArchitecture(info.Architecture), Features: info.Features, Received: now,
	}
	if hb.ScalingGroup == "" {
		hb.ScalingGroup = "default"
	}
	if info.Architecture == "" {
		hb.Architecture = "x86_64"
	}
	for _, s := range info.Slots {
		t, err := backendai.ParseSlotType(s.Unit)
		if err != nil {
			continue
		}
		amount, err := backendai.ParseDecimal(s.Amount)
		if err != nil {
			continue
		}
		hb.Slots = append(hb.Slots, protocol.AgentSlot{Name: s.Name, Type: t, Amount: amount})
	}
	if doc, err := json.Marshal(info.ComputePlugins); err == nil {
		hb.ComputePlugins = doc
	}
	for _, im := range info.Images {
		if ref, err := backendai.ParseImageRef(im.Tag, n.registries(), hb.Architecture); err == nil {
			hb.Images = append(hb.Images, ref.Canonical())
		}
	}
	n.Send(cluster.Agent(agent), hb)
}

func (n *Node) registries() []string {
	if n.cfg.Registries == nil {
		return nil
	}
	return n.cfg.Registries()
}

// containerLog takes a container's log out of Redis and has its shard keep it; only then is it removed there.
func (n *Node) containerLog(e event.DoSyncKernelLogs) {
	n.svc.Work.Go(func(ctx context.Context) {
		session, found, err := n.directory.find(ctx, e.Kernel.UUID)
		if err == nil && found {
			err = n.svc.Live.ContainerLog(ctx, e.Container, func(log []byte) error {
				_, err := n.Ask(ctx, cluster.Session(session), func(to protocol.ReplyTo) any {
					return &protocol.KernelLog{KernelID: e.Kernel.UUID, Log: log, Reply: to}
				})
				return err
			})
		}
		if err != nil {
			n.cfg.Log.Warn("a container's log was not kept", "kernel", e.Kernel, "error", err)
		}
	})
}
