package shared

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a machine without zone files must still know the configured zone

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

// viewer reads typed values out of keys. A wrong value is noted and its default used.
type viewer struct {
	s     *Shared
	fatal []config.Problem
}

// view makes the typed settings of a set of keys. fatal are the problems without whose repair no manager can work.
func view(keys map[string]string, revision int64) (s *Shared, fatal []config.Problem) {
	s = &Shared{Revision: revision, keys: keys, sorted: slices.Sorted(maps.Keys(keys))}
	v := &viewer{s: s}
	s.Timezone = field(v, "config/system/timezone", time.UTC, "must be the name of a time zone such as Asia/Seoul", func(text string) (*time.Location, error) {
		if text == "" || text == "Local" {
			return nil, backendai.NewError(backendai.InvalidArgument)
		}
		return time.LoadLocation(text)
	})
	s.AllowOrigins = v.text("config/api/allow-origins", "*")
	s.GroupResourceVisibility = v.bool("config/api/resources/group_resource_visibility", false)
	s.AutoPull = field(v, "config/docker/image/auto_pull", backendai.PullByDigest, "must be digest, tag or none", backendai.ParseAutoPull)
	s.Registries = v.registries()
	s.Redis = v.redis()
	s.Idle = v.idle()
	s.Slots = v.slots()
	s.Network = v.network()
	s.WatcherToken = config.NewSecret(v.text("config/watcher/token", "insecure"))
	s.ErrorLogRetention = v.span("config/logs/error/retention", config.Span{Exact: 90 * 24 * time.Hour})
	s.Volumes = v.volumes()
	s.Status = field(v, "manager/status", Terminated, "must be running, frozen, preparing or terminated", func(text string) (ManagerStatus, error) {
		return oneOf(ManagerStatus(text), Running, Frozen, Preparing, Terminated)
	})
	s.Announcement = keys["manager/announcement"]
	return s, v.fatal
}

func oneOf[T ~string](value T, allowed ...T) (T, error) {
	if slices.Contains(allowed, value) {
		return value, nil
	}
	return "", backendai.NewError(backendai.InvalidArgument)
}

func problem(key, value, allowed string) config.Problem {
	for _, word := range []string{"password", "secret", "token"} {
		if strings.Contains(key, word) {
			value = "***"
		}
	}
	return config.Problem{Key: key, Value: strconv.Quote(value), Allowed: allowed}
}

func (v *viewer) warn(key, allowed string) {
	v.s.Warnings = append(v.s.Warnings, problem(key, v.s.keys[key], allowed))
}

func field[T any](v *viewer, key string, fallback T, allowed string, read func(string) (T, error)) T {
	text, ok := v.s.keys[key]
	if !ok {
		return fallback
	}
	value, err := read(strings.TrimSpace(text))
	if err != nil {
		v.warn(key, allowed)
		return fallback
	}
	return value
}

// text takes an empty value for an absent one.
func (v *viewer) text(key, fallback string) string {
	if text := v.s.keys[key]; text != "" {
		return text
	}
	return fallback
}

func (v *viewer) bool(key string, fallback bool) bool {
	return field(v, key, fallback, "must be true or false", config.ParseBool)
}

func (v *viewer) span(key string, fallback config.Span) config.Span {
	return field(v, key, fallback, "must be a duration such as 30s, 5m, 1.5h or 90d", config.ParseSpan)
}

