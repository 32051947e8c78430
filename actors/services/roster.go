package services

import (
	"sync"

	"github.com/google/uuid"
)

// Roster knows the kernels of the sessions that live on this node, so that an
// event about a kernel finds its session without asking the database.
type Roster struct {
	mu       sync.RWMutex
	sessions map[uuid.UUID]uuid.UUID // by kernel
}

// NewRoster makes an empty roster.
func NewRoster() *Roster { return &Roster{sessions: make(map[uuid.UUID]uuid.UUID)} }

// Add notes a kernel of a session.
func (r *Roster) Add(kernel, session uuid.UUID) {
	r.mu.Lock()
	r.sessions[kernel] = session
	r.mu.Unlock()
}

// Remove forgets a kernel.
func (r *Roster) Remove(kernel uuid.UUID) {
	r.mu.Lock()
	delete(r.sessions, kernel)
	r.mu.Unlock()
}

// SessionOf finds the session of a kernel that lives here.
func (r *Roster) SessionOf(kernel uuid.UUID) (uuid.UUID, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok := r.sessions[kernel]
	return id, ok
}
