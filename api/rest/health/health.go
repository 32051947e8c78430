package health

import (
	"net/http"

	"backend.ai/manager/api"
)

// Resource is /health.
type Resource struct {
	// State tells why requests should not be sent here: "" when they should.
	state func() string
}

// New makes the resource. state gives "" while the node is ready, else why it is not, in one word: starting, draining, cut-off.
func New(state func() string) *Resource { return &Resource{state} }

// Register adds the routes.
func (s *Resource) Register(r *api.Router) {
	r.GET("/live", func(r *api.Request) error { return r.JSON(map[string]string{"status": "live"}) })
	r.GET("/ready", func(r *api.Request) error {
		if why := s.state(); why != "" {
			r.SetHeader("Retry-After", "1")
			return r.JSONStatus(http.StatusServiceUnavailable, map[string]string{"status": why})
		}
		return r.JSON(map[string]string{"status": "ready"})
	})
}
