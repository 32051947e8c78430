package simulation

import (
	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/persistence/postgres/journal"
)

// request is an RPC of a kernel's actor. It travels as the argument of a callosum.Call: nothing of the wire is simulated.
type request struct {
	Kind     string
	Kernel   uuid.UUID
	Session  uuid.UUID
	Slots    backendai.ResourceSlots
	Reason   string
	Suppress bool
	Batch    bool
	Guard    journal.Guard // of who asks; agents see it only as a fence
	Via      journal.Guard // of the twin that sends it
}

const (
	createKernels = callosum.MethodCreateKernels
	destroyKernel = callosum.MethodDestroyKernel
	restartKernel = callosum.MethodRestartKernel
	probeKernel   = callosum.MethodStartService
)

func (r request) wire() callosum.Call { return callosum.NewCall(r.Kind, r) }
