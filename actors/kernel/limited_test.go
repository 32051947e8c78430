package kernel

import (
	"encoding/json"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Since when a kernel runs is read from its row after a takeover; a restart must not begin the time limit anew.
func TestARestartDoesNotBeginTheTimeLimitAnew(t *testing.T) {
	for opts, kept := range map[string]bool{`{"time_limit":60}`: true, `{}`: false} {
		c := placed()
		c.Row.ResourceOpts = json.RawMessage(opts)
		c.moveTo(backendai.Running, text(""), noon)
		c.Stage = Running
		c.Step(&protocol.RestartKernel{Now: noon.Add(time.Hour)})
		if c.Row.Status != backendai.Restarting || c.Row.StatusChanged.Equal(noon) != kept {
			t.Errorf("%s: %s since %s", opts, c.Row.Status, c.Row.StatusChanged)
		}
		c.moveTo(backendai.Running, text(""), noon.Add(2*time.Hour))
		if c.Row.StatusChanged.Equal(noon) != kept {
			t.Errorf("%s: RUNNING since %s", opts, c.Row.StatusChanged)
		}
		// Calls of the restart may still come late, though the row does not say when it was.
		if until := c.settled(noon.Add(2 * time.Hour)); !until.Equal(noon.Add(2 * time.Hour).Add(settleTime)) {
			t.Errorf("%s: settled at %s", opts, until)
		}
		c.moveTo(backendai.Terminating, text(""), noon.Add(3*time.Hour))
		if !c.Row.StatusChanged.Equal(noon.Add(3 * time.Hour)) {
			t.Errorf("%s: the end does not count", opts)
		}
	}
}
