package settings

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/config"
	"github.com/pelletier/go-toml/v2"
)

// Settings are complete: what nobody gave has its default.
type Settings struct {
	// File is the file that was read, "" for none.
	File string
	// Etcd is where the shared settings are; empty: there are none, and Redis must be given.
	EtcdAddrs    []string
	Namespace    string
	EtcdUser     string
	EtcdPassword config.Secret
	// Redis overrides config/redis of the shared settings; "" for what these say.
	Redis         string
	RedisPassword config.Secret

	ID, Region, ScalingGroup string
	// ListenHost is "" for the address of the subnet in the shared settings, or of the host name.
	ListenHost string
	ListenPort int
	// SkipManagerDetection starts without waiting for a manager.
	SkipManagerDetection bool

	// KernelUID and KernelGID are whom kernels run as; -1: the shared settings' config/container/kernel-uid, or else an account of
	// nobody's. They matter to a root agent only.
	KernelUID, KernelGID     int
	BindHost, AdvertisedHost string // "" for ListenHost
	PortLow, PortHigh        int
	ScratchRoot              string
	Isolation                sandbox.Isolation // "" for the strictest that works
	MaxProcesses             int64

	ReservedCPU int
	ReservedMem int64
	// CPUs is how many cores to give away; 0: what is there beyond the reserved ones.
	CPUs int

	LogLevel  string // debug, info, warn, error
	LogFormat string // text or json
}

// file is the form of agent.toml.
type file struct {
	Etcd struct {
		Namespace, User, Password string
		Addr                      any
	}
	Redis struct {
		Addr     any
		Password string
	}
	Agent struct {
		ID                   string
		Region               string
		ScalingGroup         string `toml:"scaling-group"`
		RPCListenAddr        any    `toml:"rpc-listen-addr"`
		SkipManagerDetection bool   `toml:"skip-manager-detection"`
	}
	Container struct {
		KernelUID      *int   `toml:"kernel-uid"`
		KernelGID      *int   `toml:"kernel-gid"`
		BindHost       string `toml:"bind-host"`
		AdvertisedHost string `toml:"advertised-host"`
		PortRange      []int  `toml:"port-range"`
		ScratchRoot    string `toml:"scratch-root"`
		Isolation      string
		MaxProcesses   *int64 `toml:"max-processes"`
	}
	Resource struct {
		ReservedCPU any  `toml:"reserved-cpu"`
		ReservedMem any  `toml:"reserved-mem"`
		CPUs        *int `toml:"cpus"`
	}
	Logging struct {
		Level string
	}
	Debug struct {
		Enabled bool
	}
}

// Defaults are the settings of an agent that was told nothing.
func Defaults() *Settings {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	s := &Settings{
		EtcdAddrs: []string{"127.0.0.1:2379"}, Namespace: "local", ID: "i-" + name, Region: os.Getenv("BACKEND_REGION"), ScalingGroup: "default",
		ListenPort: 6001, KernelUID: -1, KernelGID: -1, PortLow: 30000, PortHigh: 31000, MaxProcesses: 4096, ReservedCPU: 1, ReservedMem: 1 << 30,
		LogLevel: "info", LogFormat: "text",
	}
	if s.Region == "" {
		s.Region = "local"
	}
	s.ScratchRoot = "/var/lib/backend.ai/scratches"
	if os.Getuid() != 0 {
		state := os.Getenv("XDG_STATE_HOME")
		if state == "" {
			state = filepath.Join(os.Getenv("HOME"), ".local", "state")
		}
		s.ScratchRoot = filepath.Join(state, "backend.ai", "scratches")
	}
	return s
}

// places are where the file is looked for.
func places() []string {
	return []string{"agent.toml", filepath.Join(os.Getenv("HOME"), ".config/backend.ai/agent.toml"), "/etc/backend.ai/agent.toml"}
}

// Load reads the file with the given name, or the first that is there when it is "", over the defaults.
func Load(name string) (*Settings, error) {
	s := Defaults()
	names := []string{name}
	if name == "" {
		names = places()
	}
	for _, n := range names {
		raw, err := os.ReadFile(n)
		if errors.Is(err, os.ErrNotExist) && name == "" {
			continue
		}
		if err != nil {
			return nil, backendai.Errorf(backendai.InvalidConfig, "%s cannot be read: %v", n, err)
		}
		if s.File, err = filepath.Abs(n); err != nil {
			return nil, err
		}
		if err := s.apply(raw); err != nil {
			return nil, backendai.Errorf(backendai.InvalidConfig, "%s: %v", n, err)
		}
		break
	}
	return s, nil
}

