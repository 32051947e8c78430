package backendai

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// versionShape is a version of PEP 440: [epoch!]release[pre][.post][.dev][+local].
var versionShape = regexp.MustCompile(`^v?(?:(\d+)!)?(\d+(?:\.\d+)*)` +
	`(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?` +
	`(?:[-_.]?(post|rev|r)[-_.]?(\d*))?` +
	`(?:[-_.]?(dev)[-_.]?(\d*))?` +
	`(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$`)

// versionKey is what PEP 440 compares, part by part.
type versionKey struct {
	epoch   int
	release []int
	// The rank of a phase and its number; a release that is final in a phase has the rank that sorts it right.
	pre, post, dev [2]int
	local          string
}

const (
	beforeAll = -1
	afterAll  = 1 << 30
)

func parseVersion(text string) (versionKey, bool) {
	m := versionShape.FindStringSubmatch(strings.ToLower(text))
	if m == nil {
		return versionKey{}, false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // saturates; "" is 0
	k := versionKey{epoch: number(m[1]), local: m[9]}
	for _, p := range strings.Split(m[2], ".") {
		k.release = append(k.release, number(p))
	}
	for len(k.release) > 1 && k.release[len(k.release)-1] == 0 { // 3.0 equals 3
		k.release = k.release[:len(k.release)-1]
	}
	switch m[3] {
	case "a", "alpha":
		k.pre = [2]int{1, number(m[4])}
	case "b", "beta":
		k.pre = [2]int{2, number(m[4])}
	case "c", "rc", "pre", "preview":
		k.pre = [2]int{3, number(m[4])}
	default:
		k.pre = [2]int{afterAll, 0}
		if m[5] == "" && m[7] != "" { // 1.0.dev1 comes before 1.0a1
			k.pre[0] = beforeAll
		}
	}
	k.post = [2]int{beforeAll, 0}
	if m[5] != "" {
		k.post = [2]int{0, number(m[6])}
	}
	k.dev = [2]int{afterAll, 0}
	if m[7] != "" {
		k.dev = [2]int{0, number(m[8])}
	}
	return k, true
}

// CompareVersions orders versions by the rules of PEP 440: "3.9" < "3.10", "1.0rc1" < "1.0". Texts that are no versions ("latest") come
// before all versions and are ordered as texts. Leaves out only the ordering of local parts by segments. (spec/config-cli-ops §5.2)
func CompareVersions(a, b string) int {
	x, xok := parseVersion(a)
	y, yok := parseVersion(b)
	switch {
	case !xok && !yok:
		return strings.Compare(a, b)
	case !xok:
		return -1
	case !yok:
		return 1
	}
	return cmp.Or(
		cmp.Compare(x.epoch, y.epoch),
		slices.Compare(x.release, y.release),
		slices.Compare(x.pre[:], y.pre[:]),
		slices.Compare(x.post[:], y.post[:]),
		slices.Compare(x.dev[:], y.dev[:]),
		strings.Compare(x.local, y.local),
	)
}
