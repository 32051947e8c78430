package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A seed gives the same faults in the same order, and a longer run begins like a shorter one.
func TestPlanIsReplayable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, n, more := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 60).Draw(t, "n"), rapid.IntRange(0, 60).Draw(t, "more")
		of := kinds[:rapid.IntRange(1, len(kinds)).Draw(t, "kinds")]
		short, long := planFor(seed, n, 3, 10, of), planFor(seed, n+more, 3, 10, of)
		if diff := cmp.Diff(short, long[:n]); diff != "" {
			t.Fatal(diff)
		}
		for i, f := range long {
			if !slices.Contains(of, f.Kind) || f.Node < 0 || f.Node > 2 || f.Agent < 0 || f.Agent > 9 || f.N != i+1 {
				t.Fatalf("%+v", f)
			}
			if f.Kind == pauseNode && (f.Lasts < time.Second || f.Lasts > 15*time.Second) {
				t.Fatalf("a pause of %s", f.Lasts)
			}
			round := long[i/len(of)*len(of) : i+1]
			if slices.ContainsFunc(round[:len(round)-1], func(o fault) bool { return o.Kind == f.Kind }) {
				t.Fatalf("%s comes twice in a round", f.Kind)
			}
		}
	})
}

// A request fails of the fault that came while it was under way, not of the one before.
func TestAnswersNameTheLastFault(t *testing.T) {
	plan := []fault{{N: 1, Kind: drainNode}, {N: 2, Kind: killNode}}
	got := answers([]entry{
		{Start: 1, End: 2, What: "request", Op: "list", Status: 503},
		{Start: 10, What: "fault", Fault: 1},
		{Start: 11, End: 12, What: "request", Op: "info", Status: 200, Fault: 1},
		{Start: 13, End: 14, What: "request", Op: "info", Status: 503, Fault: 1},
		{Start: 18, End: 21, What: "request", Op: "list", Fault: 1, Error: "EOF"},
		{Start: 20, What: "fault", Fault: 2},
	}, plan)
	want := map[string]int{"list 503 after nothing: ": 1, "info 503 after drain-node: ": 1, "list 0 after kill-node: EOF": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryKindHasATrait(t *testing.T) {
	for _, k := range kinds {
		if _, ok := traits[k]; !ok {
			t.Error(k)
		}
	}
	if len(traits) != len(kinds) {
		t.Error("a trait without a kind")
	}
}

func TestLongestWait(t *testing.T) {
	ms := func(start, end int) try {
		return try{start: time.Duration(start) * time.Millisecond, end: time.Duration(end) * time.Millisecond}
	}
	for _, c := range []struct {
		name  string
		list  []try
		from  int
		wait  int
		first int
		ok    bool
	}{
		{"nothing", nil, 0, 0, 0, false},
		{"all fail", []try{ms(1, 0), ms(50, 0)}, 0, 0, 0, false},
		{"none fails", []try{ms(100, 103), ms(150, 152)}, 100, 3, 103, true},
		{"before the fault", []try{ms(10, 12), ms(100, 104)}, 50, 54, 104, true},
		{"a gap", []try{ms(100, 102), ms(150, 0), ms(200, 0), ms(250, 255), ms(300, 301)}, 100, 105, 102, true},
		{"a late answer counts when none is quicker", []try{ms(100, 900), ms(150, 0)}, 100, 800, 900, true},
		{"the next is quicker", []try{ms(100, 900), ms(150, 160)}, 100, 60, 160, true},
	} {
		wait, first, ok := longestWait(c.list, time.Duration(c.from)*time.Millisecond)
		if ok != c.ok || wait.Milliseconds() != int64(c.wait) || first.end.Milliseconds() != int64(c.first) {
			t.Errorf("%s: %s, first %s, %v", c.name, wait, first.end, ok)
		}
	}
}

func TestDisagreement(t *testing.T) {
	truth := map[string][2]string{"a": {"i-1", "c1"}, "b": {"i-2", "c2"}}
	good := map[string]row{"a": {id: "a", status: "RUNNING", agent: "i-1", container: "c1"}, "b": {id: "b", status: "RUNNING", agent: "i-2", container: "c2"}, "c": {id: "c", status: "TERMINATED"}}
	if text := disagreement(good, truth); text != "" {
		t.Error(text)
	}
	for _, c := range []struct {
		change row
		want   string
	}{
		{row{id: "a", status: "RUNNING", agent: "i-1", container: "other"}, "I8"},
		{row{id: "a", status: "TERMINATED"}, "but it runs on i-1"},
		{row{id: "c", status: "RUNNING"}, "no agent knows it"},
		{row{id: "c", status: "PREPARING"}, "I4"},
		{row{id: "", status: "TERMINATED"}, "has no row"},
	} {
		rows := map[string]row{"a": good["a"], "b": good["b"], "c": good["c"]}
		if c.change.id == "" {
			delete(rows, "b")
		} else {
			rows[c.change.id] = c.change
		}
		if text := disagreement(rows, truth); !strings.Contains(text, c.want) {
			t.Errorf("%v: %q", c.change, text)
		}
	}
}

func TestStrangeAnswers(t *testing.T) {
	for _, c := range []struct {
		e            entry
		bad, strange bool
	}{
		{entry{What: "request", Op: "create", Status: 201}, false, false},
		{entry{What: "request", Op: "create", Status: 503}, true, false},
		{entry{What: "request", Op: "create"}, true, false},
		{entry{What: "request", Op: "list", Status: 400}, true, false},
		{entry{What: "request", Op: "destroy", Status: 403}, false, true},
		{entry{What: "request", Op: "redestroy", Status: 404}, false, false},
		{entry{What: "request", Op: "execute", Status: 500, Error: "500 …/probs/kernel-execution-failed"}, true, false},
		{entry{What: "request", Op: "execute", Status: 500, Error: "500 …/probs/internal-server-error"}, true, true},
	} {
		if c.e.bad() != c.bad || (c.e.strange() != "") != c.strange {
			t.Errorf("%v: bad %v, strange %q", c.e, c.e.bad(), c.e.strange())
		}
	}
}

// The example that people copy is the one that is proved, but for addresses.
func TestExampleOfHAProxy(t *testing.T) {
	example, err := os.ReadFile("../../docs/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{Addr: "127.0.0.1:1", socket: "/s"}
	nodes := []*node{{program: &program{Name: "a"}, API: "127.0.0.1:2"}, {program: &program{Name: "b"}, API: "127.0.0.1:3"}}
	var want []string
	servers := 0
	for line := range strings.SplitSeq(strings.TrimRight(string(example), "\n"), "\n") {
		switch f := strings.Fields(line); {
		case len(f) > 0 && f[0] == "server":
			if servers++; servers%3 == 1 { // of the three in each of the two back ends
				want = append(want, "    server a 127.0.0.1:2", "    server b 127.0.0.1:3")
			}
		case len(f) > 0 && f[0] == "bind":
			want = append(want, "    bind 127.0.0.1:1")
		case line == "global":
			want = append(want, line, "    stats socket /s mode 600 level admin")
		default:
			want = append(want, line)
		}
	}
	var got []string
	for line := range strings.SplitSeq(strings.TrimRight(b.adapt(string(example), nodes), "\n"), "\n") {
		got = append(got, strings.TrimRight(line, " "))
	}
	if diff := cmp.Diff(want, got); diff != "" || servers == 0 {
		t.Error(diff)
	}
}
