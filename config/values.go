package config

import (
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	backendai "backend.ai/manager"
)

// HostPort is the address of a service. The zero value means that there is none.
type HostPort struct {
	// Host is an IP literal without brackets, or a host name.
	Host string
	// Port is 1…65535.
	Port int
}

// IsZero tells whether there is no address.
func (a HostPort) IsZero() bool { return a == HostPort{} }

// String is host:port, IPv6 in brackets (spec/config-cli-ops §1.2).
func (a HostPort) String() string {
	if a.IsZero() {
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

// MarshalText is String.
func (a HostPort) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// hostPortAllowed is said to whoever writes something else.
const hostPortAllowed = `an address "host:port" with a port from 1 to 65535`

// ParseHostPort reads "host:port", split at the last colon; IPv6 literals may stand in brackets (spec/config-cli-ops §1.2).
// Errors: InvalidArgument.
func ParseHostPort(text string) (HostPort, error) {
	text = strings.TrimSpace(text)
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return HostPort{}, backendai.Errorf(backendai.InvalidArgument, "must be %s", hostPortAllowed)
	}
	return newHostPort(text[:i], text[i+1:])
}

func newHostPort(host, port string) (HostPort, error) {
	bad := backendai.Errorf(backendai.InvalidArgument, "must be %s", hostPortAllowed)
	n, err := strconv.Atoi(strings.TrimSpace(port))
	if err != nil || n < 1 || n > math.MaxUint16 {
		return HostPort{}, bad
	}
	host = strings.TrimSpace(host)
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok {
			return HostPort{}, bad
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return HostPort{}, bad
		}
	}
	if host == "" {
		return HostPort{}, bad
	}
	return HostPort{Host: host, Port: n}, nil
}

// ParseHostPorts reads a comma-separated list of addresses, as config/redis/sentinel holds it. Errors: InvalidArgument.
func ParseHostPorts(text string) (list []HostPort, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		a, err := ParseHostPort(part)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// ParseBool reads the texts that mean true or false in any case, with blanks around (ToBool, spec/config-cli-ops §1.2).
// Errors: InvalidArgument.
func ParseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "t", "true", "y", "yes", "on", "1", "1.0":
		return true, nil
	case "false", "n", "no", "off", "0", "none", "0.0":
		return false, nil
	}
	return false, backendai.Errorf(backendai.InvalidArgument, "must be true or false (also yes/no, on/off, 1/0)")
}

// Span is a length of time as the shared settings write it: exact time, or months and years, whose length depends on where they are
// counted from.
type Span struct {
	Exact  time.Duration
	Months int
}

// From is the moment one span after t.
func (s Span) From(t time.Time) time.Time { return t.AddDate(0, s.Months, 0).Add(s.Exact) }

// Before is the moment one span before t.
func (s Span) Before(t time.Time) time.Time { return t.AddDate(0, -s.Months, 0).Add(-s.Exact) }

// Approx is the length with 365/12 days a month, for timers.
func (s Span) Approx() time.Duration {
	return s.Exact + time.Duration(s.Months)*(365*24*time.Hour/12)
}

// IsZero tells whether the span is empty.
func (s Span) IsZero() bool { return s == Span{} }

var spanShape = regexp.MustCompile(`^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(s|m|h|d|w|mo|yr)?$`)

// ParseSpan reads a number with an optional unit s, m, h, d, w (fractions allowed; no unit = seconds), or a whole number with mo or yr
// (spec/config-cli-ops §3.2). Errors: InvalidArgument.
func ParseSpan(text string) (Span, error) {
	bad := backendai.Errorf(backendai.InvalidArgument, "must be a duration such as 30s, 5m, 1.5h, 90d, 2w, 6mo or 1yr")
	m := spanShape.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Span{}, bad
	}
	if unit := m[2]; unit == "mo" || unit == "yr" {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 12_000 {
			return Span{}, bad
		}
		if unit == "yr" {
			n *= 12
		}
		return Span{Months: n}, nil
	}
	n, err := strconv.ParseFloat(m[1], 64)
	unit := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
	if total := n * float64(unit); err == nil && total < math.MaxInt64 {
		return Span{Exact: time.Duration(math.Round(total))}, nil
	}
	return Span{}, bad
}
