package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Variable is the environment variable that arms points: "name=count" separated by commas.
const Variable = "BACKENDAI_FAILPOINTS"

// The points.
const (
	// AfterCommit: rows are committed, the effects behind them are not carried out.
	AfterCommit = "after-commit"
	// BeforeCommit: a transaction has written its rows and does not commit.
	BeforeCommit = "before-commit"
	// AfterCall: an agent has answered, and the answer has no effect yet.
	AfterCall = "after-call"
	// AfterSend: a command was sent to an agent, its answer is not there.
	AfterSend = "after-send"
	// AfterClaim: shards are claimed in etcd, their epochs are not raised.
	AfterClaim = "after-claim"
	// AfterEpoch: epochs are raised, the shards' rows are not read.
	AfterEpoch = "after-epoch"
	// BeforeRelease: shards are drained and written, and not released.
	BeforeRelease = "before-release"
	// AfterPlacement: a scheduler has decided, and the session does not know.
	AfterPlacement = "after-placement"
)

// Points are all of them.
var Points = []string{AfterCommit, BeforeCommit, AfterCall, AfterSend, AfterClaim, AfterEpoch, BeforeRelease, AfterPlacement}

// exitCode is that of a process that was killed.
const exitCode = 137

var (
	enabled = os.Getenv(Variable) != ""
	armed   = parse(os.Getenv(Variable))
)

func parse(text string) map[string]*atomic.Int64 {
	points := make(map[string]*atomic.Int64)
	for _, item := range strings.Split(text, ",") {
		name, count, ok := strings.Cut(item, "=")
		n, err := strconv.ParseInt(count, 10, 64)
		if !ok || err != nil {
			continue
		}
		left := &atomic.Int64{}
		left.Store(n)
		points[name] = left
	}
	return points
}

// Hit ends the process if the point is armed and its count has run down.
func Hit(name string) {
	if !enabled {
		return
	}
	if left := armed[name]; left != nil && left.Add(-1) == 0 {
		fmt.Fprintln(os.Stderr, "failpoint", name)
		os.Exit(exitCode)
	}
}
