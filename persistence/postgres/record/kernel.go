package record

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// Kernel is one row of public.kernels (spec/database §4.12). Nil pointers and
// nil JSON are SQL NULL.
type Kernel struct {
	ID          uuid.UUID
	SessionID   uuid.UUID
	CreationID  string // session_creation_id: ties the row to the create request that waits for it
	SessionName string
	SessionType backendai.SessionType

	ClusterMode     backendai.ClusterMode
	ClusterSize     int
	ClusterRole     string
	ClusterIdx      int
	ClusterHostname string

	ScalingGroup string
	Agent        *string
	AgentAddr    *string

	DomainName string
	GroupID    uuid.UUID
	UserUUID   uuid.UUID
	AccessKey  string

	Image        string // canonical reference
	Architecture string
	Registry     string
	Tag          *string // the user's tag of the session, not the image's
	ContainerID  *string

	// OccupiedSlots holds the request until the kernel runs, then what the agent really gave.
	OccupiedSlots   backendai.ResourceSlots
	Environ         []string // K=V
	Mounts          []string
	VFolderMounts   json.RawMessage
	AttachedDevices json.RawMessage
	ResourceOpts    json.RawMessage
	BootstrapScript *string

	KernelHost   *string
	ReplInPort   int
	ReplOutPort  int
	StdinPort    int
	StdoutPort   int
	ServicePorts json.RawMessage
	PreopenPorts []int32

	CreatedAt     time.Time
	TerminatedAt  *time.Time
	StartsAt      *time.Time
	Status        backendai.KernelStatus
	StatusChanged *time.Time
	StatusInfo    *string
	StatusData    json.RawMessage

	CallbackURL    *string
	StartupCommand *string
	Result         backendai.SessionResult
	InternalData   json.RawMessage
	NumQueries     int64
	LastStat       json.RawMessage
}

// IsMain reports whether the row stands for its session.
func (k *Kernel) IsMain() bool { return k.ClusterRole == backendai.MainRole }

// Field names one column (or a group always written together) of a patch.
type Field uint64

// The columns a live kernel's row changes in. A patch writes exactly those in its mask.
const (
	FieldStatus Field = 1 << iota
	FieldStatusInfo
	FieldStatusData
	FieldStatusChanged
	FieldTerminatedAt
	FieldPlacement // agent, agent_addr, scaling_group
	FieldContainer // container_id, kernel_host, the four ports, service_ports
	FieldOccupied  // occupied_slots
	FieldDevices   // attached_devices
	FieldLastStat
	FieldContainerLog
	FieldResult
	FieldSessionName
	FieldNumQueries
	FieldResourceOpts
)

// KernelPatch changes the columns in Mask of one kernel's row to the values in
// Kernel. Values are absolute, so that applying a patch twice is harmless.
type KernelPatch struct {
	ID           uuid.UUID
	Mask         Field
	Kernel       Kernel // only the fields named by Mask are read
	ContainerLog []byte
}

// Merge lays later over p: fields that both set take later's value.
func (p *KernelPatch) Merge(later *KernelPatch) {
	l := &later.Kernel
	k := &p.Kernel
	for _, f := range []struct {
		field Field
		copy  func()
	}{
		{FieldStatus, func() { k.Status = l.Status }},
		{FieldStatusInfo, func() { k.StatusInfo = l.StatusInfo }},
		{FieldStatusData, func() { k.StatusData = l.StatusData }},
		{FieldStatusChanged, func() { k.StatusChanged = l.StatusChanged }},
		{FieldTerminatedAt, func() { k.TerminatedAt = l.TerminatedAt }},
		{FieldPlacement, func() { k.Agent, k.AgentAddr, k.ScalingGroup = l.Agent, l.AgentAddr, l.ScalingGroup }},
		{FieldContainer, func() {
			k.ContainerID, k.KernelHost = l.ContainerID, l.KernelHost
			k.ReplInPort, k.ReplOutPort, k.StdinPort, k.StdoutPort = l.ReplInPort, l.ReplOutPort, l.StdinPort, l.StdoutPort
			k.ServicePorts = l.ServicePorts
		}},
		{FieldOccupied, func() { k.OccupiedSlots = l.OccupiedSlots }},
		{FieldDevices, func() { k.AttachedDevices = l.AttachedDevices }},
		{FieldLastStat, func() { k.LastStat = l.LastStat }},
		{FieldContainerLog, func() { p.ContainerLog = later.ContainerLog }},
		{FieldResult, func() { k.Result = l.Result }},
		{FieldSessionName, func() { k.SessionName = l.SessionName }},
		{FieldNumQueries, func() { k.NumQueries = l.NumQueries }},
		{FieldResourceOpts, func() { k.ResourceOpts = l.ResourceOpts }},
	} {
		if later.Mask&f.field != 0 {
			f.copy()
		}
	}
	p.Mask |= later.Mask
}
