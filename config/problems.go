package config

import (
	"fmt"
	"strings"

	backendai "backend.ai/manager"
)

// Problem is one key whose value can't be used.
type Problem struct {
	// Key is written with its tables: "manager.service-addr", or a key of the shared settings: "config/redis/addr".
	Key string
	// Value as found; *** for secrets, empty when there is none.
	Value string
	// Allowed says what would be right, as the end of a sentence: "must be …", "is required".
	Allowed string
	// Origin is the environment variable that set the value, if one did.
	Origin string
}

// String is one sentence.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Key)
	if p.Value != "" {
		fmt.Fprintf(&b, " = %s", p.Value)
	}
	if p.Origin != "" {
		fmt.Fprintf(&b, " (set by the environment variable %s)", p.Origin)
	}
	return b.String() + " " + p.Allowed
}

// Invalid makes the one error of a source (the path of a file, "etcd") with all its problems, one a line. Code InvalidConfig; Data
// holds the problems as a list. Nil when there are none.
func Invalid(source string, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", source)
	if len(problems) == 1 {
		b.WriteString(problems[0].String())
	} else {
		fmt.Fprintf(&b, "%d keys can't be used:", len(problems))
		for _, p := range problems {
			b.WriteString("\n  " + p.String())
		}
	}
	return backendai.Errorf(backendai.InvalidConfig, "%s", b.String()).WithData(problems)
}
