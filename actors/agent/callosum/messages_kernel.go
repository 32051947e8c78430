package callosum

import "github.com/vmihailenco/msgpack/v5"

// InterruptKernel interrupts the running code (spec §5.8).
type InterruptKernel struct {
	returnsNothing
	KernelID string
}

// Call gives the arguments by position.
func (r InterruptKernel) Call() Call { return NewCall(MethodInterruptKernel, r.KernelID) }

// Bind reads the arguments.
func (r *InterruptKernel) Bind(a Arguments) error { return a.Bind(Required("kernel_id", &r.KernelID)) }

// PingKernel does nothing on official agents, not even a check of the id.
type PingKernel struct {
	returnsNothing
	KernelID string
}

// Call gives the arguments by position.
func (r PingKernel) Call() Call { return NewCall(MethodPingKernel, r.KernelID) }

// Bind reads the arguments.
func (r *PingKernel) Bind(a Arguments) error { return a.Bind(Required("kernel_id", &r.KernelID)) }

// GetCompletions asks for code completion (spec §5.9). Official agents never answer it with anything but nil, and mostly
// not at all.
type GetCompletions struct {
	KernelID string
	Text     string
	Opts     Map // row, col, line, post
}

// Completions are the candidates.
type Completions struct {
	Status      string   `json:"status"` // finished
	Completions []string `json:"completions"`
}

// EncodeMsgpack writes nil candidates as an empty list.
func (c Completions) EncodeMsgpack(enc *msgpack.Encoder) error {
	type plain Completions
	c.Completions = orEmptyList(c.Completions)
	return enc.Encode(plain(c))
}

// Call gives the arguments by position.
func (r GetCompletions) Call() Call {
	return NewCall(MethodGetCompletions, r.KernelID, r.Text, r.Opts.orEmpty())
}

// Bind reads the arguments.
func (r *GetCompletions) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("text", &r.Text), Required("opts", &r.Opts))
}

// Result takes nil for no candidates.
func (r GetCompletions) Result(payload []byte) (Completions, error) {
	if isNil(payload) {
		return Completions{Status: "finished", Completions: []string{}}, nil
	}
	return decodeResult[Completions](MethodGetCompletions, payload)
}

// GetLogs asks for the whole log of a container.
type GetLogs struct{ KernelID string }

// Logs is a container's log, stdout and stderr joined.
type Logs struct {
	Logs string `json:"logs"`
}

// Call gives the arguments by position.
func (r GetLogs) Call() Call { return NewCall(MethodGetLogs, r.KernelID) }

// Bind reads the arguments.
func (r *GetLogs) Bind(a Arguments) error { return a.Bind(Required("kernel_id", &r.KernelID)) }

// Result decodes the log.
func (r GetLogs) Result(payload []byte) (Logs, error) {
	return decodeResult[Logs](MethodGetLogs, payload)
}

// Execute runs code, or goes on gathering the output of code that runs (spec §5.11).
type Execute struct {
	KernelID   string
	APIVersion int
	RunID      *string // nil: the agent makes one
	Mode       string  // query, batch, continue or input
	Code       string
	Opts       Map // of batch: clean, build, exec
	// FlushTimeout is how many seconds the agent gathers output before it answers "continued"; nil: until a change.
	FlushTimeout *float64
}

// Call gives the arguments by position.
func (r Execute) Call() Call {
	return NewCall(MethodExecute, r.KernelID, r.APIVersion, r.RunID, r.Mode, r.Code, r.Opts.orEmpty(), r.FlushTimeout)
}

// Bind reads the arguments.
func (r *Execute) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("api_version", &r.APIVersion), Required("run_id", &r.RunID),
		Required("mode", &r.Mode), Required("code", &r.Code), Required("opts", &r.Opts), Required("flush_timeout", &r.FlushTimeout))
}

// Result takes nil for a run that was cut off, as the manager's REST handler does.
func (r Execute) Result(payload []byte) (ExecuteResult, error) {
	if isNil(payload) {
		code := 130
		res := ExecuteResult{Status: "finished", ExitCode: &code, Files: []any{}, Console: [][]any{}}
		if r.RunID != nil {
			res.RunID = *r.RunID
		}
		return res, nil
	}
	return decodeResult[ExecuteResult](MethodExecute, payload)
}

