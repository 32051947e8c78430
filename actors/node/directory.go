package node

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
)

// maxRemembered bounds the kernels whose session is remembered.
const maxRemembered = 1 << 16

// directory finds the session of a kernel. The roster knows those that live here. Of others it is guessed that they are main kernels,
// which have their session's id and are most of all: only if there is no such session, the row is asked, once.
type directory struct {
	svc *services.Services

	mu       sync.Mutex
	sessions map[uuid.UUID]uuid.UUID // by kernel
}

func newDirectory(svc *services.Services) *directory {
	return &directory{svc: svc, sessions: make(map[uuid.UUID]uuid.UUID)}
}

// deliver brings an event about a kernel to its session, wherever that lives.
func (d *directory) deliver(e *protocol.AgentEvent) {
	if session, ok := d.remembered(e.KernelID); ok {
		d.svc.Router.Send(cluster.Session(session), e)
		return
	}
	if !d.svc.Router.Send(cluster.Session(e.KernelID), e) {
		d.seek(e)
	}
}

// seek asks the kernel's row where an event belongs.
func (d *directory) seek(e *protocol.AgentEvent) {
	sought := *e
	sought.Sought = true
	d.svc.Work.Go(func(ctx context.Context) {
		session, found, err := d.find(ctx, e.KernelID)
		if err != nil {
			d.svc.Log.Warn("an event's session could not be looked up; what it told will be found out later", "event", e.Name, "kernel", e.KernelID, "error", err)
			return
		}
		if found { // else it is of another cluster, or long gone
			d.svc.Router.Send(cluster.Session(session), &sought)
		}
	})
}

func (d *directory) remembered(kernel uuid.UUID) (uuid.UUID, bool) {
	if session, ok := d.svc.Roster.SessionOf(kernel); ok {
		return session, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	session, ok := d.sessions[kernel]
	return session, ok
}

// find is remembered, or asks the kernel's row.
func (d *directory) find(ctx context.Context, kernel uuid.UUID) (uuid.UUID, bool, error) {
	if session, ok := d.remembered(kernel); ok {
		return session, true, nil
	}
	session, found, err := d.svc.Store.SessionOfKernel(ctx, kernel)
	if err != nil || !found {
		return session, found, err
	}
	d.mu.Lock()
	if len(d.sessions) >= maxRemembered {
		clear(d.sessions)
	}
	d.sessions[kernel] = session
	d.mu.Unlock()
	return session, true, nil
}
