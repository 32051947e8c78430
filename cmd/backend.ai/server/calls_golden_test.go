package server_test

import (
	"slices"
	"strings"
	"testing"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/test/golden"
)

// notCalled are the recorded methods that a session's plain life has no use for.
var notCalled = map[string]string{
	"create_local_network":    "only for sessions of several containers",
	"destroy_local_network":   "only for sessions of several containers",
	"download_file (failure)": "the same call as download_file",
	"gather_hwinfo":           "asked by GraphQL",
	"start_service":           "the capture's resource group has no coordinator, so the agent is not asked",
	"update_scaling_group":    "asked by GraphQL",
}

// callDifferences change recorded calls into what they are meant to be now.
var callDifferences = map[string]struct {
	why  string
	want func(*golden.Call)
}{
	"create_kernels": {why: "the recorded session had another name, the digest is sent without the blanks that its column adds, " +
		"and the fence is there for agents that refuse managers which lost the session (others do not look at it)", want: func(c *golden.Call) {
		config := c.Args[3].([]any)[0].(map[string]any)
		config["environ"].(map[string]any)["BACKENDAI_SESSION_NAME"] = "gs-ea5f"
		image := config["image"].(map[string]any)
		image["digest"] = strings.TrimRight(image["digest"].(string), " ")
		config["internal_data"].(map[string]any)["fence"] = map[string]any{"epoch": 1.0, "shard": 0.0}
	}},
}

// compareCalls holds the first call of each method to the recorded one.
func (w *world) compareCalls(t *testing.T) {
	w.mu.Lock()
	first := map[string]golden.Call{}
	for _, c := range w.calls {
		if w.ofOthers(c) {
			continue
		}
		if _, there := first[c.Method]; !there {
			first[c.Method] = golden.CallOf(t, c)
		}
	}
	w.mu.Unlock()
	for method, want := range frames(t) {
		got, called := first[method]
		if why, meant := notCalled[method]; meant {
			if called {
				t.Errorf("%s was called: %s", method, why)
			}
			continue
		}
		if !called {
			t.Errorf("%s was not called", method)
			continue
		}
		d, differs := callDifferences[method]
		if differs {
			if len(compareCall(want, got)) == 0 {
				t.Errorf("%s is as recorded, though it is meant to differ: %s", method, d.why)
			}
			d.want(&want)
		}
		for _, complaint := range compareCall(want, got) {
			t.Errorf("%s: %s", method, complaint)
		}
	}
}

// ofOthers tells whether a call is about a kernel that was not recorded.
func (w *world) ofOthers(c callosum.Call) bool {
	return slices.ContainsFunc(c.Args, func(arg any) bool {
		id, ok := arg.(string)
		return ok && w.others[id] != nil
	})
}

func compareCall(want, got golden.Call) []string {
	return golden.Compare(map[string]any{"args": want.Args, "kwargs": want.Kwargs}, map[string]any{"args": got.Args, "kwargs": got.Kwargs},
		func(at string) bool {
			return strings.HasSuffix(at, ".fence.epoch") || strings.HasSuffix(at, ".fence.shard")
		})
}
