package backendai

import "net/http"

// Code names one kind of failure. It is itself an error, so that errors.Is(err, SessionNotFound) reads well, and it knows what a
// client sees of it: HTTP status, problem URI and title (spec/rest-core §3.2).
type Code string

// The catalogue of the 22.03 API. Each code's comment would repeat its row in the table below.
const (
	URLNotFound              Code = "url-not-found"
	ObjectNotFound           Code = "object-not-found"
	GenericBadRequest        Code = "generic-bad-request"
	RejectedByHook           Code = "rejected-by-hook"
	InvalidCredentials       Code = "invalid-credentials"
	GenericForbidden         Code = "generic-forbidden"
	InsufficientPrivilege    Code = "insufficient-privilege"
	MethodNotAllowed         Code = "method-not-allowed"
	InternalServerError      Code = "internal-server-error"
	ServerMisconfigured      Code = "server-misconfigured"
	ServiceUnavailable       Code = "service-unavailable"
	QueryNotImplemented      Code = "not-implemented"
	InvalidAuthParameters    Code = "invalid-auth-params"
	AuthorizationFailed      Code = "auth-failed"
	InvalidAPIParameters     Code = "invalid-api-params"
	GraphQLError             Code = "graphql-error"
	TooManySessionsMatched   Code = "too-many-sessions-matched"
	TooManyKernelsFound      Code = "too-many-kernels"
	SessionAlreadyExists     Code = "session-already-exists"
	VFolderCreationFailed    Code = "vfolder-creation-failed"
	TooManyVFoldersFound     Code = "too-many-vfolders"
	VFolderAlreadyExists     Code = "vfolder-already-exists"
	VFolderOperationFailed   Code = "vfolder-operation-failed"
	DotfileCreationFailed    Code = "dotfile-creation-failed"
	DotfileAlreadyExists     Code = "dotfile-already-exists"
	QuotaExceeded            Code = "quota-exceeded"
	RateLimitExceeded        Code = "rate-limit-exceeded"
	InstanceNotAvailable     Code = "instance-not-available"
	ServerFrozen             Code = "server-frozen"
	StorageProxyError        Code = "storage-proxy-error"
	KernelCreationFailed     Code = "kernel-creation-failed"
	KernelDestructionFailed  Code = "kernel-destruction-failed"
	KernelRestartFailed      Code = "kernel-restart-failed"
	KernelExecutionFailed    Code = "kernel-execution-failed"
	PluginError              Code = "plugin-error"
	PluginConfigurationError Code = "plugin-config-error"
	GeneralError             Code = "general-error"
)

// Kinds of ObjectNotFound: same status and problem URI, their own title. errors.Is(err, ObjectNotFound) holds for each.
const (
	InstanceNotFound       Code = "instance-not-found"
	ImageNotFound          Code = "image-not-found"
	DomainNotFound         Code = "domain-not-found"
	GroupNotFound          Code = "group-not-found"
	ScalingGroupNotFound   Code = "scaling-group-not-found"
	SessionNotFound        Code = "session-not-found"
	TaskTemplateNotFound   Code = "task-template-not-found"
	AppNotFound            Code = "app-not-found"
	VFolderNotFound        Code = "vfolder-not-found"
	DotfileNotFound        Code = "dotfile-not-found"
	UnknownImageReference  Code = "unknown-image-reference"
	BackgroundTaskNotFound Code = "background-task-not-found"
)

// Failures of an agent; their body carries "agent-details" instead of msg and data (spec/rest-core §3.2 notes).
const (
	AgentTimeout      Code = "agent-timeout"
	AgentInvalidInput Code = "agent-invalid-input"
	AgentFailure      Code = "agent-failure"
)

// Failures inside the manager and its command line. They have no row in the catalogue: InvalidArgument reaches clients as 400
// invalid-api-params (spec/rest-core §3.3), the others as a plain 500, or end a command with an exit code.
const (
	// InvalidArgument: a value that a rule of this package refuses (a size, a name, an image reference …).
	InvalidArgument Code = "invalid-argument"
	// InvalidConfig: manager.toml or the shared settings do not validate.
	InvalidConfig Code = "invalid-config"
	// InvalidUsage: a command was called with wrong arguments; exit code 2.
	InvalidUsage Code = "invalid-usage"
	// Aborted: the person at the command line said no, or pressed ^C.
	Aborted Code = "aborted"
	// InvalidTransition: a status change that is no edge of the state graph.
	InvalidTransition Code = "invalid-transition"
	// StaleEpoch: a write of a node that no longer owns the shard.
	StaleEpoch Code = "stale-epoch"
	// DeadlineExceeded: a call inside the cluster that did not answer in time.
	DeadlineExceeded Code = "deadline-exceeded"
	// Overloaded: a bounded queue is full; the caller should come again later.
	Overloaded Code = "overloaded"
	// Conflict: the row was changed by somebody else meanwhile.
	Conflict Code = "conflict"
)

const problemBase = "https://api.backend.ai/probs/"

// problem is one row of the catalogue.
type problem struct {
	status int
	slug   string // last part of the problem URI; empty = the code itself
	title  string
	parent Code // the kind this is one of
	exit   int  // exit code of a command that ends with it; 0 = 1
}

const notFoundTitlePrefix = "No such "

func notFound(object string) problem {
	return problem{status: http.StatusNotFound, slug: "object-not-found", title: notFoundTitlePrefix + object + ".", parent: ObjectNotFound}
}

const internalTitle = "Internal server error."

func internal() problem {
	return problem{status: http.StatusInternalServerError, slug: "internal-server-error", title: internalTitle}
}

