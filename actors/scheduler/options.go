package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"backend.ai/manager/actors/protocol"
)

// Policies are the names of the schedulers, as scaling groups have them.
var Policies = []string{policyFIFO, policyLIFO, policyDRF, policyMOF}

// unknownScheduler says that there is no scheduler of a name; "" if there is.
func unknownScheduler(name string) string {
	if name == "" || slices.Contains(Policies, name) {
		return ""
	}
	return fmt.Sprintf("no scheduler is called %q; the schedulers are %s", name, strings.Join(Policies[:len(Policies)-1], ", ")+" and "+Policies[len(Policies)-1])
}

// takePolicy takes a policy as it was read. One that is not understood does not replace one that was: a slip in an administrator's
// edit must not turn a group's order over, nor stop it. Only where none was ever understood it is taken as far as it goes.
func (c *Core) takePolicy(e *protocol.PolicyChanged) (changed bool) {
	c.problem = e.Problem
	if unknown := unknownScheduler(e.Policy.Name); unknown != "" {
		c.problem = unknown
	}
	if c.problem != "" && c.understood {
		return false
	}
	c.understood = c.problem == ""
	changed = c.Policy != e.Policy
	c.Policy = e.Policy
	return changed
}

// PolicyProblem is what of the group's options is not understood, "" if all is.
func (c *Core) PolicyProblem() string { return c.problem }

// policyNote tells somebody whose session waits that its scaling group's options are not what was written; "" if they are.
func (c *Core) policyNote() string {
	switch {
	case c.problem == "":
		return ""
	case c.understood:
		return fmt.Sprintf("The scaling group's options are not understood: %s; the last good ones are used.", c.problem)
	case unknownScheduler(c.Policy.Name) != "":
		return "" // the reason says it: nothing is scheduled
	}
	return fmt.Sprintf("The scaling group's options are not understood: %s; the defaults are used in their place.", c.problem)
}
