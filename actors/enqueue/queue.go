package enqueue

import (
	"encoding/json"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// Waiting is how many sessions wait in a scaling group.
type Waiting struct {
	All int
	Own int // of the owner's keypair
}

// ScalingGroupOf is the scaling group that a request goes to: the one it names, else the first that the owner may use. Errors: ScalingGroupNotFound.
func ScalingGroupOf(r *Request, f *Facts) (string, error) { return chooseScalingGroup(r, f) }

// CheckPriority tells whether somebody may ask for a priority in a scaling group that heeds priorities: plain users may go behind others, not
// before them. Errors: InsufficientPrivilege.
func CheckPriority(requester backendai.UserRole, priority int, o protocol.Options) error {
	if !o.Priority || priority <= 0 || requester == backendai.RoleAdmin || requester == backendai.RoleSuperadmin {
		return nil
	}
	return backendai.Errorf(backendai.InsufficientPrivilege, "Only administrators may ask for a priority above 0 (asked for: %d); anybody may ask for less.", priority)
}

// checkWishes reads what a session says of itself in its options. Errors: InvalidAPIParameters, InsufficientPrivilege.
func checkWishes(opts json.RawMessage, f *Facts) error {
	w, err := protocol.WishesOf(opts)
	if err != nil {
		return err
	}
	return CheckPriority(f.Owner.RequesterRole, w.Priority, f.Options)
}

// checkQueue refuses a session for which there is no room in the queue. What waits already stays, also when a limit is lowered. The count is a
// moment old: requests that come at the same time may all find the last room. Errors: QuotaExceeded.
func checkQueue(scalingGroup string, f *Facts) error {
	if most := f.Options.MaxPending; most > 0 && f.Waiting.All >= most {
		return backendai.Errorf(backendai.QuotaExceeded, "The scaling group %s lets at most %d sessions wait, and %d do; try again when some have started.", scalingGroup, most, f.Waiting.All)
	}
	if most := f.Options.MaxPendingPerKeypair; most > 0 && f.Waiting.Own >= most {
		return backendai.Errorf(backendai.QuotaExceeded, "The scaling group %s lets at most %d sessions of a keypair wait, and %d of %s do; try again when some have started.",
			scalingGroup, most, f.Waiting.Own, f.Owner.AccessKey)
	}
	return nil
}
