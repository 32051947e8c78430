package record

import (
	"time"

	backendai "backend.ai/manager"
)

// PastUse is what an access key had used of a scaling group as of a time: slot-seconds by kind of slot, decayed by the half-life of the
// group's fair share. Rows of ended kernels would not do: they don't say when they began to run.
type PastUse struct {
	ScalingGroup string
	AccessKey    string
	SlotSeconds  map[backendai.SlotName]float64
	At           time.Time
}
