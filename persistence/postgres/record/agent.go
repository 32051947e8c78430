package record

import (
	"encoding/json"
	"time"

	backendai "backend.ai/manager"
)

// Agent is one row of public.agents (spec/database §4.10).
type Agent struct {
	ID             string
	Status         backendai.AgentStatus
	StatusChanged  *time.Time
	Region         string
	ScalingGroup   string
	Schedulable    bool
	AvailableSlots backendai.ResourceSlots
	OccupiedSlots  backendai.ResourceSlots
	Addr           string // tcp://host:port of its RPC socket
	FirstContact   time.Time
	LostAt         *time.Time
	Version        string
	Architecture   string
	ComputePlugins json.RawMessage
}
