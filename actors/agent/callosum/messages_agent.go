package callosum

import "github.com/vmihailenco/msgpack/v5"

// Ping asks for an echo: proof that the agent's RPC loop lives.
type Ping struct{ Msg string }

// Call gives the arguments by position.
func (r Ping) Call() Call { return NewCall(MethodPing, r.Msg) }

// Bind reads the arguments.
func (r *Ping) Bind(a Arguments) error { return a.Bind(Required("msg", &r.Msg)) }

// Result gives the echo.
func (r Ping) Result(payload []byte) (string, error) {
	return decodeResult[string](MethodPing, payload)
}

// GatherHWInfo asks the compute plug-ins for the state of their hardware (spec §5.3).
type GatherHWInfo struct{}

// HardwareInfo is one plug-in's answer. The manager of 22.03 refuses extra and missing keys.
type HardwareInfo struct {
	Status     string            `json:"status"` // healthy, degraded, offline or unavailable
	StatusInfo *string           `json:"status_info"`
	Metadata   map[string]string `json:"metadata"`
}

// EncodeMsgpack writes nil metadata as an empty map.
func (h HardwareInfo) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain HardwareInfo
	h.Metadata = orEmptyMap(h.Metadata)
	return enc.Encode(plain(h))
}

// HardwareInfos are the answers by plug-in key; plug-ins without the feature are left out.
type HardwareInfos map[string]HardwareInfo

// Call gives no arguments.
func (r GatherHWInfo) Call() Call { return NewCall(MethodGatherHWInfo) }

// Bind refuses arguments.
func (r *GatherHWInfo) Bind(a Arguments) error { return a.Bind() }

// Result decodes the answers.
func (r GatherHWInfo) Result(payload []byte) (HardwareInfos, error) {
	return decodeResult[HardwareInfos](MethodGatherHWInfo, payload)
}

// UpdateScalingGroup moves the agent to another scaling group; the next heartbeat carries it (spec §5.4).
type UpdateScalingGroup struct {
	returnsNothing
	ScalingGroup string
}

// Call gives the arguments by position.
func (r UpdateScalingGroup) Call() Call { return NewCall(MethodUpdateScalingGroup, r.ScalingGroup) }

// Bind reads the arguments.
func (r *UpdateScalingGroup) Bind(a Arguments) error {
	return a.Bind(Required("scaling_group", &r.ScalingGroup))
}

// Network is the verb of a network call.
type Network string

// The verbs, and methods at the same time (spec §5.19-5.22). The manager of 22.03 uses the local pair only.
const (
	CreateLocalNetwork    Network = MethodCreateLocalNetwork
	DestroyLocalNetwork   Network = MethodDestroyLocalNetwork
	CreateOverlayNetwork  Network = MethodCreateOverlayNetwork
	DestroyOverlayNetwork Network = MethodDestroyOverlayNetwork
)

// NetworkCall creates or destroys a container network by name.
type NetworkCall struct {
	returnsNothing
	Verb Network
	Name string
}

// Call gives the arguments by position.
func (r NetworkCall) Call() Call { return NewCall(string(r.Verb), r.Name) }

// Bind reads the arguments; the verb is the method's name.
func (r *NetworkCall) Bind(a Arguments) error {
	r.Verb = Network(a.method)
	return a.Bind(Required("network_name", &r.Name))
}

// ShutdownAgent is not implemented by official agents, which answer nil.
type ShutdownAgent struct {
	returnsNothing
	TerminateKernels bool
}

// Call gives the arguments by position.
func (r ShutdownAgent) Call() Call { return NewCall(MethodShutdownAgent, r.TerminateKernels) }

// Bind reads the arguments.
func (r *ShutdownAgent) Bind(a Arguments) error {
	return a.Bind(Required("terminate_kernels", &r.TerminateKernels))
}

// ResetAgent is meant to destroy all kernels; official agents stop nothing (spec §5.23).
type ResetAgent struct{ returnsNothing }

// Call gives no arguments.
func (r ResetAgent) Call() Call { return NewCall(MethodResetAgent) }

// Bind refuses arguments.
func (r *ResetAgent) Bind(a Arguments) error { return a.Bind() }

// CleanAllKernels destroys all kernels for a reason. Only the bundled agent serves it; official agents never answer, so a
// manager destroys session by session instead (spec §5.24).
type CleanAllKernels struct {
	returnsNothing
	Reason string // the 22.03 manager sends "manager-freeze-force-kill"
}

// Call gives the arguments by position.
func (r CleanAllKernels) Call() Call { return NewCall(MethodCleanAllKernels, r.Reason) }

// Bind reads the arguments.
func (r *CleanAllKernels) Bind(a Arguments) error { return a.Bind(Optional("reason", &r.Reason)) }
