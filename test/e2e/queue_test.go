package e2e

import (
	"testing"
	"time"
)

// What the scheduler decides on, as the official client asks for it: batch sessions, dependencies, start times, several containers, and, in the
// options that it passes on as they are, a time limit.
func TestOfficialClientsQueue(t *testing.T) {
	c := newCluster(t)
	create := func(name string, more ...string) {
		t.Helper()
		c.must("", append([]string{"session", "create", "-t", name, "-r", "cpu=1", "-r", "mem=256m"}, append(more, "python")...)...)
	}
	is := func(name, want string) func() bool {
		return func() bool {
			return c.text(`SELECT status || ' ' || result || ' ' || coalesce(status_info, '') FROM kernels WHERE session_name = $1 ORDER BY created_at DESC LIMIT 1`, name) == want
		}
	}
	create("e2e-batch", "--type", "batch", "-c", "sleep 1; echo done > proof.txt; cat proof.txt", "--enqueue-only")
	create("e2e-after", "--depends", "e2e-batch", "--enqueue-only")
	at := time.Now().UTC().Add(4 * time.Second)
	create("e2e-later", "--type", "batch", "-c", "echo later", "--starts-at", at.Format(time.RFC3339), "--enqueue-only")
	c.eventually("the batch session succeeds", is("e2e-batch", "TERMINATED SUCCESS task-finished"))
	c.eventually("the one that depends on it starts", is("e2e-after", "RUNNING UNDEFINED "))
	if when := c.text(`SELECT (a.status_changed > b.terminated_at - interval '1 second')::text FROM kernels a, kernels b WHERE a.session_name = 'e2e-after' AND b.session_name = 'e2e-batch'`); when != "true" {
		t.Error("it has started before")
	}
	c.eventually("the one that was to start later has run", is("e2e-later", "TERMINATED SUCCESS task-finished"))
	if when := c.text(`SELECT (terminated_at > starts_at)::text FROM kernels WHERE session_name = 'e2e-later'`); when != "true" {
		t.Error("it has run before its time")
	}
	c.must("", "session", "rm", "e2e-after")

	create("e2e-fails", "--type", "batch", "-c", "exit 3", "--enqueue-only")
	c.eventually("the batch session fails", is("e2e-fails", "TERMINATED FAILURE task-finished"))

	create("e2e-limited", "--resource-opts", "time_limit=2")
	c.eventually("its time limit ends it", is("e2e-limited", "TERMINATED UNDEFINED time-limit"))

	create("e2e-cluster", "--cluster-size", "2", "--cluster-mode", "single-node")
	contains(t, "a cluster's main container", c.must("", "run", "-t", "e2e-cluster", "-c", "import os; print(os.environ['BACKENDAI_CLUSTER_SIZE'], os.environ['BACKENDAI_CLUSTER_HOST'])", "python"), "2 main1")
	if n := c.text(`SELECT count(*)::text FROM kernels WHERE session_name = 'e2e-cluster' AND status = 'RUNNING'`); n != "2" {
		t.Errorf("%s containers run", n)
	}
	c.must("", "session", "rm", "e2e-cluster")
	c.noKernels()
}
