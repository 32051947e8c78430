package enqueue

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Request is what a client asks for, decoded and typed, as spec/rest-session §3.1 and §3.3 have it.
type Request struct {
	Name            string
	Image           string // canonical reference or alias
	Architecture    string // normalised
	Type            backendai.SessionType
	Group           string
	Domain          string // "" = the requester's
	ClusterSize     int
	ClusterMode     backendai.ClusterMode
	Tag             *string
	StartsAt        *string
	StartupCommand  *string
	BootstrapScript *string
	Dependencies    []string
	CallbackURL     *string
	Config          Config
}

// Config is the request's config object, whatever version of the API it came by.
type Config struct {
	Mounts       []string
	MountMap     map[string]string
	Environ      Environ
	ScalingGroup *string
	// Resources is the JSON object as given, in its order; nil when the version of the API has no such member.
	Resources    json.RawMessage
	ResourceOpts map[string]any
	PreopenPorts []int
	AgentList    []string
	// Legacy members of API version 2.
	InstanceCores  *int
	InstanceMemory *string
	InstanceGPUs   bool
	InstanceTPUs   bool
}

// Variable is one environment variable.
type Variable struct{ Name, Value string }

// Environ is the environment in the order given.
type Environ []Variable

// Owner is who will own the session.
type Owner struct {
	AccessKey string
	UserID    uuid.UUID
	Domain    string
	// Role decides which groups are open: that of a plain user unless somebody acts on the owner's behalf.
	Role backendai.UserRole
	// RequesterRole is the role of who asks; only superadmins choose agents.
	RequesterRole backendai.UserRole
	Delegated     bool
}

// Facts are what the rows and the settings say. A nil pointer means that there is no such row.
type Facts struct {
	Now   time.Time
	Known *backendai.KnownSlots
	Owner Owner
	// Images are the rows that the reference or the alias leads to, references first.
	Images []Image
	Domain *Domain
	// Groups are the active projects of that name in the domain; Member says whether the owner is in it.
	Group  *Group
	Policy Policy
	// ScalingGroups that the owner may use, by name.
	ScalingGroups []string
	Limits        protocol.Limits
	// Options are those of the scaling group that the request goes to. Waiting is read only where they bound the queue.
	Options protocol.Options
	Waiting Waiting
	// Dependencies as resolved, in the order of the request; nil for one that nothing matched.
	Dependencies []*protocol.Dependency
	// Agents that exist, of those in the request's agent list.
	Agents map[string]bool
	// BootstrapScript, dotfiles and key pair of the owner's keypair.
	BootstrapScript string
	Dotfiles        []Dotfile // the lowest priority first: domain, group, keypair
	SSHPublicKey    string
	SSHPrivateKey   protocol.Secret
	// Folders that the owner may use, of the names that the request has and of those that are mounted by themselves: own ones first,
	// then shared ones, then those of projects.
	Folders []Folder

	AutoPull   string
	OverlayMTU string
}

// Image is an image's row with its registry's settings.
type Image struct {
	Name         string // canonical
	Registry     string
	Architecture string
	Labels       backendai.ImageLabels
	Resources    backendai.ImageResources
	Launch       protocol.LaunchImage
}

// Domain is what counts of the owner's domain.
type Domain struct {
	Active     bool
	Registries []string // allowed_docker_registries
}

// Group is what counts of a project.
type Group struct {
	ID     uuid.UUID
	Member bool
}

// Policy is what counts of the owner's resource policy.
type Policy struct {
	MaxContainers int
	IdleTimeout   int64
}

// Dotfile is a file put into every session of its owner.
type Dotfile struct {
	Path string `json:"path"`
	Perm string `json:"perm"`
	Data string `json:"data"`
}

// Mount is one folder in the session (spec/vfolder-storage §7).
type Mount struct {
	Name       string `json:"name"`
	VFolderID  string `json:"vfid"`
	Subpath    string `json:"vfsubpath"`
	HostPath   string `json:"host_path"`
	KernelPath string `json:"kernel_path"`
	Perm       string `json:"mount_perm"`
}
