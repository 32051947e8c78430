package journal

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/record"
)

// kernelColumns are the columns of public.kernels that this manager writes on insert.
const kernelColumns = `id, session_id, session_creation_id, session_name, session_type,
 cluster_mode, cluster_size, cluster_role, cluster_idx, cluster_hostname,
 scaling_group, agent, agent_addr, domain_name, group_id, user_uuid, access_key,
 image, architecture, registry, tag, container_id, occupied_slots, occupied_shares,
 environ, mounts, mount_map, vfolder_mounts, attached_devices, resource_opts, bootstrap_script,
 kernel_host, repl_in_port, repl_out_port, stdin_port, stdout_port, service_ports, preopen_ports,
 created_at, terminated_at, starts_at, status, status_changed, status_info, status_data,
 callback_url, startup_command, result, internal_data, num_queries, last_stat`

const kernelTypes = `id uuid, session_id uuid, session_creation_id text, session_name text, session_type sessiontypes,
 cluster_mode text, cluster_size int, cluster_role text, cluster_idx int, cluster_hostname text,
 scaling_group text, agent text, agent_addr text, domain_name text, group_id uuid, user_uuid uuid, access_key text,
 image text, architecture text, registry text, tag text, container_id text, occupied_slots jsonb, occupied_shares jsonb,
 environ text[], mounts text[], mount_map jsonb, vfolder_mounts jsonb, attached_devices jsonb, resource_opts jsonb, bootstrap_script text,
 kernel_host text, repl_in_port int, repl_out_port int, stdin_port int, stdout_port int, service_ports jsonb, preopen_ports int[],
 created_at timestamptz, terminated_at timestamptz, starts_at timestamptz, status kernelstatus, status_changed timestamptz, status_info text, status_data jsonb,
 callback_url text, startup_command text, result sessionresult, internal_data jsonb, num_queries bigint, last_stat jsonb`

var emptyObject = json.RawMessage(`{}`)

// kernelRow is a kernel as json_to_recordset reads it: one member per column.
type kernelRow struct {
	ID              uuid.UUID               `json:"id"`
	SessionID       uuid.UUID               `json:"session_id"`
	CreationID      string                  `json:"session_creation_id"`
	SessionName     string                  `json:"session_name"`
	SessionType     *string                 `json:"session_type"`
	ClusterMode     string                  `json:"cluster_mode"`
	ClusterSize     int                     `json:"cluster_size"`
	ClusterRole     string                  `json:"cluster_role"`
	ClusterIdx      int                     `json:"cluster_idx"`
	ClusterHostname string                  `json:"cluster_hostname"`
	ScalingGroup    string                  `json:"scaling_group"`
	Agent           *string                 `json:"agent"`
	AgentAddr       *string                 `json:"agent_addr"`
	DomainName      string                  `json:"domain_name"`
	GroupID         uuid.UUID               `json:"group_id"`
	UserUUID        uuid.UUID               `json:"user_uuid"`
	AccessKey       string                  `json:"access_key"`
	Image           string                  `json:"image"`
	Architecture    string                  `json:"architecture"`
	Registry        string                  `json:"registry"`
	Tag             *string                 `json:"tag"`
	ContainerID     *string                 `json:"container_id"`
	OccupiedSlots   backendai.ResourceSlots `json:"occupied_slots"`
	OccupiedShares  json.RawMessage         `json:"occupied_shares"`
	Environ         []string                `json:"environ"`
	Mounts          []string                `json:"mounts"`
	MountMap        json.RawMessage         `json:"mount_map"`
	VFolderMounts   json.RawMessage         `json:"vfolder_mounts"`
	AttachedDevices json.RawMessage         `json:"attached_devices"`
	ResourceOpts    json.RawMessage         `json:"resource_opts"`
	BootstrapScript *string                 `json:"bootstrap_script"`
	KernelHost      *string                 `json:"kernel_host"`
	ReplInPort      int                     `json:"repl_in_port"`
	ReplOutPort     int                     `json:"repl_out_port"`
	StdinPort       int                     `json:"stdin_port"`
	StdoutPort      int                     `json:"stdout_port"`
	ServicePorts    json.RawMessage         `json:"service_ports"`
	PreopenPorts    []int32                 `json:"preopen_ports"`
	CreatedAt       time.Time               `json:"created_at"`
	TerminatedAt    *time.Time              `json:"terminated_at"`
	StartsAt        *time.Time              `json:"starts_at"`
	Status          *string                 `json:"status"`
	StatusChanged   *time.Time              `json:"status_changed"`
	StatusInfo      *string                 `json:"status_info"`
	StatusData      json.RawMessage         `json:"status_data"`
	CallbackURL     *string                 `json:"callback_url"`
	StartupCommand  *string                 `json:"startup_command"`
	Result          *string                 `json:"result"`
	InternalData    json.RawMessage         `json:"internal_data"`
	NumQueries      int64                   `json:"num_queries"`
	LastStat        json.RawMessage         `json:"last_stat"`
}

