package manager

import (
	"context"
	"net/http"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
)

// Node is one manager of the cluster as clients see it.
type Node struct {
	ID      string
	Address string // of its API, host:port
	Version string
}

// Self is what this process says of its configuration; clients read it of every node.
type Self struct {
	Processes        int
	HeartbeatTimeout float64 // seconds
	SSL              bool
}

// Settings are the shared settings that this resource reads and writes.
type Settings interface {
	// Status is the state of the cluster in lower case: running, frozen, …
	Status() string
	// Announcement is the text of administrators, if there is one.
	Announcement(ctx context.Context) (text string, ok bool, err error)
	// SetStatus changes the state, for all nodes.
	SetStatus(ctx context.Context, status string) error
	// Announce replaces the announcement; "" takes it away.
	Announce(ctx context.Context, text string) error
}

// Deps are what the resource works with.
type Deps struct {
	Self     Self
	Settings Settings
	// Nodes lists the managers of the cluster.
	Nodes func() []Node
	// Active counts the sessions that occupy agents.
	Active func(ctx context.Context) (int, error)
}

// Resource is /manager.
type Resource struct{ deps Deps }

// New makes the resource.
func New(deps Deps) *Resource { return &Resource{deps} }

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("/status", s.status)
	r.PUT("/status", s.setStatus, api.Superadmin)
	r.GET("/announcement", s.announcement)
	r.POST("/announcement", s.announce, api.Superadmin)
}

type nodeStatus struct {
	ID               string  `json:"id"`
	Processes        int     `json:"num_proc"`
	Address          string  `json:"service_addr"`
	HeartbeatTimeout float64 `json:"heartbeat_timeout"`
	SSL              bool    `json:"ssl_enabled"`
	ActiveSessions   int     `json:"active_sessions"`
	Status           string  `json:"status"`
	Version          string  `json:"version"`
	APIVersion       [2]any  `json:"api_version"`
}

func (s *Resource) status(r *api.Request) error {
	active, err := s.deps.Active(r.Context())
	if err != nil {
		return err
	}
	answer := struct {
		Nodes          []nodeStatus `json:"nodes"`
		Status         string       `json:"status"`
		ActiveSessions int          `json:"active_sessions"`
	}{Nodes: []nodeStatus{}, Status: s.deps.Settings.Status(), ActiveSessions: active}
	for _, n := range s.deps.Nodes() {
		answer.Nodes = append(answer.Nodes, nodeStatus{
			ID: n.ID, Processes: s.deps.Self.Processes, Address: n.Address, HeartbeatTimeout: s.deps.Self.HeartbeatTimeout, SSL: s.deps.Self.SSL,
			ActiveSessions: active, Status: answer.Status, Version: n.Version, APIVersion: [2]any{r.Version.Major, r.Version.Date},
		})
	}
	return r.JSON(answer)
}

// setStatus takes either case of the two states; the reference takes neither (spec/rest-core §7.7, BUG). Ending all sessions at the same
// time is not offered: an administrator ends them by name.
func (s *Resource) setStatus(r *api.Request) error {
	p, err := api.Params(r, func(p *struct {
		status string
		kill   bool
	}, b *params.Binder) {
		params.Need(b, &p.status, params.Str, "status")
		params.Opt(b, &p.kill, false, params.ToBool, "force_kill")
	})
	if err != nil {
		return err
	}
	status := strings.ToLower(p.status)
	if status != "running" && status != "frozen" {
		return backendai.Errorf(backendai.InvalidAPIParameters, "status must be running or frozen, not %q.", p.status)
	}
	if p.kill {
		return backendai.Errorf(backendai.QueryNotImplemented, "This manager does not end sessions when it is frozen; end them first.")
	}
	if err := s.deps.Settings.SetStatus(r.Context(), status); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}

func (s *Resource) announcement(r *api.Request) error {
	text, ok, err := s.deps.Settings.Announcement(r.Context())
	if err != nil {
		return err
	}
	return r.JSON(map[string]any{"enabled": ok, "message": text})
}

func (s *Resource) announce(r *api.Request) error {
	p, err := api.Params(r, func(p *struct {
		enabled bool
		message *string
	}, b *params.Binder) {
		params.Opt(b, &p.enabled, false, params.ToBool, "enabled")
		params.Maybe(b, &p.message, params.Str, "message")
	})
	if err != nil {
		return err
	}
	text := ""
	if p.enabled {
		if p.message == nil || *p.message == "" {
			return backendai.Errorf(backendai.InvalidAPIParameters, "Empty message not allowed to enable announcement")
		}
		text = *p.message
	}
	if err := s.deps.Settings.Announce(r.Context(), text); err != nil {
		return err
	}
	return r.Send(http.StatusNoContent, "", nil)
}
