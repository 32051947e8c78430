package scalinggroup

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/coordinator"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/accounts"
)

// versionLasts is how long a coordinator's version is believed; as in the original.
const versionLasts = 30 * time.Second

// withoutCoordinator is the version that stands for having none.
const withoutCoordinator = "v1"

// Facts is what the resource reads.
type Facts interface {
	// AllowedGroups lists the scaling groups somebody may use in a project (its id or name), by name.
	AllowedGroups(ctx context.Context, who *accounts.Credential, group string) ([]string, error)
	// CoordinatorOf is the address of a scaling group's coordinator, "" when it has none.
	CoordinatorOf(ctx context.Context, scalingGroup string) (string, error)
}

// Resource is /scaling-groups.
type Resource struct {
	facts Facts

	mu       sync.Mutex
	versions map[string]version // by address
}

type version struct {
	text string
	at   time.Time
}

// New makes the resource.
func New(facts Facts) *Resource { return &Resource{facts: facts, versions: make(map[string]version)} }

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("", s.list, api.Auth, api.ReadAllowed)
	r.GET("/{scaling_group}/wsproxy-version", s.version, api.Auth, api.ReadAllowed)
}

var groupNames = []string{"group", "group_id", "group_name"}

func (s *Resource) list(r *api.Request) error {
	group, err := api.Params(r, func(p *string, b *params.Binder) { params.Need(b, p, params.Str, groupNames...) })
	if err != nil {
		return err
	}
	allowed, err := s.facts.AllowedGroups(r.Context(), r.Who(), group)
	if err != nil {
		return err
	}
	type named struct {
		Name string `json:"name"`
	}
	answer := struct {
		Groups []named `json:"scaling_groups"`
	}{make([]named, len(allowed))}
	for i, name := range allowed {
		answer.Groups[i].Name = name
	}
	return r.JSON(answer)
}

func (s *Resource) version(r *api.Request) error {
	group, err := api.Params(r, func(p **string, b *params.Binder) { params.Maybe(b, p, params.Str, groupNames...) })
	if err != nil {
		return err
	}
	project, name := "", r.Param("scaling_group")
	if group != nil {
		project = *group
	}
	allowed, err := s.facts.AllowedGroups(r.Context(), r.Who(), project)
	if err != nil {
		return err
	}
	if !slices.Contains(allowed, name) {
		return backendai.NewError(backendai.ScalingGroupNotFound)
	}
	address, err := s.facts.CoordinatorOf(r.Context(), name)
	if err != nil {
		return err
	}
	v := withoutCoordinator
	if address != "" {
		if v, err = s.versionOf(r.Context(), strings.TrimSuffix(address, "/")); err != nil {
			return err
		}
	}
	return r.JSON(struct {
		Version string `json:"wsproxy_version"`
	}{v})
}

func (s *Resource) versionOf(ctx context.Context, address string) (string, error) {
	s.mu.Lock()
	known, ok := s.versions[address]
	s.mu.Unlock()
	if ok && time.Since(known.at) < versionLasts {
		return known.text, nil
	}
	status, err := coordinator.Ask(ctx, address)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[address] = version{status.Version, time.Now()}
	return status.Version, nil
}
