package session

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
)

// requestIDs gives the new session an id that is made of the request. A balancer may send the very same signed request again, to another
// node, when the first one died before it could answer; it then finds the session that the first has created, and waits for it.
type requestIDs struct {
	first uuid.UUID // zero: any
	given bool
}

// newIDs derives the id of what a request creates from all that tells it from others: who signed it, when, and what it asks for. The times of
// clients that do not tell parts of a second are no use for that: two requests of one second may mean two sessions.
func newIDs(r *api.Request) *requestIDs {
	date := r.SignedAt()
	body, err := r.Body()
	if err != nil || !strings.Contains(date, ".") {
		return &requestIDs{}
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(r.Who().Keypair.AccessKey), []byte(r.Header("Authorization")), []byte(date), body} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash takes everything
		_, _ = h.Write(part)
	}
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // of the form of a random one, which is what clients know
	return &requestIDs{first: id}
}

// UUID is the session's at first, then any.
func (n *requestIDs) UUID() uuid.UUID {
	if n.given || n.first == uuid.Nil {
		return uuid.New()
	}
	n.given = true
	return n.first
}

func (n *requestIDs) CreationID() string { return string(backendai.NewCreationID()) }

// made tells whether a session was created by this very request.
func (n *requestIDs) made(id uuid.UUID) bool { return n.first != uuid.Nil && id == n.first }
