package shared

import (
	"net/netip"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

// Shared is the shared settings at one revision, typed. Immutable: hand it on, never change what its maps and slices hold. Keys and
// defaults are spec/config-cli-ops §3.2–§3.4.
type Shared struct {
	// Revision is etcd's.
	Revision int64

	// Timezone gives the day boundaries of usage reports (config/system/timezone).
	Timezone *time.Location
	// AllowOrigins is config/api/allow-origins; CORS answers * whatever it says.
	AllowOrigins string
	// GroupResourceVisibility shows group limits in check-presets.
	GroupResourceVisibility bool
	// AutoPull is passed to agents with each kernel.
	AutoPull backendai.AutoPull
	// Registries by name: the registry part of image names.
	Registries map[string]Registry
	Redis      Redis
	Idle       Idle
	// Slots are cpu, mem and config/resource_slots in etcd's order.
	Slots   *backendai.KnownSlots
	Network Network
	// WatcherToken is for agent watchers; "insecure" when unset.
	WatcherToken config.Secret
	// ErrorLogRetention is config/logs/error/retention.
	ErrorLogRetention config.Span
	Volumes           Volumes
	// Status is manager/status; terminated when absent.
	Status ManagerStatus
	// Announcement is Markdown; empty when there is none.
	Announcement string

	// Warnings are keys that don't validate; a default or the last good value stands for them.
	Warnings []config.Problem

	keys   map[string]string
	sorted []string
}

// ManagerStatus is manager/status.
type ManagerStatus string

const (
	Running    ManagerStatus = "running"
	Frozen     ManagerStatus = "frozen"
	Terminated ManagerStatus = "terminated"
	Preparing  ManagerStatus = "preparing"
)

// Registry is config/docker/registry/{name}.
type Registry struct {
	URL string
	// Type is docker, harbor or harbor2.
	Type     string
	Username string
	Password config.Secret
	// Projects are Harbor's.
	Projects  []string
	SSLVerify bool
}

// Redis is config/redis. With Sentinels, Addr does not count.
type Redis struct {
	Addr        config.HostPort
	Password    config.Secret
	Sentinels   []config.HostPort
	ServiceName string
}

// Idle is config/idle.
type Idle struct {
	// Enabled are the switched-on checkers besides session_lifetime: timeout, utilization.
	Enabled []string
	// AppStreamingPacketTimeout is after how long without a packet an app connection no longer counts.
	AppStreamingPacketTimeout config.Span
	// Timeout is checkers/timeout/threshold.
	Timeout     config.Span
	Utilization Utilization
}

// Utilization is config/idle/checkers/utilization.
type Utilization struct {
	Window, GracePeriod config.Span
	// Operator is and, or.
	Operator string
	// Thresholds are average percents by cpu_util, mem, cuda_util, cuda_mem; a missing one is not considered.
	Thresholds map[string]float64
}

// Network is config/network.
type Network struct {
	AgentSubnet, ContainerSubnet netip.Prefix
	// OverlayMTU is 0 for the driver's default.
	OverlayMTU int
	// RPCKeepalive is how long a connection to an agent may be idle before it is probed.
	RPCKeepalive time.Duration
}

// Volumes is volumes/….
type Volumes struct {
	// DefaultHost is "{proxy}:{volume}"; empty when unset.
	DefaultHost string
	Proxies     map[string]Proxy
	// UserFolders and GroupFolders are the enabled kinds; without any declaration, user folders.
	UserFolders, GroupFolders bool
	// Mount, LocalDefaultHost and FSPrefix are of 20.03-style local mounts; Mount is empty when unset.
	Mount, LocalDefaultHost, FSPrefix string
}

// Proxy is a storage-proxy. (spec/vfolder-storage §2)
type Proxy struct {
	ClientAPI, ManagerAPI string
	Secret                config.Secret
	SSLVerify             bool
}

// Get reads a key among those mirrored: config/…, volumes/…, manager/….
func (s *Shared) Get(key string) (value string, ok bool) {
	value, ok = s.keys[key]
	return value, ok
}

// Tree is the tree below a key, by whole components: free-form settings such as config/plugins/scheduler/fifo. Empty when there is
// nothing, never nil.
func (s *Shared) Tree(key string) *Tree {
	var pairs []Pair
	for _, k := range s.sorted {
		if within(k, key) {
			pairs = append(pairs, Pair{k, s.keys[k]})
		}
	}
	return NewTree(key, pairs)
}

// Plugin is the settings of a plugin: kind is accelerator, scheduler, hook, webapp, error_monitor or stats_monitor. A bare value counts as "".
func (s *Shared) Plugin(kind, name string) *Tree {
	return s.Tree(Join("config/plugins", Quote(kind), Quote(name)))
}
