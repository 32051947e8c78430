package scheduler

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
)

// ReasonKind is a stable name of what a session waits for.
type ReasonKind string

// What a session can wait for. Each says which fields of Reason tell more.
const (
	WaitsForStart         ReasonKind = "start-time"           // StartsAt
	WaitsForSlot          ReasonKind = "concurrency"          // Scope, Sessions
	WaitsForDependency    ReasonKind = "dependencies"         // Dependencies; Never when one has ended without success
	WaitsForQuota         ReasonKind = "quota"                // Scope, Short; Never when it wants more than the limit
	WaitsForAccess        ReasonKind = "scaling-group-access" // Scope
	WaitsForType          ReasonKind = "session-type"         // SessionType, AllowedTypes
	WaitsForAgent         ReasonKind = "no-agent"             // Agents; Never when no agent, whatever state it is in, is large enough
	WaitsForGang          ReasonKind = "gang"                 // Gang, Agents
	WaitsForDesignated    ReasonKind = "designated-agent"     // Agent, Short
	MixesArchitectures    ReasonKind = "mixed-architectures"  // always Never
	WaitsBehind           ReasonKind = "behind-others"        // Behind
	WaitsForCommit        ReasonKind = "placed"               // an agent is found; the session is about to start
	WaitsForUnknownPolicy ReasonKind = "unknown-policy"       // Policy
	HasReservation        ReasonKind = "reserved"             // Reserved; it is first and fits nowhere now, but will
	WouldDelay            ReasonKind = "would-delay"          // Delays; it would fit, but not beside the first
	WaitsForPreempted     ReasonKind = "waits-for-preempted"  // Preempted; others were told to make room for it
)

// Reason is one thing a session waits for, with its numbers.
type Reason struct {
	Kind ReasonKind `json:"kind"`
	// Never: it cannot pass unless somebody changes what is asked for, a limit, or the cluster.
	Never bool `json:"never,omitempty"`

	StartsAt     *time.Time              `json:"starts_at,omitempty"`
	Scope        *Scope                  `json:"scope,omitempty"`
	Sessions     *SessionCount           `json:"sessions,omitempty"`
	Short        []Shortage              `json:"short,omitempty"`
	Dependencies []UnmetDependency       `json:"dependencies,omitempty"`
	SessionType  backendai.SessionType   `json:"session_type,omitempty"`
	AllowedTypes []backendai.SessionType `json:"allowed_types,omitempty"`
	Agents       *AgentTests             `json:"agents,omitempty"`
	Gang         *GangTests              `json:"gang,omitempty"`
	Agent        string                  `json:"agent,omitempty"`
	Behind       *Behind                 `json:"behind,omitempty"`
	Policy       string                  `json:"policy,omitempty"`
	Reserved     *Reserved               `json:"reserved,omitempty"`
	Delays       *Delay                  `json:"delays,omitempty"`
	Preempted    []uuid.UUID             `json:"preempted,omitempty"`
}

// Reserved is when and where a session will fit if what runs there ends when it is to.
type Reserved struct {
	At     time.Time `json:"at"`
	Agents []string  `json:"agents,omitempty"` // only shown to super-administrators
}

// Scope is whose limit or right is meant.
type Scope struct {
	Kind string `json:"kind"` // keypair, group, domain, scaling-group
	Name string `json:"name"`
}

// SessionCount is how many sessions an access key has and may have.
type SessionCount struct {
	Used  int `json:"used"`
	Limit int `json:"limit"`
}

// Shortage is by how much of which slot a quota or an agent is short.
type Shortage struct {
	Slot      backendai.SlotName `json:"slot"`
	Used      backendai.Decimal  `json:"used"`
	Limit     backendai.Decimal  `json:"limit"`
	Requested backendai.Decimal  `json:"requested"`
	Missing   backendai.Decimal  `json:"missing"` // used + requested − limit
}

// UnmetDependency is a session that has not ended in success.
type UnmetDependency struct {
	ID    uuid.UUID `json:"id"`
	Name  string    `json:"name"`
	Never bool      `json:"never,omitempty"` // it has ended otherwise
}

// AgentTests counts the scaling group's agents by the first test they fail; of those that come to the last, slots, each counts for
// every slot it is short of.
type AgentTests struct {
	Total          int        `json:"total"`
	NotAlive       int        `json:"not_alive,omitempty"`
	NotSchedulable int        `json:"not_schedulable,omitempty"`
	OtherArch      int        `json:"other_architecture,omitempty"`
	Architecture   string     `json:"architecture,omitempty"` // the one wanted
	Overdrawn      int        `json:"overdrawn,omitempty"`    // in a slot not asked for; such an agent takes nothing
	Slots          []SlotTest `json:"slots,omitempty"`
	Fit            int        `json:"fit,omitempty"`
}

// SlotTest is how many agents have too little of a slot free, and what the best of those has.
type SlotTest struct {
	Slot      backendai.SlotName `json:"slot"`
	Requested backendai.Decimal  `json:"requested"`
	Short     int                `json:"agents"`
	BestFree  backendai.Decimal  `json:"best_free"`
}

// GangTests is how far a multi-node session has come.
type GangTests struct {
	Kernels int         `json:"kernels"`
	Placed  int         `json:"placed"`
	Missing []uuid.UUID `json:"missing"` // kernels that found no place beside the others
}

