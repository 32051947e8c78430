package callosum

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// KernelCreationConfig says what one kernel shall be (spec §4.1).
type KernelCreationConfig struct {
	Image           ImageConfig `json:"image"`
	SessionType     string      `json:"session_type"` // interactive or batch
	ClusterRole     string      `json:"cluster_role"` // main, sub or custom; only main gets service ports
	ClusterIdx      int         `json:"cluster_idx"`  // from 1 within the role
	ClusterHostname string      `json:"cluster_hostname"`
	// IdleTimeout is the resource policy's, in seconds; agents do not use it.
	IdleTimeout int               `json:"idle_timeout"`
	Mounts      []Mount           `json:"mounts"`
	Environ     map[string]string `json:"environ"`
	// ResourceSlots are decimals without exponent, or "Infinity". "cpu" and "mem" must be there.
	ResourceSlots map[string]string `json:"resource_slots"`
	// ResourceOpts is the kernel row's JSON; normally {"shmem": bytes}.
	ResourceOpts    Map           `json:"resource_opts"`
	BootstrapScript *string       `json:"bootstrap_script"` // plain text
	StartupCommand  *string       `json:"startup_command"`  // of a batch session
	InternalData    *InternalData `json:"internal_data"`
	AutoPull        string        `json:"auto_pull"` // digest, tag or none
	PreopenPorts    []int         `json:"preopen_ports"`
}

// EncodeMsgpack writes nil lists and maps as empty ones, because agents index and iterate them.
func (c KernelCreationConfig) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain KernelCreationConfig
	c.Mounts, c.PreopenPorts = orEmptyList(c.Mounts), orEmptyList(c.PreopenPorts)
	c.Environ, c.ResourceSlots = orEmptyMap(c.Environ), orEmptyMap(c.ResourceSlots)
	c.ResourceOpts = c.ResourceOpts.orEmpty()
	return enc.Encode(plain(c))
}

// ImageConfig says which image, and where to pull it (spec §4.2).
type ImageConfig struct {
	Registry ImageRegistry `json:"registry"`
	// Digest is the config digest, "sha256:…". Without the padding of the database column: the agent compares it.
	Digest       string            `json:"digest"`
	RepoDigest   *string           `json:"repo_digest"` // always nil in 22.03
	Canonical    string            `json:"canonical"`   // registry/name:tag
	Architecture string            `json:"architecture"`
	Labels       map[string]string `json:"labels"`
}

// EncodeMsgpack writes nil labels as an empty map.
func (c ImageConfig) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain ImageConfig
	c.Labels = orEmptyMap(c.Labels)
	return enc.Encode(plain(c))
}

