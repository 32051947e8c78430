package backendai

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// durationUnits are the units of a duration as settings spell them. Years and months of the original are no fixed time and are refused.
var durationUnits = map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}

// ParseDuration reads a number with an optional unit w, d, h, m or s: "30", "1.5h", "2d". Errors: InvalidArgument.
// (spec/scheduling §3, spec/config-cli-ops §1.2)
func ParseDuration(text string) (time.Duration, error) {
	s := strings.TrimSpace(text)
	number := strings.TrimRight(s, "wdhms")
	unit, ok := durationUnits[s[len(number):]]
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || math.IsNaN(value) || math.IsInf(value, 0) || value < 0 || value*float64(unit) > math.MaxInt64 {
		return 0, Errorf(InvalidArgument, "invalid duration %s; write a number and a unit out of w, d, h, m, s", Repr(clip(text)))
	}
	return time.Duration(value * float64(unit)), nil
}
