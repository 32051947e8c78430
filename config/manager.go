package config

import (
	"runtime"
	"time"
)

// Manager is everything manager.toml says, checked and with defaults filled in. Plain values; copy freely. Field comments name the key;
// the meanings are spec/config-cli-ops §1.3.
type Manager struct {
	// Path of the file, absolute; empty for a configuration made in the program.
	Path string

	Etcd    Etcd
	DB      DB
	Service Service
	Logging Logging
	Debug   Debug
	Actors  Actors
}

// Etcd is the table [etcd].
type Etcd struct {
	// Namespace is the cluster's name in the tree: /sorna/{namespace}/…
	Namespace string
	// Addrs are the endpoints. The original takes one; a list is ours.
	Addrs    []HostPort
	User     string
	Password Secret
}

// DB is the table [db].
type DB struct {
	Addr     HostPort
	Name     string
	User     string
	Password Secret
}

// Service is the table [manager].
type Service struct {
	// ID is manager.id: this manager's name as event consumer, in the manager status and in etcd. Default i-{hostname}.
	ID string
	// IDGiven tells whether the file names it; if not, a cloud's instance id may take its place in etcd (§3.5).
	IDGiven bool
	Addr    HostPort
	// NumProc is only reported in GET /manager/status; 0 in the file = number of CPUs.
	NumProc int
	// User and Group are switched to after the port is bound when started as root; empty = stay. A name or a number.
	User, Group string
	// HeartbeatTimeout is after how long without a heartbeat an agent counts as lost; ≥ 1 s.
	HeartbeatTimeout time.Duration
	// Secret signs tokens of local storage; drawn at random when the file has none, so set it when there are several managers.
	Secret Secret
	// SecretGiven tells whether the file names it.
	SecretGiven bool

	SSL             bool
	SSLCert, SSLKey string
	// PIDFile is empty for none.
	PIDFile string
	// HideAgents keeps agent and container ids from everyone but superadmins.
	HideAgents    bool
	ImporterImage string
	// MaxWSMessage is the largest WebSocket message in bytes.
	MaxWSMessage int64
	// IPCBasePath, EventLoop, DistributedLock and AIOMonitorPort belong to the original's processes; they are checked and kept, nothing more.
	IPCBasePath, EventLoop, DistributedLock string
	AIOMonitorPort                          int
}

// Debug is the table [debug].
type Debug struct {
	// Enabled adds details to 500 answers and to status_data errors.
	Enabled   bool
	LogEvents bool
	// PeriodicSyncStats copies live statistics into kernels.last_stat on the periodic event, not only at termination.
	PeriodicSyncStats bool
}

// JournalWriters is how many transactions a node should have in flight: one for every two of its cores, at most four. More make each of
// them smaller, and it is transactions more than rows that cost.
func JournalWriters() int { return min(4, max(1, runtime.GOMAXPROCS(0)/2)) }

// Actors is the table [actors], which only this manager knows. Every key is optional.
type Actors struct {
	// NodeName (node-name) names this process among the nodes; default manager.id.
	NodeName string
	// Shards (shards) is how many slices the actors are divided into. Fixed at the first start of a cluster: all nodes must agree. Default 64.
	Shards int
	// JournalWriters (journal-writers) is how many transactions a node has in flight for its actors. Default: see the function JournalWriters.
	JournalWriters int
	// DBConnections (db-connections) bounds the pool. Default 32.
	DBConnections int
	// ClusterAddr (cluster-addr) is where other nodes reach this one; zero = loopback, any free port, which serves one machine only.
	ClusterAddr HostPort
	// AdvertiseAddr (advertise-addr) is told to other nodes instead of ClusterAddr.
	AdvertiseAddr HostPort
	// ClusterCert, ClusterKey, ClusterCA (cluster-cert, cluster-key, cluster-ca) secure the traffic between nodes with mutual TLS. All three or none.
	ClusterCert, ClusterKey, ClusterCA string
	// ClusterSecret (cluster-secret) is what the nodes' certificates are made of when none are given: the same on all nodes. Default: made of the
	// password of the database, which they share anyway.
	ClusterSecret Secret
	// Lease (lease) is after how long a silent node loses its shards; 2 s … 10 s, default 3 s.
	Lease time.Duration
	// DrainTimeout (drain-timeout) bounds an orderly stop; default 30 s.
	DrainTimeout time.Duration
	// EventStreamLength (event-stream-length) is what the event stream in Redis is trimmed to, roughly. Default 16384 entries; 128 when original
	// managers share the stream.
	EventStreamLength int
	// SchedulerRecord (scheduler-record) is of how many of its last steps each scheduler keeps a record, for mgr scheduler record and replay;
	// 0 … 1,000,000, default 0: none. A record costs the memory and the time of a second scheduler.
	SchedulerRecord int
	// InspectActions (inspect-actions) names what the inspection page may do besides look: poke, pause-scheduler, restart, drain. Default none.
	InspectActions []string
}

// Logging is the table [logging] (spec/config-cli-ops §1.5).
type Logging struct {
	// Level is the floor for everything.
	Level Level
	// Namespaces maps logger names to levels; the longest dotted prefix counts, "" is the rest.
	Namespaces map[string]Level
	// Console, File and Logstash are nil when the driver is not active.
	Console  *Console
	File     *File
	Logstash *Logstash
}

// Console is [logging.console]: lines on stderr.
type Console struct {
	// Colored is nil for "when stderr is a terminal".
	Colored *bool
	// Simple leaves out time, logger and process.
	Simple bool
}

// File is [logging.file]: a JSON object a line, rotated by size.
type File struct {
	Dir, Name string
	// Backups is how many old files are kept, as .1 … .N.
	Backups int
	// RotationSize in bytes.
	RotationSize int64
}

// Logstash is [logging.logstash].
type Logstash struct {
	Endpoint HostPort
	// Protocol is one of tcp, udp, zmq.push, zmq.pub.
	Protocol string
	// TLS and Verify apply to tcp.
	TLS, Verify bool
}