// ImageRegistry is where an image lives; the credentials are sent only when the registry has some.
type ImageRegistry struct {
	Name     string `json:"name"`
	URL      string `json:"url"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// Mount is one virtual folder in a kernel (spec §4.3).
type Mount struct {
	Name       string `json:"name"`
	VFolderID  string `json:"vfid"`
	Subpath    string `json:"vfsubpath"` // already applied in HostPath
	HostPath   string `json:"host_path"`
	KernelPath string `json:"kernel_path"`
	Perm       string `json:"mount_perm"` // ro, rw or wd (mounted as rw)
}

// SSHKeyPair is a key pair as text: PEM and an authorized_keys line.
type SSHKeyPair struct {
	PrivateKey string `json:"private_key"`
	PublicKey  string `json:"public_key"`
}

// String hides the key from logs.
func (SSHKeyPair) String() string { return "SSHKeyPair{…}" }

// GoString hides the key from logs.
func (SSHKeyPair) GoString() string { return "SSHKeyPair{…}" }

// ClusterInfo is what the kernels of one session share (spec §4.6).
type ClusterInfo struct {
	Mode        string         `json:"mode"` // single-node or multi-node
	Size        int            `json:"size"`
	Replicas    map[string]int `json:"replicas"`     // kernels per role
	NetworkName *string        `json:"network_name"` // nil for a lone container
	SSHKeyPair  *SSHKeyPair    `json:"ssh_keypair"`  // only when Size > 1
}

// EncodeMsgpack writes nil replicas as an empty map.
func (c ClusterInfo) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain ClusterInfo
	c.Replicas = orEmptyMap(c.Replicas)
	return enc.Encode(plain(c))
}

// ServicePort is one port of a kernel that apps listen on (spec §4.7). The manager stores it verbatim.
type ServicePort struct {
	Name             string   `json:"name"`
	Protocol         string   `json:"protocol"` // tcp, http or preopen
	ContainerPorts   []int    `json:"container_ports"`
	HostPorts        []int    `json:"host_ports"`
	URLTemplate      string   `json:"url_template,omitempty"`
	AllowedArguments []string `json:"allowed_arguments,omitempty"`
	AllowedEnvs      []string `json:"allowed_envs,omitempty"`
}

// EncodeMsgpack writes nil port lists as empty ones.
func (p ServicePort) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain ServicePort
	p.ContainerPorts, p.HostPorts = orEmptyList(p.ContainerPorts), orEmptyList(p.HostPorts)
	return enc.Encode(plain(p))
}

// KernelCreationResult is what became of one kernel (spec §4.8).
type KernelCreationResult struct {
	ID              string                      `json:"id"`
	KernelHost      string                      `json:"kernel_host"` // for users of the service ports
	ReplInPort      int                         `json:"repl_in_port"`
	ReplOutPort     int                         `json:"repl_out_port"`
	StdinPort       int                         `json:"stdin_port"`  // 0, legacy
	StdoutPort      int                         `json:"stdout_port"` // 0, legacy
	ServicePorts    []ServicePort               `json:"service_ports"`
	ContainerID     string                      `json:"container_id"`
	ResourceSpec    ResourceSpec                `json:"resource_spec"`
	AttachedDevices map[string][]AttachedDevice `json:"attached_devices"` // by device name
}

// EncodeMsgpack writes nil lists and maps as empty ones.
func (r KernelCreationResult) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain KernelCreationResult
	r.ServicePorts, r.AttachedDevices = orEmptyList(r.ServicePorts), orEmptyMap(r.AttachedDevices)
	return enc.Encode(plain(r))
}

// ResourceSpec says what a kernel got. Allocations are texts: plain decimals, or for byte amounts possibly an auto-scaled
// form such as "1.15g" (spec §4.8); agents of ours send plain integers.
type ResourceSpec struct {
	ContainerID     string                                  `json:"container_id"`
	ScratchDiskSize int64                                   `json:"scratch_disk_size"`
	Mounts          []string                                `json:"mounts"`      // src:dst:perm
	Allocations     map[string]map[string]map[string]string `json:"allocations"` // device → slot → device id
	// Slots is a text from official agents by mistake (spec §4.8) and otherwise a map; nobody reads it.
	Slots Any `json:"slots"`
}

// EncodeMsgpack writes nil lists and maps as empty ones.
func (r ResourceSpec) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain ResourceSpec
	r.Mounts, r.Allocations = orEmptyList(r.Mounts), orEmptyMap(r.Allocations)
	return enc.Encode(plain(r))
}

// AttachedDevice describes a device for users and usage reports.
type AttachedDevice struct {
	DeviceID  string `json:"device_id"`
	ModelName string `json:"model_name"`
	Data      Map    `json:"data"` // plug-in's own
}

// EncodeMsgpack writes nil data as an empty map.
func (d AttachedDevice) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain AttachedDevice
	d.Data = d.Data.orEmpty()
	return enc.Encode(plain(d))
}

// CreateKernels creates the kernels of one session on one agent (spec §5.5). It returns when all have started, which can
// take minutes; kernels that did start are left running when others failed.
type CreateKernels struct {
	CreationID  string
	SessionID   string
	KernelIDs   []string
	Configs     []KernelCreationConfig
	ClusterInfo ClusterInfo
}

// Call gives the arguments by position.
func (r CreateKernels) Call() Call {
	return NewCall(MethodCreateKernels, r.CreationID, r.SessionID, orEmptyList(r.KernelIDs), orEmptyList(r.Configs), r.ClusterInfo)
}

// Bind reads the arguments.
func (r *CreateKernels) Bind(a Arguments) error {
	return a.Bind(Required("creation_id", &r.CreationID), Required("raw_session_id", &r.SessionID),
		Required("raw_kernel_ids", &r.KernelIDs), Required("raw_configs", &r.Configs), Required("raw_cluster_info", &r.ClusterInfo))
}

// Result decodes one result per kernel, in the order of the request.
func (r CreateKernels) Result(payload []byte) ([]KernelCreationResult, error) {
	results, err := decodeResult[[]KernelCreationResult](MethodCreateKernels, payload)
	if err == nil && len(results) != len(r.KernelIDs) {
		err = fmt.Errorf("callosum: %s returned %d results for %d kernels", MethodCreateKernels, len(results), len(r.KernelIDs))
	}
	return results, err
}

// DestroyKernel ends a kernel (spec §5.6). An unknown one is no error. Never send it twice for one kernel at a time:
// the first call then never returns.
type DestroyKernel struct {
	KernelID       string
	Reason         string // empty: user-requested
	SuppressEvents bool   // lost by official agents for kernels they know
}

// Call gives the arguments as the reference does: the flag by name, and only when set.
func (r DestroyKernel) Call() Call {
	c := NewCall(MethodDestroyKernel, r.KernelID, r.Reason)
	if r.SuppressEvents {
		c.Kwargs = Map{{"suppress_events", true}}
	}
	return c
}

// Bind reads the arguments.
func (r *DestroyKernel) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Optional("reason", &r.Reason), Optional("suppress_events", &r.SuppressEvents))
}

// Result ignores the return value.
func (r DestroyKernel) Result([]byte) (Nothing, error) { return Nothing{}, nil }

// RestartKernel re-creates a kernel's container (spec §5.7).
type RestartKernel struct {
	CreationID    string
	SessionID     string
	KernelID      string
	UpdatedConfig Map // overrides keys of the stored creation config; the manager sends none
}

// RestartResult holds the new container of a kernel. When the re-creation failed, official agents return the old one's.
type RestartResult struct {
	ContainerID  string        `json:"container_id"`
	ReplInPort   int           `json:"repl_in_port"`
	ReplOutPort  int           `json:"repl_out_port"`
	StdinPort    int           `json:"stdin_port"`
	StdoutPort   int           `json:"stdout_port"`
	ServicePorts []ServicePort `json:"service_ports"`
}

// EncodeMsgpack writes nil ports as an empty list.
func (r RestartResult) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain RestartResult
	r.ServicePorts = orEmptyList(r.ServicePorts)
	return enc.Encode(plain(r))
}

// Call gives the arguments by position.
func (r RestartKernel) Call() Call {
	return NewCall(MethodRestartKernel, r.CreationID, r.SessionID, r.KernelID, r.UpdatedConfig.orEmpty())
}

// Bind reads the arguments.
func (r *RestartKernel) Bind(a Arguments) error {
	return a.Bind(Required("creation_id", &r.CreationID), Required("session_id", &r.SessionID),
		Required("kernel_id", &r.KernelID), Required("updated_config", &r.UpdatedConfig))
}

// Result decodes the new container.
func (r RestartKernel) Result(payload []byte) (RestartResult, error) {
	return decodeResult[RestartResult](MethodRestartKernel, payload)
}
