package wire

import (
	"fmt"
	"reflect"

	"backend.ai/manager/actors/ask"
	"backend.ai/manager/actors/protocol"
)

// registered are the messages that go to other nodes. A new one is added here; a test finds those that were forgotten.
var registered = []any{
	// To sessions.
	&protocol.Create{}, &protocol.AwaitStart{}, &protocol.Destroy{}, &protocol.Restart{}, &protocol.Rename{}, &protocol.Reprioritize{}, &protocol.Invoke{},
	&protocol.KernelLog{}, &protocol.Placement{}, &protocol.Attempt{}, &protocol.TimedOut{}, &protocol.Preempt{}, &protocol.Requeue{}, &protocol.AgentEvent{},
	&protocol.Reconcile{},

	// To schedulers.
	&protocol.Enqueue{}, &protocol.Withdraw{}, &protocol.Placed{}, &protocol.Settle{}, &protocol.Ending{}, &protocol.Release{},
	&protocol.DependencyDone{}, &protocol.Why{}, &protocol.WhyAfter{}, &protocol.PlanSession{}, &protocol.WhatIf{}, &protocol.SchedulerRecord{},
	&protocol.Recount{}, &protocol.Reach{}, &protocol.Reached{}, &protocol.LimitsChanged{}, &protocol.WishesChanged{}, &protocol.PolicyChanged{}, &protocol.PolicyStale{}, &protocol.AgentState{},

	// To agents' twins, and their answers.
	&protocol.Heartbeat{}, &protocol.AgentJoined{}, &protocol.AgentLeft{}, &protocol.SetSchedulable{}, &protocol.Call{}, &protocol.CallResult{},

	// Answers to code that waits: the answer itself, and its values.
	&ask.Answer{}, &protocol.NotHere{}, &protocol.Inspect{}, &protocol.Enqueued{}, &protocol.Outcome{}, &protocol.Destroyed{}, &protocol.Told{},
}

// bytesName stands for raw bytes, the answer of Call and Invoke.
const bytesName = "bytes"

// kind is a registered message: the struct behind the pointer, its name on the wire, and how it is written.
type kind struct {
	name  string
	typ   reflect.Type
	codec *codec
}

var (
	byType = map[reflect.Type]*kind{}
	byName = map[string]*kind{}
)

func init() {
	for _, msg := range registered {
		t := reflect.TypeOf(msg).Elem()
		k := &kind{name: t.Name(), typ: t, codec: codecOf(t)}
		if byName[k.name] != nil {
			panic(fmt.Sprintf("wire: two messages are named %s", k.name))
		}
		byType[t], byName[k.name] = k, k
	}
}
