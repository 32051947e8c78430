package session

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/scheduler"
	"backend.ai/manager/persistence/postgres/sessions"
)

// Plain users are told what they wait for, not whose sessions and which agents that are.
func TestOthersAreHidden(t *testing.T) {
	other, own, at := uuid.New(), uuid.New(), time.Date(2022, 3, 1, 0, 0, 0, 0, time.UTC)
	doc, err := json.Marshal(scheduler.Answer{
		Explanation: scheduler.Explanation{
			SessionID: own,
			Reasons: []scheduler.Reason{
				{Kind: scheduler.HasReservation, Reserved: &scheduler.Reserved{At: at, Agents: []string{"i-secret"}}},
				{Kind: scheduler.WouldDelay, Delays: &scheduler.Delay{Head: other, Until: at}},
				{Kind: scheduler.WaitsForPreempted, Preempted: []uuid.UUID{other}},
			},
			Estimate: &scheduler.Estimate{At: at, Basis: []scheduler.EndsAt{{Session: other, At: at}}},
		},
		Changes: []scheduler.ToldChange{{Change: scheduler.Change{Kind: scheduler.SessionEnds, Sessions: []uuid.UUID{other}}}, {Change: scheduler.Change{Kind: scheduler.QuotaRaised}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	group := "default"
	row := &sessions.Info{Status: backendai.Pending, ScalingGroup: &group}
	for _, all := range []bool{true, false} {
		w, err := waitOf(own, row, doc, all)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), other.String()) + strings.Count(string(text), "i-secret"); (n > 0) != all {
			t.Errorf("all %v: %s", all, text)
		}
		if len(w.Reasons) != 3 || w.Estimate == nil || w.Estimate.At != at || len(w.Changes) == 0 {
			t.Errorf("all %v: too little is left of it: %s", all, text)
		}
	}
}
