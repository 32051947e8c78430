package backendai

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// DefaultRegistry is where references without a registry point.
const DefaultRegistry = "index.docker.io"

const (
	defaultTag        = "latest"
	defaultRepository = "lablup/" // prefix of bare names in Docker's registry
)

// AnyRegistry in place of the known registries takes the first part of every reference as the registry; the command line and GraphQL use it.
var AnyRegistry = []string{"*"}

// ImageRef names an image: registry, repository name, tag, and the architecture it is for. Comparable with ==. Digest references are
// not supported. (spec/config-cli-ops §5.1)
type ImageRef struct {
	Registry     string // host, maybe with port
	Name         string // repository path, "lablup/python"
	Tag          string
	Architecture string // stored form, see NormalizeArchitecture
}

var tagShape = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// ParseImageRef reads a reference. known are the registries that may be its first part: names such as "cr.backend.ai", or AnyRegistry;
// "index.docker.io" and IP addresses with or without port are always known. An empty architecture means x86_64.
//
// Tags such as "3.9-20220101", whose parts are no platform tags, are accepted: only PlatformTags fails for them. (The original refuses the
// whole reference.) Errors: InvalidArgument.
func ParseImageRef(text string, known []string, architecture string) (ImageRef, error) {
	if strings.Contains(text, "://") || strings.HasPrefix(text, "//") {
		return ImageRef{}, Errorf(InvalidArgument, "ImageRef should not contain the protocol scheme.")
	}
	if architecture == "" {
		architecture = "x86_64"
	}
	r := ImageRef{Registry: DefaultRegistry, Architecture: NormalizeArchitecture(architecture)}
	rest, dockerRule := text, true
	if first, after, ok := strings.Cut(text, "/"); ok {
		switch {
		case first == DefaultRegistry, slices.Contains(known, first), isAddress(first):
			r.Registry, rest = first, after
			dockerRule = first == "docker.io" || strings.HasSuffix(first, ".docker.io")
		case len(known) == 1 && known[0] == "*":
			r.Registry, rest, dockerRule = first, after, false
		}
	}
	r.Name, r.Tag = rest, defaultTag
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		r.Name, r.Tag = rest[:i], rest[i+1:]
	}
	if r.Name == "" {
		return ImageRef{}, Errorf(InvalidArgument, "Empty image repository/name")
	}
	if dockerRule && !strings.Contains(r.Name, "/") {
		r.Name = defaultRepository + r.Name
	}
	if !tagShape.MatchString(r.Tag) {
		return ImageRef{}, Errorf(InvalidArgument, "Invalid image tag")
	}
	return r, nil
}

// isAddress tells IP literals with an optional port; IPv6 must be in brackets.
func isAddress(s string) bool {
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && strings.HasSuffix(s, "]") && a.Is6()
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

// Canonical is "{registry}/{name}:{tag}", the text stored as images.name and kernels.image.
func (r ImageRef) Canonical() string { return r.Registry + "/" + r.Short() }

// Short is "{name}:{tag}".
func (r ImageRef) Short() string { return r.Name + ":" + r.Tag }

// String is Canonical.
func (r ImageRef) String() string { return r.Canonical() }

// PlatformTag is one part of a tag after the version: "cuda9" is {cuda 9}, "ubuntu" is {ubuntu ""}.
type PlatformTag struct{ Name, Version string }

var platformTagShape = regexp.MustCompile(`^([A-Za-z]+)(\d+(?:\.\d+)*[a-z0-9]*)?$`)

// Version is the first part of the tag.
func (r ImageRef) Version() string { v, _, _ := strings.Cut(r.Tag, "-"); return v }

// PlatformTags are the further parts of the tag, in order. Errors: InvalidArgument for a part that is none, and for a name given twice.
// (spec/config-cli-ops §5.2)
func (r ImageRef) PlatformTags() ([]PlatformTag, error) {
	list, bad := r.platformTags()
	if bad != "" {
		return nil, Errorf(InvalidArgument, "invalid tag-version string: %s", bad)
	}
	return list, nil
}

// platformTags skips what is no platform tag, or a repeated one, and returns the first such part.
func (r ImageRef) platformTags() (list []PlatformTag, bad string) {
	for _, part := range strings.Split(r.Tag, "-")[1:] {
		m := platformTagShape.FindStringSubmatch(part)
		if m == nil || slices.ContainsFunc(list, func(t PlatformTag) bool { return t.Name == m[1] }) {
			if bad == "" {
				bad = part
			}
			continue
		}
		list = append(list, PlatformTag{m[1], m[2]})
	}
	return list, bad
}

// CompareImages orders two tags of one image: by version; then by the version of each platform tag they share, in a's order; then the one
// with more platform tags comes first. Parts that are no platform tags do not count. ok is false for images of different names, which have
// no order. (spec/config-cli-ops §5.2)
func CompareImages(a, b ImageRef) (order int, ok bool) {
	if a.Name != b.Name {
		return 0, false
	}
	if c := CompareVersions(a.Version(), b.Version()); c != 0 {
		return c, true
	}
	at, _ := a.platformTags()
	bt, _ := b.platformTags()
	for _, t := range at {
		i := slices.IndexFunc(bt, func(o PlatformTag) bool { return o.Name == t.Name })
		if i < 0 || t.Version == "" || bt[i].Version == "" {
			continue
		}
		if c := CompareVersions(t.Version, bt[i].Version); c != 0 {
			return c, true
		}
	}
	switch {
	case len(at) > len(bt):
		return -1, true
	case len(at) < len(bt):
		return 1, true
	}
	return 0, true
}

var architectureAliases = map[string]string{"arm64": "aarch64", "amd64": "x86_64", "x64": "x86_64", "x32": "x86", "i686": "x86"}

// NormalizeArchitecture gives the stored form: "arm64" is "aarch64", "amd64" is "x86_64"; unknown names stay (spec/config-cli-ops §5.3).
func NormalizeArchitecture(name string) string {
	if a, ok := architectureAliases[name]; ok {
		return a
	}
	return name
}

// DockerArchitecture gives the form of Docker's API: "amd64", "arm64", "386".
func DockerArchitecture(name string) string {
	switch name {
	case "aarch64", "arm64":
		return "arm64"
	case "x86_64", "x64", "amd64":
		return "amd64"
	case "x86", "x32", "i686", "386":
		return "386"
	}
	return name
}
