package resource

import (
	"context"
	"strconv"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/accounts"
)

// Facts is what the resource reads.
type Facts interface {
	Presets(ctx context.Context) ([]enqueue.Preset, error)
	CheckPresets(ctx context.Context, who *accounts.Credential, group, scalingGroup string) ([]enqueue.Preset, enqueue.Choice, error)
	// ShowsGroups tells whether users are shown the limits of their projects.
	ShowsGroups() bool
	// Groups lists all scaling groups.
	Groups(ctx context.Context) ([]string, error)
	KnownSlots() *backendai.KnownSlots
}

// Router is how schedulers are reached; *cluster.Router is one.
type Router interface {
	Send(to cluster.Identity, msg any) bool
}

// Resource is /resource.
type Resource struct {
	facts  Facts
	router Router
}

// New makes the resource.
func New(facts Facts, router Router) *Resource { return &Resource{facts, router} }

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("/presets", s.presets, api.Auth)
	r.POST("/check-presets", s.check, api.Auth)
	r.POST("/recalculate-usage", s.recalculate, api.Superadmin, api.ReadAllowed)
}

type preset struct {
	Name         string                  `json:"name"`
	SharedMemory *string                 `json:"shared_memory"`
	Slots        backendai.ResourceSlots `json:"resource_slots"`
	Allocatable  *bool                   `json:"allocatable,omitempty"`
}

// sharedMemory is a number of bytes as a text. What is nothing is null in the list, and "0" where presets are checked.
func sharedMemory(bytes *int64, zero bool) *string {
	if bytes == nil || *bytes == 0 && !zero {
		return nil
	}
	text := strconv.FormatInt(*bytes, 10)
	return &text
}

func (s *Resource) presets(r *api.Request) error {
	list, err := s.facts.Presets(r.Context())
	if err != nil {
		return err
	}
	answer := struct {
		Presets []preset `json:"presets"`
	}{make([]preset, len(list))}
	for i, p := range list {
		answer.Presets[i] = preset{Name: p.Name, Slots: p.Slots, SharedMemory: sharedMemory(p.SharedMemory, false)}
	}
	return r.JSON(answer)
}

type groupRoom struct {
	Using     backendai.ResourceSlots `json:"using"`
	Remaining backendai.ResourceSlots `json:"remaining"`
}

// checked is the answer of check-presets.
type checked struct {
	KeypairLimits         backendai.ResourceSlots `json:"keypair_limits"`
	KeypairUsing          backendai.ResourceSlots `json:"keypair_using"`
	KeypairRemaining      backendai.ResourceSlots `json:"keypair_remaining"`
	GroupLimits           backendai.ResourceSlots `json:"group_limits"`
	GroupUsing            backendai.ResourceSlots `json:"group_using"`
	GroupRemaining        backendai.ResourceSlots `json:"group_remaining"`
	ScalingGroupRemaining backendai.ResourceSlots `json:"scaling_group_remaining"`
	ScalingGroups         map[string]groupRoom    `json:"scaling_groups"`
	Presets               []preset                `json:"presets"`
}

func (s *Resource) check(r *api.Request) error {
	p, err := api.Params(r, func(p *struct {
		group        string
		scalingGroup *string
	}, b *params.Binder) {
		params.Opt(b, &p.group, "default", params.Str, "group")
		params.Maybe(b, &p.scalingGroup, params.Str, "scaling_group")
	})
	if err != nil {
		return err
	}
	only := ""
	if p.scalingGroup != nil {
		if only = *p.scalingGroup; only == "" {
			return backendai.Errorf(backendai.InvalidAPIParameters, "Unknown scaling group")
		}
	}
	list, c, err := s.facts.CheckPresets(r.Context(), r.Who(), p.group, only)
	if err != nil {
		return err
	}
	answer := checked{
		KeypairLimits: c.Keypair.Limits, KeypairUsing: c.Keypair.Using, KeypairRemaining: c.Keypair.Remaining,
		GroupLimits: c.Group.Limits, GroupUsing: c.Group.Using, GroupRemaining: c.Group.Remaining,
		ScalingGroupRemaining: c.Remaining, ScalingGroups: make(map[string]groupRoom, len(c.ScalingGroups)), Presets: make([]preset, len(list)),
	}
	if !s.facts.ShowsGroups() {
		var hidden backendai.ResourceSlots
		for _, name := range s.facts.KnownSlots().Names() {
			hidden = hidden.With(name, backendai.NaN())
		}
		answer.GroupLimits, answer.GroupUsing, answer.GroupRemaining = hidden, hidden, hidden
	}
	for name, g := range c.ScalingGroups {
		answer.ScalingGroups[name] = groupRoom(g)
	}
	for i, p := range list {
		answer.Presets[i] = preset{Name: p.Name, Slots: p.Slots, SharedMemory: sharedMemory(p.SharedMemory, true), Allocatable: &c.Allocatable[i]}
	}
	return r.JSON(answer)
}

// recalculate has the schedulers, which alone keep these figures, make them anew.
func (s *Resource) recalculate(r *api.Request) error {
	groups, err := s.facts.Groups(r.Context())
	if err != nil {
		return err
	}
	for _, name := range groups {
		if !s.router.Send(cluster.Scheduler(name), &protocol.Recount{}) {
			return backendai.Errorf(backendai.ServiceUnavailable, "The scheduler of %s is moving to another node; try again.", name)
		}
	}
	return r.JSON(struct{}{})
}