// catalogue: spec/rest-core §3.2, misspellings included because clients may show or match them.
var catalogue = map[Code]problem{
	URLNotFound:              {status: 404, title: "Unknown URL path."},
	ObjectNotFound:           {status: 404, title: "No such object."},
	GenericBadRequest:        {status: 400, title: "Bad request."},
	RejectedByHook:           {status: 400, title: "Operation rejected by a hook plugin."},
	InvalidCredentials:       {status: 400, title: "Invalid credentials for authentication."},
	GenericForbidden:         {status: 403, title: "Forbidden operation."},
	InsufficientPrivilege:    {status: 403, title: "Insufficient privilege."},
	MethodNotAllowed:         {status: 405, title: "HTTP Method Not Allowed."},
	InternalServerError:      {status: 500, title: internalTitle},
	ServerMisconfigured:      {status: 500, title: "Service misconfigured."},
	ServiceUnavailable:       {status: 503, title: "Serivce unavailable."},
	QueryNotImplemented:      {status: 503, title: "This API query is not implemented."},
	InvalidAuthParameters:    {status: 400, title: "Missing or invalid authorization parameters."},
	AuthorizationFailed:      {status: 401, title: "Credential/signature mismatch."},
	InvalidAPIParameters:     {status: 400, title: "Missing or invalid API parameters."},
	GraphQLError:             {status: 400, title: "GraphQL-generated error."},
	TooManySessionsMatched:   {status: 404, title: "Too many sessions matched."},
	TooManyKernelsFound:      {status: 404, title: "There are two or more matching kernels."},
	SessionAlreadyExists:     {status: 400, title: "The session already exists but you requested not to reuse existing one."},
	VFolderCreationFailed:    {status: 400, title: "Virtual folder creation has failed."},
	TooManyVFoldersFound:     {status: 404, title: "There are two or more matching vfolders."},
	VFolderAlreadyExists:     {status: 400, title: "The virtual folder already exists with the same name."},
	VFolderOperationFailed:   {status: 400, title: "Virtual folder operation has failed."},
	DotfileCreationFailed:    {status: 400, slug: "generic-bad-request", title: "Dotfile creation has failed."},
	DotfileAlreadyExists:     {status: 400, slug: "generic-bad-request", title: "Dotfile already exists."},
	QuotaExceeded:            {status: 412, title: "You have reached your resource limit."},
	RateLimitExceeded:        {status: 429, title: "You have reached your API query rate limit."},
	InstanceNotAvailable:     {status: 503, title: "There is no available instance."},
	ServerFrozen:             {status: 503, title: "The server is frozen due to maintenance. Please try again later."},
	StorageProxyError:        {status: 502, title: "The storage proxy returned an error."}, // status normally overridden by the raiser
	KernelCreationFailed:     {status: 500, title: "Kernel creation has failed."},
	KernelDestructionFailed:  {status: 500, title: "Kernel destruction has failed."},
	KernelRestartFailed:      {status: 500, title: "Kernel restart has failed."},
	KernelExecutionFailed:    {status: 500, title: "Executing user code in the kernel has failed."},
	PluginError:              {status: 400, title: "Plugin generated error"},
	PluginConfigurationError: {status: 400, title: "Plugin configuration error"},
	GeneralError:             {status: 400, title: "General Backend API Error."}, // the original emits status −1 here

	InstanceNotFound:       notFound("agent instance"),
	ImageNotFound:          notFound("environment image"),
	DomainNotFound:         notFound("domain"),
	GroupNotFound:          notFound("user group (or project)"),
	ScalingGroupNotFound:   notFound("scaling group"),
	SessionNotFound:        notFound("session"),
	TaskTemplateNotFound:   notFound("task template"),
	AppNotFound:            notFound("app service"),
	VFolderNotFound:        notFound("virtual folder"),
	DotfileNotFound:        notFound("dotfile"),
	UnknownImageReference:  notFound("image reference"),
	BackgroundTaskNotFound: notFound("background task"),

	// Alone, an agent failure is the base kind with its details; usually AgentError gives it the operation's code instead.
	AgentTimeout:      {status: 500, slug: "general-error", title: "General Backend API Error.", parent: GeneralError},
	AgentInvalidInput: {status: 500, slug: "general-error", title: "General Backend API Error.", parent: GeneralError},
	AgentFailure:      {status: 500, slug: "general-error", title: "General Backend API Error.", parent: GeneralError},

	InvalidArgument:   {status: 400, slug: "invalid-api-params", title: "Missing or invalid API parameters.", parent: InvalidAPIParameters},
	InvalidConfig:     internal(),
	InvalidUsage:      {status: 500, slug: "internal-server-error", title: internalTitle, exit: 2},
	Aborted:           internal(),
	InvalidTransition: internal(),
	StaleEpoch:        internal(),
	DeadlineExceeded:  internal(),
	Overloaded:        {status: 503, slug: "service-unavailable", title: "Serivce unavailable.", parent: ServiceUnavailable},
	Conflict:          internal(),
}

// Error makes a Code usable as the target of errors.Is.
func (c Code) Error() string { return string(c) }

func (c Code) row() problem {
	if p, ok := catalogue[c]; ok {
		return p
	}
	return internal()
}

// HTTPStatus is the status a client gets; 500 for codes without a row.
func (c Code) HTTPStatus() int { return c.row().status }

// Title is the exact "title" member of the body.
func (c Code) Title() string { return c.row().title }

// Type is the exact problem URI, the "type" member of the body; clients branch on it.
func (c Code) Type() string {
	if p, ok := catalogue[c]; ok && p.slug == "" {
		return problemBase + string(c)
	}
	return problemBase + c.row().slug
}

// Is tells whether c is of the given kind: itself, or a kind it belongs to (SessionNotFound is an ObjectNotFound).
func (c Code) Is(target error) bool {
	t, ok := target.(Code)
	return ok && (t == c || (t != "" && t == c.row().parent))
}