// ExecuteResult is the state of a run and its output since the last call.
type ExecuteResult struct {
	RunID string `json:"runId"`
	// Status is continued, clean-finished, build-finished, finished, exec-timeout or waiting-input.
	Status   string `json:"status"`
	ExitCode *int   `json:"exitCode"`
	Options  Map    `json:"options"` // of waiting-input: is_password
	Files    []any  `json:"files"`   // always empty
	// Console holds [type, data] items (API version 2 and up). Nil means the answer has the form of version 1.
	Console [][]any `json:"console,omitempty"`
	// V1 is the output in the form of API version 1.
	V1 *ConsoleV1 `json:"-"`
}

// ConsoleV1 is the output of a run in the form of API version 1.
type ConsoleV1 struct {
	Stdout string   `json:"stdout"`
	Stderr string   `json:"stderr"`
	Media  [][]any  `json:"media"` // [mime, data]
	HTML   []string `json:"html"`
}

// EncodeMsgpack writes the keys of the version in use.
func (r ExecuteResult) EncodeMsgpack(enc *msgpack.Encoder) error {
	m := Map{{"runId", r.RunID}, {"status", r.Status}, {"exitCode", r.ExitCode}, {"options", r.Options}, {"files", orEmptyList(r.Files)}}
	if r.V1 != nil {
		m = append(m, Entry{"stdout", r.V1.Stdout}, Entry{"stderr", r.V1.Stderr},
			Entry{"media", orEmptyList(r.V1.Media)}, Entry{"html", orEmptyList(r.V1.HTML)})
	} else {
		m = append(m, Entry{"console", orEmptyList(r.Console)})
	}
	return enc.Encode(m)
}

// DecodeMsgpack reads either version.
func (r *ExecuteResult) DecodeMsgpack(dec *msgpack.Decoder) error {
	var all struct {
		RunID    string   `json:"runId"`
		Status   string   `json:"status"`
		ExitCode *int     `json:"exitCode"`
		Options  Map      `json:"options"`
		Files    []Any    `json:"files"`
		Console  [][]Any  `json:"console"`
		Stdout   *string  `json:"stdout"`
		Stderr   string   `json:"stderr"`
		Media    [][]Any  `json:"media"`
		HTML     []string `json:"html"`
	}
	if err := dec.Decode(&all); err != nil {
		return err
	}
	*r = ExecuteResult{RunID: all.RunID, Status: all.Status, ExitCode: all.ExitCode, Options: all.Options, Files: bare(all.Files)}
	if all.Stdout != nil {
		r.V1 = &ConsoleV1{Stdout: *all.Stdout, Stderr: all.Stderr, Media: bareRows(all.Media), HTML: orEmptyList(all.HTML)}
		return nil
	}
	r.Console = bareRows(all.Console)
	return nil
}

func bare(list []Any) []any {
	out := make([]any, len(list))
	for i, a := range list {
		out[i] = a.V
	}
	return out
}

func bareRows(rows [][]Any) [][]any {
	out := make([][]any, len(rows))
	for i, row := range rows {
		out[i] = bare(row)
	}
	return out
}

// ExecuteBatch starts a batch command; deprecated, agents run the start-up command by themselves.
type ExecuteBatch struct {
	returnsNothing
	KernelID       string
	StartupCommand string
}

// Call gives the arguments by position.
func (r ExecuteBatch) Call() Call { return NewCall(MethodExecuteBatch, r.KernelID, r.StartupCommand) }

// Bind reads the arguments.
func (r *ExecuteBatch) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("startup_command", &r.StartupCommand))
}

// StartService starts an app behind a service port (spec §5.13).
type StartService struct {
	KernelID string
	Service  string
	Opts     Map // arguments and envs, both maps, both optional
}

// ServiceResult says how the start went.
type ServiceResult struct {
	Status string `json:"status"` // started, running or failed
	Error  string `json:"error,omitempty"`
}

// Call gives the arguments by position.
func (r StartService) Call() Call {
	return NewCall(MethodStartService, r.KernelID, r.Service, r.Opts.orEmpty())
}

// Bind reads the arguments.
func (r *StartService) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("service", &r.Service), Required("opts", &r.Opts))
}

// Result decodes the outcome.
func (r StartService) Result(payload []byte) (ServiceResult, error) {
	return decodeResult[ServiceResult](MethodStartService, payload)
}

// ShutdownService stops an app; agents swallow every error.
type ShutdownService struct {
	returnsNothing
	KernelID string
	Service  string
}

// Call gives the arguments by position.
func (r ShutdownService) Call() Call { return NewCall(MethodShutdownService, r.KernelID, r.Service) }

// Bind reads the arguments.
func (r *ShutdownService) Bind(a Arguments) error {
	return a.Bind(Required("kernel_id", &r.KernelID), Required("service", &r.Service))
}