const patchTypes = `mask bigint, id uuid, status kernelstatus, status_info text, status_data jsonb, status_changed timestamptz, terminated_at timestamptz,
 agent text, agent_addr text, scaling_group text, container_id text, kernel_host text, repl_in_port int, repl_out_port int, stdin_port int,
 stdout_port int, service_ports jsonb, occupied_slots jsonb, attached_devices jsonb, last_stat jsonb, container_log text,
 result sessionresult, session_name text, num_queries bigint, resource_opts jsonb`

// patchRow is a patch as json_to_recordset reads it. Members that are left out read as NULL.
type patchRow struct {
	Mask            int64                    `json:"mask"`
	ID              uuid.UUID                `json:"id"`
	Status          *string                  `json:"status,omitempty"`
	StatusInfo      *string                  `json:"status_info,omitempty"`
	StatusData      json.RawMessage          `json:"status_data,omitempty"`
	StatusChanged   *time.Time               `json:"status_changed,omitempty"`
	TerminatedAt    *time.Time               `json:"terminated_at,omitempty"`
	Agent           *string                  `json:"agent,omitempty"`
	AgentAddr       *string                  `json:"agent_addr,omitempty"`
	ScalingGroup    string                   `json:"scaling_group,omitempty"`
	ContainerID     *string                  `json:"container_id,omitempty"`
	KernelHost      *string                  `json:"kernel_host,omitempty"`
	ReplInPort      *int                     `json:"repl_in_port,omitempty"`
	ReplOutPort     *int                     `json:"repl_out_port,omitempty"`
	StdinPort       *int                     `json:"stdin_port,omitempty"`
	StdoutPort      *int                     `json:"stdout_port,omitempty"`
	ServicePorts    json.RawMessage          `json:"service_ports,omitempty"`
	OccupiedSlots   *backendai.ResourceSlots `json:"occupied_slots,omitempty"`
	AttachedDevices json.RawMessage          `json:"attached_devices,omitempty"`
	LastStat        json.RawMessage          `json:"last_stat,omitempty"`
	ContainerLog    []byte                   `json:"container_log,omitempty"` // base64 by encoding/json
	Result          *string                  `json:"result,omitempty"`
	SessionName     *string                  `json:"session_name,omitempty"`
	NumQueries      *int64                   `json:"num_queries,omitempty"`
	ResourceOpts    json.RawMessage          `json:"resource_opts,omitempty"`
}

// patchOf renders the fields that a patch's mask names.
func patchOf(p *record.KernelPatch) patchRow {
	k, has := &p.Kernel, func(f record.Field) bool { return p.Mask&f != 0 }
	r := patchRow{Mask: int64(p.Mask), ID: p.ID}
	if has(record.FieldStatus) {
		r.Status = label(string(k.Status))
	}
	if has(record.FieldStatusInfo) {
		r.StatusInfo = k.StatusInfo
	}
	if has(record.FieldStatusData) {
		r.StatusData = k.StatusData
	}
	if has(record.FieldStatusChanged) {
		r.StatusChanged = k.StatusChanged
	}
	if has(record.FieldTerminatedAt) {
		r.TerminatedAt = k.TerminatedAt
	}
	if has(record.FieldPlacement) {
		r.Agent, r.AgentAddr, r.ScalingGroup = k.Agent, k.AgentAddr, k.ScalingGroup
	}
	if has(record.FieldContainer) {
		r.ContainerID, r.KernelHost, r.ServicePorts = k.ContainerID, k.KernelHost, k.ServicePorts
		r.ReplInPort, r.ReplOutPort, r.StdinPort, r.StdoutPort = &k.ReplInPort, &k.ReplOutPort, &k.StdinPort, &k.StdoutPort
	}
	if has(record.FieldOccupied) {
		r.OccupiedSlots = &k.OccupiedSlots
	}
	if has(record.FieldDevices) {
		r.AttachedDevices = orObject(k.AttachedDevices)
	}
	if has(record.FieldLastStat) {
		r.LastStat = k.LastStat
	}
	if has(record.FieldContainerLog) {
		r.ContainerLog = p.ContainerLog
	}
	if has(record.FieldResult) {
		r.Result = label(k.Result.DBName())
	}
	if has(record.FieldSessionName) {
		r.SessionName = &k.SessionName
	}
	if has(record.FieldNumQueries) {
		r.NumQueries = &k.NumQueries
	}
	if has(record.FieldResourceOpts) {
		r.ResourceOpts = orObject(k.ResourceOpts)
	}
	return r
}

