package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"
)

// Two hundred sessions at once through the official client's asyncio API, on real processes.
func TestTwoHundredSessionsAtOnce(t *testing.T) {
	c := newCluster(t)
	cmd := exec.CommandContext(t.Context(), c.python(), "testdata/many.py", "200", "python")
	cmd.Env = append(os.Environ(), "BACKEND_ENDPOINT="+c.endpoint, "BACKEND_ENDPOINT_TYPE=api", "BACKEND_ACCESS_KEY="+userKey, "BACKEND_SECRET_KEY="+userSecret, "HOME="+c.dir, "PYTHONWARNINGS=ignore")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct {
		Running     int      `json:"running"`
		Failed      []string `json:"failed"`
		Right       int      `json:"right_answers"`
		Undestroyed []string `json:"undestroyed"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if got.Running != 200 || got.Right != 200 || len(got.Undestroyed) != 0 {
		t.Errorf("not all of 200 sessions ran and ended: %s", out)
	}
	c.noKernels()
	if left := c.text(`SELECT count(*)::text FROM kernels WHERE status NOT IN ('TERMINATED', 'CANCELLED')`); left != "0" {
		t.Errorf("%s rows are not dead", left)
	}
}
