package node

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/config/shared/etcdtest"
	"backend.ai/manager/test/fakeagent"
)

// Everything that two nodes say to each other is lost for a while, in the middle of creations, questions and destructions, and no shard
// moves. When the connection is there again, what was on the way is asked again.
func testInterruptedConnection(t *testing.T, etcd *etcdtest.Server) {
	s, f := newSeveral(t, etcd, "ab", 2, func(c *fakeagent.Config) {
		c.CreateDelay, c.DestroyDelay = 100*time.Millisecond, 50*time.Millisecond
	})
	a, b := f[0], f[1]
	row := func(i int) (uuid.UUID, func() error) {
		r := kernelRow(fmt.Sprintf("interrupted-%d", i), small)
		r.ID = on(int32(i % manyShards)) // whose shards are everybody's
		r.SessionID = r.ID
		return r.ID, func() error { _, err := f[i/manyShards%2].create(r); return err }
	}
	var old []uuid.UUID
	for i := range 2 * manyShards {
		id, create := row(i)
		if err := create(); err != nil {
			t.Fatal(err)
		}
		old = append(old, id)
	}
	for _, id := range old {
		if status := a.await(id); status != backendai.Running {
			t.Fatal(status)
		}
	}
	var busy sync.WaitGroup
	var fresh []uuid.UUID
	begin := make(chan struct{})
	for i := range 2 * manyShards {
		id, create := row(2*manyShards + i)
		fresh = append(fresh, id)
		busy.Go(func() {
			<-begin
			if err := create(); err != nil {
				t.Errorf("create: %v", err)
			}
		})
		busy.Go(func() {
			<-begin
			if _, err := f[i%2].destroy(old[i], false); err != nil {
				t.Errorf("destroy: %v", err)
			}
		})
	}
	a.ears.mute.Store(true)
	before := time.Now()
	close(begin)
	<-time.After(300 * time.Millisecond) // meanwhile, what is said is lost
	a.ears.mute.Store(false)
	self, _ := b.members.View().Member(b.members.View().Self)
	a.node.broken(self.Address)
	busy.Wait()
	for _, id := range fresh {
		if status := b.await(id); status != backendai.Running {
			t.Error(status)
		}
	}
	if took := time.Since(before); took > 25*time.Second {
		t.Errorf("it took %s until everything was as it should be", took)
	}
	s.checkBooks(len(fresh))
	s.eventually("nothing is left to mend", func() bool {
		a.node.mending.mu.Lock()
		defer a.node.mending.mu.Unlock()
		return len(a.node.mending.words) == 0
	})
}
