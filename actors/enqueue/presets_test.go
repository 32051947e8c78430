package enqueue

import (
	"testing"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
)

// The vector of spec/scheduling-lifecycle §17.
func TestCheckPresets(t *testing.T) {
	known := backendai.NewKnownSlots(backendai.KnownSlot{Name: "cuda.device", Type: backendai.SlotCount})
	limit := func(s backendai.ResourceSlots) backendai.ResourceSlots {
		l, err := backendai.SlotsFromPolicy(s, backendai.Unlimited, known)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	slots := backendai.SlotsOf
	limits := protocol.Limits{Keypair: limit(slots("cpu", "8")), Group: limit(slots("mem", "16g")), Domain: limit(slots())}
	taken := []Taken{
		{OfKey: true, OfUser: true, OfGroup: true, ScalingGroup: "a", Slots: slots("cpu", "2", "mem", "4g")},
		{OfGroup: true, ScalingGroup: "b", Slots: slots("mem", "8g", "strange", "5")},
		{OfKey: true, OfUser: true, OfGroup: true, Ending: true, ScalingGroup: "a", Slots: slots("cpu", "1", "mem", "1g")},
		{OfUser: true, ScalingGroup: "elsewhere", Slots: slots("cpu", "100")},
	}
	rooms := []Room{
		{"a", slots("cpu", "8", "mem", "4g", "cuda.device", "0"), slots("cpu", "4", "mem", "2g")},
		{"a", slots("cpu", "3", "mem", "6g", "cuda.device", "2"), slots()},
		{"elsewhere", slots("cpu", "100", "mem", "100g", "cuda.device", "100"), slots()},
	}
	var presets []Preset
	want := []bool{true, true, false, false, true, false}
	for _, p := range [][3]string{{"1", "1g", "0"}, {"2", "4g", "0"}, {"3", "6g", "0"}, {"5", "1g", "0"}, {"1", "1g", "1"}, {"4", "1g", "1"}} {
		presets = append(presets, Preset{Name: uuid.NewString(), Slots: slots("cpu", p[0], "mem", p[1], "cuda.device", p[2])})
	}
	c := CheckPresets(presets, limits, taken, rooms, []string{"a", "empty"}, known)
	for i, ok := range c.Allocatable {
		if ok != want[i] {
			t.Errorf("preset %d: %v", i, ok)
		}
	}
	for what, pair := range map[string][2]backendai.ResourceSlots{
		"keypair remaining":       {c.Keypair.Remaining, slots("cpu", "6", "mem", "4g").With("cuda.device", backendai.Infinity())},
		"keypair using":           {c.Keypair.Using, slots("cpu", "2", "mem", "4g", "cuda.device", "0")},
		"group using":             {c.Group.Using, slots("cpu", "2", "mem", "12g", "cuda.device", "0")},
		"scaling group remaining": {c.Remaining, slots("cpu", "6", "mem", "4g", "cuda.device", "2")},
		"using of a":              {c.ScalingGroups["a"].Using, slots("cpu", "3", "mem", "5g", "cuda.device", "0")},
		"remaining of a":          {c.ScalingGroups["a"].Remaining, slots("cpu", "6", "mem", "4g", "cuda.device", "2")},
		"remaining of empty":      {c.ScalingGroups["empty"].Remaining, slots("cpu", "0", "mem", "0", "cuda.device", "0")},
	} {
		if !pair[0].Equal(pair[1]) {
			t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
		}
	}
}