// children are the quoted names right below a key, in order.
func (v *viewer) children(parent string) (names []string) {
	for _, key := range v.s.sorted {
		rest, ok := strings.CutPrefix(key, parent+"/")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (v *viewer) registries() map[string]Registry {
	const parent = "config/docker/registry"
	out := map[string]Registry{}
	for _, name := range v.children(parent) {
		at := parent + "/" + name
		u, err := url.Parse(v.s.keys[at])
		if err != nil || u.Scheme == "" || u.Host == "" {
			v.warn(at, "must be the URL of a registry, such as https://index.docker.io; the registry is ignored")
			continue
		}
		r := Registry{
			URL: v.s.keys[at], Username: v.s.keys[at+"/username"], Password: config.NewSecret(v.s.keys[at+"/password"]), SSLVerify: v.bool(at+"/ssl-verify", true),
			Type: field(v, at+"/type", "docker", "must be docker, harbor or harbor2", func(text string) (string, error) { return oneOf(text, "docker", "harbor", "harbor2") }),
		}
		r.Projects = list(v.s.keys[at+"/project"])
		out[Unquote(name)] = r
	}
	return out
}

// list parts a comma-separated text.
func list(text string) (items []string) {
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// redis is what no manager can do without, so its mistakes are fatal at the start. An empty password is none.
func (v *viewer) redis() Redis {
	r := Redis{Addr: config.HostPort{Host: "127.0.0.1", Port: 6379}, Password: config.NewSecret(v.s.keys["config/redis/password"]), ServiceName: v.s.keys["config/redis/service_name"]}
	var err error
	if text := v.s.keys["config/redis/sentinel"]; text != "" {
		if r.Sentinels, err = config.ParseHostPorts(text); err != nil || len(r.Sentinels) == 0 {
			v.fatal = append(v.fatal, problem("config/redis/sentinel", text, `must be a list of addresses "h1:p1,h2:p2"`))
		}
		if r.ServiceName == "" {
			v.fatal = append(v.fatal, config.Problem{Key: "config/redis/service_name", Allowed: "is required when config/redis/sentinel is set"})
		}
		return r
	}
	if text, ok := v.s.keys["config/redis/addr"]; ok {
		if r.Addr, err = config.ParseHostPort(text); err != nil {
			v.fatal = append(v.fatal, problem("config/redis/addr", text, `must be an address "host:port" with a port from 1 to 65535`))
		}
	}
	return r
}

// utilizationMetrics are those a threshold may be given for.
var utilizationMetrics = []string{"cpu_util", "mem", "cuda_util", "cuda_mem"}

func (v *viewer) idle() Idle {
	const at = "config/idle/checkers/"
	i := Idle{
		AppStreamingPacketTimeout: v.span("config/idle/app-streaming-packet-timeout", config.Span{Exact: 5 * time.Minute}),
		Timeout:                   v.span(at+"timeout/threshold", config.Span{Exact: 10 * time.Minute}),
		Utilization: Utilization{
			Window:      v.span(at+"utilization/time-window", config.Span{Exact: 10 * time.Minute}),
			GracePeriod: v.span(at+"utilization/initial-grace-period", config.Span{Exact: 5 * time.Minute}),
			Operator: field(v, at+"utilization/thresholds-check-operator", "and", "must be and, or", func(text string) (string, error) {
				return oneOf(text, "and", "or")
			}),
			Thresholds: map[string]float64{},
		},
	}
	for _, name := range list(v.s.keys["config/idle/enabled"]) {
		if name != "timeout" && name != "utilization" {
			if name != "session_lifetime" { // always on
				v.warn("config/idle/enabled", "must be a list of timeout, utilization; other names are ignored")
			}
			continue
		}
		i.Enabled = append(i.Enabled, name)
	}
	for _, metric := range utilizationMetrics {
		key := at + "utilization/resource-thresholds/" + metric + "/average"
		if v.s.keys[key] == "" {
			continue
		}
		if percent := field(v, key, -1, "must be a number of percent", func(text string) (float64, error) { return strconv.ParseFloat(text, 64) }); percent >= 0 {
			i.Utilization.Thresholds[metric] = percent
		}
	}
	return i
}

func (v *viewer) slots() *backendai.KnownSlots {
	const parent = "config/resource_slots"
	var declared []backendai.KnownSlot
	for _, name := range v.children(parent) {
		key := parent + "/" + name
		if _, ok := v.s.keys[key]; !ok {
			continue
		}
		if t := field(v, key, "", "must be count, bytes or unique; the slot is ignored", backendai.ParseSlotType); t != "" {
			declared = append(declared, backendai.KnownSlot{Name: backendai.SlotName(Unquote(name)), Type: t})
		}
	}
	return backendai.NewKnownSlots(declared...)
}

func (v *viewer) network() Network {
	all := netip.MustParsePrefix("0.0.0.0/0")
	subnet := func(key string) netip.Prefix {
		return field(v, key, all, "must be a subnet such as 10.0.0.0/8", func(text string) (netip.Prefix, error) {
			p, err := netip.ParsePrefix(text)
			return p.Masked(), err
		})
	}
	count := func(key string, fallback, low, high int) int {
		return field(v, key, fallback, fmt.Sprintf("must be a whole number from %d to %d", low, high), func(text string) (int, error) {
			n, err := strconv.Atoi(text)
			if err == nil && (n < low || n > high) {
				err = strconv.ErrRange
			}
			return n, err
		})
	}
	return Network{
		AgentSubnet: subnet("config/network/subnet/agent"), ContainerSubnet: subnet("config/network/subnet/container"),
		OverlayMTU:   count("config/network/overlay/mtu", 0, 1, 65535),
		RPCKeepalive: time.Duration(count("config/network/rpc/keepalive-timeout", 60, 1, 86400)) * time.Second,
	}
}

func (v *viewer) volumes() Volumes {
	_, user := v.s.keys["volumes/_types/user"]
	_, group := v.s.keys["volumes/_types/group"]
	out := Volumes{
		DefaultHost: v.s.keys["volumes/default_host"], Proxies: map[string]Proxy{}, UserFolders: user || !group, GroupFolders: group,
		Mount: v.s.keys["volumes/_mount"], LocalDefaultHost: v.text("volumes/_default_host", "local"), FSPrefix: v.text("volumes/_fsprefix", "/"),
	}
	const parent = "volumes/proxies"
	for _, name := range v.children(parent) {
		at := parent + "/" + name
		p := Proxy{ClientAPI: v.s.keys[at+"/client_api"], ManagerAPI: v.s.keys[at+"/manager_api"], Secret: config.NewSecret(v.s.keys[at+"/secret"]), SSLVerify: v.bool(at+"/ssl_verify", true)}
		switch {
		case !backendai.ValidSlug(Unquote(name)):
			v.warn(at, "must be named with letters, digits, dots, dashes and underscores; the proxy is ignored")
		case p.ClientAPI == "" || p.ManagerAPI == "" || p.Secret.IsZero():
			v.warn(at, "needs client_api, manager_api and secret; the proxy is ignored")
		default:
			out.Proxies[Unquote(name)] = p
		}
	}
	return out
}
