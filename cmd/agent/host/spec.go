package host

import (
	"encoding/json"

	"backend.ai/manager/cmd/agent/runner"
	"backend.ai/manager/cmd/agent/sandbox"
)

// The hidden sub-commands of the agent's program.
const (
	Command      = "kernel-host"
	innerCommand = "kernel-host-inner"
)

// Files that the agent hands over, as descriptor numbers.
const (
	listenerFD = 3
	logFD      = 4
	specFD     = 5
)

// Spec is what a host needs to know.
type Spec struct {
	KernelID string        `json:"kernel_id"`
	Sandbox  sandbox.Spec  `json:"sandbox"`
	Runner   runner.Config `json:"runner"`
	// Bootstrap tells to run bootstrap.sh of the work folder first.
	Bootstrap bool `json:"bootstrap,omitempty"`
	// DataBytes limits the private memory of each process, for want of a cgroup; 0: none.
	DataBytes int64 `json:"data_bytes,omitempty"`
	// ServiceHost is the address services listen on.
	ServiceHost string `json:"service_host"`
}

// Request is one question to a host.
type Request struct {
	Op string `json:"op"`
	// Of execute.
	RunID        string   `json:"run_id,omitempty"`
	Mode         string   `json:"mode,omitempty"` // query, batch, continue or input
	Code         string   `json:"code,omitempty"` // also of complete
	Clean        *string  `json:"clean,omitempty"`
	Build        *string  `json:"build,omitempty"`
	Exec         *string  `json:"exec,omitempty"`
	FlushSeconds *float64 `json:"flush_seconds,omitempty"` // nil: until a change of status
	// Of start-service and shutdown-service.
	Service Service `json:"service,omitzero"`
	// Of shutdown: how long processes have to end by themselves.
	GraceSeconds float64 `json:"grace_seconds,omitempty"`
}

// The operations.
const (
	opStatus          = "status"
	opExecute         = "execute"
	opInterrupt       = "interrupt"
	opComplete        = "complete"
	opStartService    = "start-service"
	opShutdownService = "shutdown-service"
	opShutdown        = "shutdown"
)

// Service names a service and where it has to listen.
type Service struct {
	Name     string            `json:"name"`
	Protocol string            `json:"protocol"`
	Port     int               `json:"port"`
	Envs     map[string]string `json:"envs,omitempty"`
}

// Response is the answer; Error is set or the part that belongs to the operation.
type Response struct {
	Error       string         `json:"error,omitempty"`
	Result      *Result        `json:"result,omitempty"`
	Completions []string       `json:"completions,omitempty"`
	Service     *ServiceStatus `json:"service,omitempty"`
}

// ServiceStatus says how a start of a service went: started, running, or failed with a reason.
type ServiceStatus struct {
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// Result is what a call of execute gives: how the run stands and the output since the last call (spec/agent-protocol §5.11).
type Result struct {
	RunID string `json:"run_id"`
	// Status is continued, clean-finished, build-finished, finished or waiting-input.
	Status     string `json:"status"`
	ExitCode   *int   `json:"exit_code,omitempty"`
	IsPassword bool   `json:"is_password,omitempty"`
	Console    []Item `json:"console,omitempty"`
}

// Item is one piece of output. Data is a JSON string, or of media a pair of type and content.
type Item struct {
	Type string          `json:"type"` // stdout, stderr, html, media
	Text string          `json:"text,omitempty"`
	Data json.RawMessage `json:"data,omitempty"` // of html and media
}

// The statuses of a run.
const (
	StatusContinued     = "continued"
	StatusCleanFinished = "clean-finished"
	StatusBuildFinished = "build-finished"
	StatusFinished      = "finished"
	StatusWaitingInput  = "waiting-input"
)