// rowOf renders a new kernel.
func rowOf(k *record.Kernel) kernelRow {
	return kernelRow{
		ID: k.ID, SessionID: k.SessionID, CreationID: k.CreationID, SessionName: k.SessionName,
		SessionType: label(k.SessionType.DBName()),
		ClusterMode: string(k.ClusterMode), ClusterSize: k.ClusterSize, ClusterRole: k.ClusterRole,
		ClusterIdx: k.ClusterIdx, ClusterHostname: k.ClusterHostname,
		ScalingGroup: k.ScalingGroup, Agent: k.Agent, AgentAddr: k.AgentAddr,
		DomainName: k.DomainName, GroupID: k.GroupID, UserUUID: k.UserUUID, AccessKey: k.AccessKey,
		Image: k.Image, Architecture: k.Architecture, Registry: k.Registry, Tag: k.Tag, ContainerID: k.ContainerID,
		OccupiedSlots: k.OccupiedSlots, OccupiedShares: emptyObject,
		Environ: orEmpty(k.Environ), Mounts: orEmpty(k.Mounts), MountMap: emptyObject, VFolderMounts: k.VFolderMounts,
		AttachedDevices: orObject(k.AttachedDevices), ResourceOpts: orObject(k.ResourceOpts), BootstrapScript: k.BootstrapScript,
		KernelHost: k.KernelHost, ReplInPort: k.ReplInPort, ReplOutPort: k.ReplOutPort,
		StdinPort: k.StdinPort, StdoutPort: k.StdoutPort,
		ServicePorts: k.ServicePorts, PreopenPorts: orEmpty(k.PreopenPorts),
		CreatedAt: k.CreatedAt, TerminatedAt: k.TerminatedAt, StartsAt: k.StartsAt,
		Status: label(string(k.Status)), StatusChanged: k.StatusChanged, StatusInfo: k.StatusInfo, StatusData: k.StatusData,
		CallbackURL: k.CallbackURL, StartupCommand: k.StartupCommand, Result: label(k.Result.DBName()),
		InternalData: k.InternalData, NumQueries: k.NumQueries, LastStat: k.LastStat,
	}
}

// label is an enum's label, or NULL where the value is not set (a patch that does not write it).
func label(name string) *string {
	if name == "" {
		return nil
	}
	return &name
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func orObject(doc json.RawMessage) json.RawMessage {
	if doc == nil {
		return emptyObject
	}
	return doc
}

const agentColumns = `id, status, status_changed, region, scaling_group, schedulable, available_slots, occupied_slots,
 addr, first_contact, lost_at, version, architecture, compute_plugins`

const agentTypes = `id text, status agentstatus, status_changed timestamptz, region text, scaling_group text, schedulable boolean,
 available_slots jsonb, occupied_slots jsonb, addr text, first_contact timestamptz, lost_at timestamptz, version text,
 architecture text, compute_plugins jsonb`

type agentRow struct {
	Mask           int64                   `json:"mask"`
	ID             string                  `json:"id"`
	Status         *string                 `json:"status"`
	StatusChanged  *time.Time              `json:"status_changed"`
	Region         string                  `json:"region"`
	ScalingGroup   string                  `json:"scaling_group"`
	Schedulable    bool                    `json:"schedulable"`
	AvailableSlots backendai.ResourceSlots `json:"available_slots"`
	OccupiedSlots  backendai.ResourceSlots `json:"occupied_slots"`
	Addr           string                  `json:"addr"`
	FirstContact   time.Time               `json:"first_contact"`
	LostAt         *time.Time              `json:"lost_at"`
	Version        string                  `json:"version"`
	Architecture   string                  `json:"architecture"`
	ComputePlugins json.RawMessage         `json:"compute_plugins"`
}

func agentRows(patches map[string]*AgentPatch) (string, error) {
	list := make([]agentRow, 0, len(patches))
	for _, p := range patches {
		a := &p.Agent
		list = append(list, agentRow{
			Mask: int64(p.Mask), ID: a.ID, Status: label(string(a.Status)), StatusChanged: a.StatusChanged,
			Region: a.Region, ScalingGroup: a.ScalingGroup, Schedulable: a.Schedulable,
			AvailableSlots: a.AvailableSlots, OccupiedSlots: a.OccupiedSlots, Addr: a.Addr, FirstContact: a.FirstContact,
			LostAt: a.LostAt, Version: a.Version, Architecture: a.Architecture, ComputePlugins: orObject(a.ComputePlugins),
		})
	}
	// One order for every writer: rows of agents are written by two shards (its own and its scheduler's).
	slices.SortFunc(list, func(a, b agentRow) int { return strings.Compare(a.ID, b.ID) })
	doc, err := json.Marshal(list)
	return string(doc), err
}
