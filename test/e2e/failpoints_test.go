package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	nodes "backend.ai/manager/cluster"
	"backend.ai/manager/config/failpoint"
	"backend.ai/manager/test/ports"
)

// second starts another manager of the same cluster, which ends at a failpoint.
func (c *cluster) second(name, points string) *process {
	c.Helper()
	text, err := os.ReadFile(c.config)
	if err != nil {
		c.Fatal(err)
	}
	addr := ports.Free()
	_, port, _ := strings.Cut(addr, ":")
	_, first, _ := strings.Cut(strings.TrimPrefix(c.endpoint, "http://"), ":")
	toml := strings.Replace(string(text), "port = "+first+" }", "port = "+port+" }\nid = \""+name+"\"", 1)
	path := filepath.Join(c.dir, name+".toml")
	if err := os.WriteFile(path, []byte(toml), 0o600); err != nil {
		c.Fatal(err)
	}
	c.Setenv(failpoint.Variable, points)
	defer os.Unsetenv(failpoint.Variable)
	return launch(c.T, programs.manager, "mgr", "start-server", "-f", path)
}

// acts completes a node's name so that beside the first node the shards of the schedulers and of the agent will be its.
func (c *cluster) acts(prefix string) (name string) {
	c.Helper()
	first := c.text(`SELECT owner FROM backendai_actors.shards WHERE owner NOT LIKE 'dying-%' LIMIT 1`)
	n, err := strconv.Atoi(c.text(`SELECT count(*)::text FROM backendai_actors.shards`))
	if err != nil {
		c.Fatal(err)
	}
	schedulers, agent := nodes.ShardOf(nodes.Scheduler("default"), n), nodes.ShardOf(nodes.Agent("i-local"), n)
	for i := range 1000 {
		name = fmt.Sprintf("%s-%d", prefix, i)
		if wanted := nodes.Wanted([]string{first, name}, n); wanted[schedulers] == name && wanted[agent] == name {
			return name
		}
	}
	c.Fatal("no name takes the shards from " + first)
	return ""
}

// A manager dies between two effects, at every point there is, while sessions come and go through another one: no request fails, no
// session is lost, nothing is left behind.
func TestDeathBetweenTwoEffects(t *testing.T) {
	c := newCluster(t)
	for round, point := range failpoint.Points {
		count := 4
		switch point {
		case failpoint.AfterClaim, failpoint.AfterEpoch, failpoint.BeforeRelease:
			count = 1
		}
		name := c.acts(fmt.Sprintf("dying-%d", round))
		dying := c.second(name, fmt.Sprintf("%s=%d", point, count))
		if point == failpoint.BeforeRelease {
			c.eventually("the second manager owns shards", func() bool {
				return c.text(`SELECT count(*)::text FROM backendai_actors.shards WHERE owner = $1`, name) != "0"
			})
			_ = dying.cmd.Process.Signal(syscall.SIGTERM)
		}
		var ended atomic.Bool
		go func() {
			<-dying.done
			ended.Store(true)
		}()
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; i < 4 || !ended.Load(); i++ {
					if i > 200 {
						t.Errorf("%s: the manager does not get there:\n%s", point, tail(dying.out.String()))
						return
					}
					session := fmt.Sprintf("%s-%d-%d", point, w, i)
					if status, answer := c.create(session, true); status != 201 || answer["status"] != "RUNNING" {
						t.Errorf("%s: create: %d %v", point, status, answer)
					}
					if status, answer := c.request(userKey, userSecret, "DELETE", "/session/"+session, nil); status != 200 {
						t.Errorf("%s: destroy: %d %v", point, status, answer)
					}
				}
			})
		}
		wg.Wait()
		if code := dying.cmd.ProcessState.ExitCode(); code != 137 {
			t.Errorf("%s: exit code %d:\n%s", point, code, tail(dying.out.String()))
		}
		if left := c.text(`SELECT count(*)::text FROM kernels WHERE status NOT IN ('TERMINATED', 'CANCELLED')`); left != "0" {
			t.Errorf("%s: %s sessions are left", point, left)
		}
		if t.Failed() {
			t.Logf("the other manager:\n%s", tail(c.manager.out.String()))
			t.FailNow()
		}
	}
	c.destroyAll()
}