// Behind is who is looked at first.
type Behind struct {
	Position int       `json:"position"` // 1 is next
	Head     uuid.UUID `json:"head"`     // fits nowhere and holds up those behind it
	// HigherPriority is how many are looked at first for their priority, LessUse how many because their owners have used less.
	HigherPriority int `json:"higher_priority,omitempty"`
	LessUse        int `json:"less_use,omitempty"`
}

// Sentence says the reason to people, with amounts of bytes in sizes.
func (r Reason) Sentence() string {
	var s string
	switch r.Kind {
	case WaitsForStart:
		s = "It starts at " + r.StartsAt.UTC().Format(time.RFC3339) + " at the earliest."
	case WaitsForSlot:
		s = fmt.Sprintf("The keypair %s has %d of at most %d concurrent sessions.", r.Scope.Name, r.Sessions.Used, r.Sessions.Limit)
	case WaitsForDependency:
		s = sentenceOf(r.Dependencies)
	case WaitsForQuota:
		s = fmt.Sprintf("The quota of the %s %s is short: %s.", r.Scope.Kind, r.Scope.Name, shortages(r.Short))
		if r.Never {
			s += " It wants more than the whole quota."
		}
	case WaitsForAccess:
		s = fmt.Sprintf("There is no access to the scaling group %s.", r.Scope.Name)
	case WaitsForType:
		s = fmt.Sprintf("The scaling group %s does not accept sessions of type %s.", r.Scope.Name, r.SessionType)
	case WaitsForAgent:
		s = r.Agents.sentence()
		if r.Never {
			s += " No agent could take it even when empty."
		}
	case WaitsForGang:
		s = fmt.Sprintf("%d of %d containers find a place at the same time. For the others: %s", r.Gang.Placed, r.Gang.Kernels, r.Agents.sentence())
		if r.Never {
			s += " No agent could take it even when empty."
		}
	case WaitsForDesignated:
		if len(r.Short) == 0 {
			s = fmt.Sprintf("The designated agent %s does not exist.", r.Agent)
		} else {
			s = fmt.Sprintf("The designated agent %s is too small: %s.", r.Agent, shortages(r.Short))
		}
	case MixesArchitectures:
		s = "Containers of different architectures cannot share an agent."
	case WaitsBehind:
		s = fmt.Sprintf("It is number %d in the queue; %s is looked at first and fits nowhere.", r.Behind.Position, r.Behind.Head)
		s += lookedAtFirst(r.Behind.HigherPriority, "of higher priority is", "of higher priority are")
		s += lookedAtFirst(r.Behind.LessUse, "is of an owner who has used less and is", "are of owners who have used less and are")
	case WaitsForCommit:
		s = "An agent is found; it is about to start."
	case HasReservation:
		s = "Resources are reserved for it; they are expected to be free at " + r.Reserved.At.UTC().Format(time.RFC3339) + "."
	case WouldDelay:
		s = "It would fit, but then delay another session, for which resources are reserved until " + r.Delays.Until.UTC().Format(time.RFC3339) + "."
	case WaitsForPreempted:
		if s = "It waits for a session of lower priority to end, which was told to make room for it."; len(r.Preempted) != 1 {
			s = fmt.Sprintf("It waits for %d sessions of lower priority to end, which were told to make room for it.", len(r.Preempted))
		}
	case WaitsForUnknownPolicy:
		s = fmt.Sprintf("The scaling group's scheduler %q does not exist; nothing is scheduled.", r.Policy)
	}
	return s
}

func lookedAtFirst(n int, one, more string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " 1 session " + one + " looked at first."
	}
	return fmt.Sprintf(" %d sessions %s looked at first.", n, more)
}

func sentenceOf(list []UnmetDependency) string {
	var open, never []string
	for _, d := range list {
		if text := fmt.Sprintf("%s (%s)", d.Name, d.ID); d.Never {
			never = append(never, text)
		} else {
			open = append(open, text)
		}
	}
	var parts []string
	if len(open) > 0 {
		parts = append(parts, "It waits for success of "+strings.Join(open, ", ")+".")
	}
	if len(never) > 0 {
		parts = append(parts, "It can never start: without success ended "+strings.Join(never, ", ")+".")
	}
	return strings.Join(parts, " ")
}

func shortages(list []Shortage) string {
	var parts []string
	for _, s := range list {
		parts = append(parts, fmt.Sprintf("%s: %s used of %s, %s requested", s.Slot, amountText(s.Slot, s.Used), amountText(s.Slot, s.Limit), amountText(s.Slot, s.Requested)))
	}
	return strings.Join(parts, "; ")
}

// amountText renders by the guessed type: a reason travels without the cluster's slot types.
func amountText(name backendai.SlotName, d backendai.Decimal) string {
	if backendai.GuessSlotType(name) == backendai.SlotBytes {
		return d.HumanSize()
	}
	return d.String()
}

func (t *AgentTests) sentence() string {
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(t.NotAlive, "not alive")
	add(t.NotSchedulable, "not schedulable")
	add(t.OtherArch, "not "+t.Architecture)
	add(t.Overdrawn, "overdrawn")
	for _, s := range t.Slots {
		add(s.Short, fmt.Sprintf("short of %s (%s requested, at best %s free)", s.Slot, amountText(s.Slot, s.Requested), amountText(s.Slot, s.BestFree)))
	}
	if t.Total == 0 {
		return "There are no agents."
	}
	return fmt.Sprintf("Of %d agents: %s.", t.Total, strings.Join(parts, ", "))
}
