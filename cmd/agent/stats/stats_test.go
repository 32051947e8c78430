package stats

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/sandbox"
	"github.com/google/go-cmp/cmp"
)

func text(t *testing.T, m callosum.Map) string {
	t.Helper()
	raw, err := callosum.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	v, err := callosum.DecodeValue(raw)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := json.Marshal(v)
	return string(out)
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 1.5: "1.5", 0.1234: "0.123", 1048576: "1048576", -0.0001: "0", 33.3333: "33.333", 1e15: "1000000000000000"} {
		if got := Number(v); got != want {
			t.Errorf("%v: %s", v, got)
		}
	}
}

func TestKernelMetrics(t *testing.T) {
	now := time.Unix(1000, 0)
	k := NewKernel(2 << 20)
	k.Add(Usage{CPUMillis: 100, MemBytes: 1 << 20}, now)
	k.Add(Usage{CPUMillis: 2600, MemBytes: 1 << 19, ReadBytes: 10, Writes: 5000}, now.Add(5*time.Second))
	got := text(t, k.Add(Usage{CPUMillis: 2600, MemBytes: 1 << 20, ReadBytes: 10, Writes: 5000}, now.Add(10*time.Second)))
	want := `{"cpu_util":{"current":"0","capacity":"1000","pct":"0","unit_hint":"percent","stats.avg":"250","stats.max":"500"},` +
		`"cpu_used":{"current":"2600","capacity":null,"pct":null,"unit_hint":"msec"},` +
		`"mem":{"current":"1048576","capacity":"2097152","pct":"50","unit_hint":"bytes","stats.max":"1048576"},` +
		`"io_read":{"current":"10","capacity":null,"pct":null,"unit_hint":"bytes","stats.rate":"0"},` +
		`"io_write":{"current":"5000","capacity":null,"pct":null,"unit_hint":"bytes","stats.rate":"0"},` +
		`"io_scratch_size":{"current":"0","capacity":"0","pct":null,"unit_hint":"bytes","stats.max":"0"}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNodeMetrics(t *testing.T) {
	now := time.Unix(1000, 0)
	var n Node
	m := Machine{CPUMillis: []float64{1000, 2000}, MemTotal: 1000, MemFree: 600, Received: 10, Disks: []Disk{{"/dev/x", 1, 4}}}
	n.Add(m, now)
	m.CPUMillis, m.Received = []float64{1500, 2000}, 1010
	got := text(t, n.Add(m, now.Add(5*time.Second)))
	want := `{"node":{"cpu_util":{"current":"500","capacity":"5000","pct":"10","unit_hint":"msec"},"mem":{"current":"400","capacity":"1000","pct":"40","unit_hint":"bytes","stats.max":"400"},` +
		`"disk":{"current":"1","capacity":"4","pct":"25","unit_hint":"bytes"},"net_rx":{"current":"200","capacity":null,"pct":null,"unit_hint":"bps"},"net_tx":{"current":"0","capacity":null,"pct":null,"unit_hint":"bps"}},` +
		`"devices":{"cpu_util":{"0":{"current":"500","capacity":"5000","pct":"10","unit_hint":"msec"},"1":{"current":"0","capacity":"5000","pct":"0","unit_hint":"msec"}},` +
		`"mem":{"root":{"current":"400","capacity":"1000","pct":"40","unit_hint":"bytes","stats.max":"400"}},"disk":{"/dev/x":{"current":"1","capacity":"4","pct":"25","unit_hint":"bytes"}},` +
		`"net_rx":{"node":{"current":"200","capacity":null,"pct":null,"unit_hint":"bps"}},"net_tx":{"node":{"current":"0","capacity":null,"pct":null,"unit_hint":"bps"}}}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRealMeasurements(t *testing.T) {
	m := ReadMachine()
	if len(m.CPUMillis) == 0 || m.MemTotal < 1<<20 || m.MemFree <= 0 {
		t.Errorf("%+v", m)
	}
	if u := Measure(os.Getpid(), sandbox.Processes(), nil); u.MemBytes < 1<<20 {
		t.Errorf("%+v", u)
	}
}
