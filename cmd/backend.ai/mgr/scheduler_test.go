package mgr

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
)

// recording is that of a scheduler that has placed one session and has no room for another.
func recording(t *testing.T) []byte {
	t.Helper()
	now := time.Date(2022, 5, 1, 0, 0, 0, 0, time.UTC)
	c := scheduler.NewCore("default", protocol.Policy{Name: "fifo"}, backendai.NewKnownSlots())
	record := c.NewRecord(100)
	c.Apply(&protocol.AgentState{ID: "i-1", ScalingGroup: "default", Architecture: "x86_64", Alive: true, Schedulable: true, Available: backendai.SlotsOf("cpu", "4", "mem", "8g")}, now)
	free, err := backendai.SlotsFromPolicy(backendai.ResourceSlots{}, backendai.Unlimited, c.Known)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		id := uuid.UUID{byte(i + 1)}
		c.Apply(&protocol.Enqueue{Session: protocol.PendingSession{ID: id, Name: fmt.Sprint("s", i), Type: backendai.Interactive, AccessKey: "AK", ScalingGroup: "default",
			CreatedAt: now.Add(time.Duration(i) * time.Second), ClusterMode: backendai.SingleNode,
			Limits:  protocol.Limits{Keypair: free, Group: free, Domain: free, ScalingGroups: map[string][]backendai.SessionType{"default": backendai.SessionTypes}},
			Kernels: []protocol.PendingKernel{{ID: id, Image: "python", Architecture: "x86_64", Slots: backendai.SlotsOf("cpu", "3", "mem", "1g")}}}}, now)
	}
	if _, err := c.Pass(now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := record.Recording().Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func TestSchedulerReplay(t *testing.T) {
	text := recording(t)
	path := filepath.Join(t.TempDir(), "record.jsonl")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, first, errs := command(t, "", "mgr", "scheduler", "replay", path)
	if code != 0 {
		t.Fatal(code, first, errs)
	}
	for _, want := range []string{"The scheduler of default, 4 steps from number 0 on; 0 sessions wait", "#0 AgentState at 2022-05-01T00:00:00Z", "#3 pass at 2022-05-01T00:01:00Z",
		"→ place 01000000-0000-0000-0000-000000000000 on i-1", "→ report to 02000000-0000-0000-0000-000000000000: Could not find", "→ agent i-1 has given", "→ keypair AK has 1 sessions", "4 steps were made again; 1 sessions wait"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is missing in\n%s", want, first)
		}
	}
	if _, second, _ := command(t, string(text), "mgr", "scheduler", "replay", "-"); second != first {
		t.Errorf("the second run says\n%s\ninstead of\n%s", second, first)
	}
	code, out, _ := command(t, "", "mgr", "scheduler", "replay", "--format", "json", path)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 4 || !strings.Contains(lines[3], `"same":true`) || !strings.Contains(lines[3], `"Place":`) {
		t.Error(code, out)
	}
	if code, out, _ = command(t, "\nq\n", "mgr", "scheduler", "replay", "--step", path); code != 0 || strings.Count(out, "\n#") != 2 {
		t.Error(code, out)
	}

	// An effect that was another one is told, and the exit code says so.
	other := bytes.Replace(text, []byte(`"event":"pass","effects":"`), []byte(`"event":"pass","effects":"00`), 1)
	code, out, errs = command(t, string(other), "mgr", "scheduler", "replay", "-")
	if code != 1 || !strings.Contains(out, "≠") || !strings.Contains(errs, "1 of 4 steps have led to something else") {
		t.Error(code, out, errs)
	}
	for _, bad := range []string{"", "{}\n", `{"recording": 99}` + "\n"} {
		if code, _, errs := command(t, bad, "mgr", "scheduler", "replay", "-"); code != 1 || !strings.Contains(errs, "recording") {
			t.Errorf("%q: %d %s", bad, code, errs)
		}
	}
	if code, _, _ := command(t, "", "mgr", "scheduler", "replay", "--step", "-"); code != 2 {
		t.Error(code)
	}
}