func (s *Settings) apply(raw []byte) (err error) {
	var f file
	if err := toml.Unmarshal(raw, &f); err != nil {
		return err
	}
	text := func(into *string, v string) {
		if v != "" {
			*into = v
		}
	}
	keep := func(key string, e error) {
		if err == nil && e != nil {
			err = fmt.Errorf("%s: %w", key, e)
		}
	}
	text(&s.Namespace, f.Etcd.Namespace)
	s.EtcdUser, s.EtcdPassword = f.Etcd.User, config.NewSecret(f.Etcd.Password)
	if f.Etcd.Addr != nil {
		s.EtcdAddrs, err = addresses(f.Etcd.Addr)
		keep("etcd.addr", err)
	}
	if f.Redis.Addr != nil {
		list, e := addresses(f.Redis.Addr)
		keep("redis.addr", e)
		if len(list) > 0 {
			s.Redis = list[0]
		}
		s.RedisPassword = config.NewSecret(f.Redis.Password)
	}
	text(&s.ID, f.Agent.ID)
	text(&s.Region, f.Agent.Region)
	text(&s.ScalingGroup, f.Agent.ScalingGroup)
	s.SkipManagerDetection = f.Agent.SkipManagerDetection
	if f.Agent.RPCListenAddr != nil {
		list, e := addresses(f.Agent.RPCListenAddr)
		keep("agent.rpc-listen-addr", e)
		if len(list) == 1 {
			keep("agent.rpc-listen-addr", s.SetListen(list[0]))
		}
	}
	if f.Container.KernelUID != nil {
		s.KernelUID = *f.Container.KernelUID
	}
	if f.Container.KernelGID != nil {
		s.KernelGID = *f.Container.KernelGID
	}
	text(&s.BindHost, f.Container.BindHost)
	text(&s.AdvertisedHost, f.Container.AdvertisedHost)
	text(&s.ScratchRoot, f.Container.ScratchRoot)
	if f.Container.MaxProcesses != nil {
		s.MaxProcesses = *f.Container.MaxProcesses
	}
	if r := f.Container.PortRange; r != nil {
		if len(r) != 2 {
			keep("container.port-range", errors.New("want [low, high]"))
		} else {
			s.PortLow, s.PortHigh = r[0], r[1]
		}
	}
	var e error
	s.Isolation, e = sandbox.ParseIsolation(f.Container.Isolation)
	keep("container.isolation", e)
	if f.Resource.ReservedCPU != nil {
		s.ReservedCPU, e = strconv.Atoi(fmt.Sprint(f.Resource.ReservedCPU))
		keep("resource.reserved-cpu", e)
	}
	if f.Resource.ReservedMem != nil {
		keep("resource.reserved-mem", s.SetReservedMem(fmt.Sprint(f.Resource.ReservedMem)))
	}
	if f.Resource.CPUs != nil {
		keep("resource.cpus", s.SetCPUs(*f.Resource.CPUs))
	}
	text(&s.LogLevel, strings.ToLower(f.Logging.Level))
	if s.LogLevel == "warning" {
		s.LogLevel = "warn"
	}
	if f.Debug.Enabled {
		s.LogLevel = "debug"
	}
	return err
}

// addresses reads "host:port" (several with commas), or { host = …, port = … }.
func addresses(v any) (list []string, err error) {
	switch v := v.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if _, _, err := net.SplitHostPort(strings.TrimSpace(part)); err != nil {
				return nil, err
			}
			list = append(list, strings.TrimSpace(part))
		}
		return list, nil
	case map[string]any:
		host, _ := v["host"].(string)
		port, ok := v["port"].(int64)
		if !ok {
			return nil, errors.New("a table needs host and port")
		}
		return []string{net.JoinHostPort(host, strconv.FormatInt(port, 10))}, nil
	}
	return nil, fmt.Errorf("%v is no address", v)
}

// SetListen takes "host:port"; an empty host means: find it out.
func (s *Settings) SetListen(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s is no port", port)
	}
	s.ListenHost, s.ListenPort = host, n
	return nil
}

// SetReservedMem takes a size such as "1g".
func (s *Settings) SetReservedMem(text string) error {
	size, err := backendai.ParseBytes(text)
	s.ReservedMem = int64(size)
	return err
}

// SetCPUs takes how many cores to give away.
func (s *Settings) SetCPUs(n int) error {
	if n < 1 || n > 100000 {
		return fmt.Errorf("%d is no number of cores (1 to 100000)", n)
	}
	s.CPUs = n
	return nil
}

// Check holds the settings against each other. Errors: InvalidConfig.
func (s *Settings) Check() error {
	bad := func(format string, args ...any) error {
		return backendai.Errorf(backendai.InvalidConfig, format, args...)
	}
	if len(s.EtcdAddrs) == 0 && s.Redis == "" {
		return bad("without etcd, the address of Redis must be given (--redis)")
	}
	if s.PortLow < 1 || s.PortHigh > 65535 || s.PortLow > s.PortHigh {
		return bad("container.port-range = [%d, %d]: want two ports in order", s.PortLow, s.PortHigh)
	}
	if ip := net.ParseIP(s.ListenHost); ip != nil && (ip.IsUnspecified() || ip.IsLinkLocalUnicast()) {
		return bad("agent.rpc-listen-addr: %s cannot be advertised to managers; give an address of this machine", s.ListenHost)
	}
	if s.ID == "" || strings.ContainsAny(s.ID, "/ \t\n") {
		return bad("agent.id = %q: want a name without slashes and blanks", s.ID)
	}
	return nil
}

var scalingGroupLine = regexp.MustCompile(`(?m)^(\s*scaling-group\s*=\s*).*$`)

// SaveScalingGroup writes a new scaling group into the file, keeping the old one as .bak. Without a file it does nothing.
func (s *Settings) SaveScalingGroup(group string) error {
	if s.File == "" {
		return nil
	}
	raw, err := os.ReadFile(s.File)
	if err != nil {
		return err
	}
	line := "scaling-group = " + strconv.Quote(group)
	var changed string
	if scalingGroupLine.Match(raw) {
		changed = scalingGroupLine.ReplaceAllLiteralString(string(raw), line)
	} else if at := strings.Index(string(raw), "[agent]"); at >= 0 {
		changed = string(raw[:at]) + "[agent]\n" + line + string(raw[at+len("[agent]"):])
	} else {
		changed = string(raw) + "\n[agent]\n" + line + "\n"
	}
	if err := os.WriteFile(s.File+".bak", raw, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(s.File+".new", []byte(changed), 0o600); err != nil {
		return err
	}
	return os.Rename(s.File+".new", s.File)
}

// SetEtcdPassword takes the password from outside the file.
func (s *Settings) SetEtcdPassword(text string) { s.EtcdPassword = config.NewSecret(text) }
