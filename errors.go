package backendai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Error is the one error type of the project: a Code and what there is to say about this occurrence. Message, Data and Agent are shown
// to clients; the cause never is, it is for logs and for errors.Is/As.
//
// Errors are values to hand on: the With… methods return changed copies, so a shared one is never altered.
type Error struct {
	Code Code
	// Message becomes "msg"; nil leaves the member out, the empty string does not (spec/rest-core §3.1).
	Message *string
	// Data becomes "data" unless nil. It must be encodable as JSON.
	Data any
	// Agent becomes "agent-details"; "msg" and "data" are then left out.
	Agent *AgentDetails
	// Object replaces the object name in the title of ObjectNotFound: "No such {Object}.".
	Object string
	// Status replaces the HTTP status of the code, for StorageProxyError; 0 keeps it.
	Status int

	cause error
}

// AgentDetails is the "agent-details" member of an agent failure (spec/rest-core §3.2 notes).
type AgentDetails struct {
	// Type is the URI of the kind: AgentTimeout, AgentInvalidInput, AgentFailure, or another full URI.
	Type string `json:"type"`
	// Title is nil when there is nothing to say.
	Title *string `json:"title"`
	// Exception is the representation of the exception that the agent reported.
	Exception string `json:"exception,omitempty"`
}

// NewError makes an error without a message.
func NewError(code Code) *Error { return &Error{Code: code} }

// Errorf makes an error with a message that clients will see. %w is not special here: use WithCause.
func Errorf(code Code, format string, args ...any) *Error {
	msg := format
	if len(args) > 0 {
		msg = fmt.Sprintf(format, args...)
	}
	return &Error{Code: code, Message: &msg}
}

// NoSuch makes an ObjectNotFound with the given object name: "No such {object}.".
func NoSuch(object string) *Error { return &Error{Code: ObjectNotFound, Object: object} }

// Internal wraps a cause that clients must not see: 500 without a message.
func Internal(cause error) *Error { return &Error{Code: InternalServerError, cause: cause} }

// InvalidParameters makes the 400 that lists, per parameter, what is wrong with it (spec/rest-core §3.1: clients iterate the map).
func InvalidParameters(message string, fields map[string]any) *Error {
	e := &Error{Code: InvalidAPIParameters, Message: &message}
	if fields != nil {
		e.Data = fields
	}
	return e
}

// MethodNotAllowedError makes the 405 with the method as message and the sorted allowed methods as data; the server also sends them
// as the Allow header. (spec/rest-core §3.3; the original answers a plain 500 here, which is a defect)
func MethodNotAllowedError(method string, allowed []string) *Error {
	sorted := slices.Sorted(slices.Values(allowed))
	return &Error{Code: MethodNotAllowed, Message: &method, Data: sorted}
}

// StorageProxy makes the error of a storage-proxy's answer. The status is the proxy's when it is one of an error, else 502.
func StorageProxy(status int, message string) *Error {
	e := Errorf(StorageProxyError, "%s", message)
	if status >= 400 && status <= 599 {
		e.Status = status
	}
	return e
}

// AgentError makes the error of an operation that failed at the agent. operation is the code of the operation's class
// (KernelCreationFailed …), kind AgentTimeout, AgentInvalidInput or AgentFailure; errors.Is holds for both. An empty title is sent as
// null. Use AgentException for an exception that the agent reported.
func AgentError(operation, kind Code, title string) *Error {
	d := &AgentDetails{Type: problemBase + string(kind)}
	if title != "" {
		d.Title = &title
	}
	return &Error{Code: operation, Agent: d, cause: kind}
}

// AgentException makes the error of an exception inside the agent; repr is the text the agent sent.
func AgentException(operation Code, repr string) *Error {
	e := AgentError(operation, AgentFailure, "Agent-side exception occurred.")
	e.Agent.Exception = repr
	return e
}

// WithMessage returns a copy with another message.
func (e *Error) WithMessage(format string, args ...any) *Error {
	c := *e
	c.Message = Errorf(e.Code, format, args...).Message
	return &c
}

// WithData returns a copy with extra data.
func (e *Error) WithData(data any) *Error { c := *e; c.Data = data; return &c }

// WithCause returns a copy that wraps cause.
func (e *Error) WithCause(cause error) *Error { c := *e; c.cause = cause; return &c }

// HTTPStatus is the status a client gets.
func (e *Error) HTTPStatus() int {
	if e.Status != 0 {
		return e.Status
	}
	if e.Agent != nil && e.Code == GeneralError {
		return http.StatusInternalServerError
	}
	return e.Code.HTTPStatus()
}

// Title is the "title" member.
func (e *Error) Title() string {
	if e.Object != "" && e.Code == ObjectNotFound {
		return notFoundTitlePrefix + e.Object + "."
	}
	return e.Code.Title()
}

// Text is the form clients see inside GraphQL messages: "title" or "title (msg)", then the extra data if there is any.
// (spec/rest-core §3.1)
func (e *Error) Text() string {
	var b strings.Builder
	b.WriteString(e.Title())
	if e.Message != nil {
		fmt.Fprintf(&b, " (%s)", *e.Message)
	}
	if truthy(e.Data) {
		b.WriteString("\n -> extra_data: ")
		b.WriteString(Repr(e.Data))
	}
	return b.String()
}

// Error is the form for logs: code, message, cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	switch {
	case e.Message != nil && *e.Message != "":
		b.WriteString(": " + *e.Message)
	case e.Object != "":
		b.WriteString(": " + e.Object)
	case e.Agent != nil && e.Agent.Exception != "":
		b.WriteString(": " + e.Agent.Exception)
	}
	if e.cause != nil {
		b.WriteString(": " + e.cause.Error())
	}
	return b.String()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.cause }

// Is holds for the error's code and the kinds it belongs to.
func (e *Error) Is(target error) bool { return e.Code.Is(target) }

// CodeOf is the code of the outermost *Error or Code in err's chain. A bare context deadline is DeadlineExceeded, any other foreign
// error InternalServerError, nil the empty code.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return DeadlineExceeded
	}
	return InternalServerError
}

// AsError turns any error into the one a client gets: the outermost *Error of the chain, or an internal error that wraps it. Nil
// stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeOf(err), cause: err}
}

// ExitCode is what a command that ends with err exits with: 0, 2 for wrong usage, else 1 (spec/config-cli-ops §4.1).
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if x := CodeOf(err).row().exit; x != 0 {
		return x
	}
	return 1
}

// ProblemContentType is the content type of an error body.
const ProblemContentType = "application/problem+json; charset=utf-8"

// Problem renders the body of an error answer: "type" and "title", then "msg" and "data" where given, or "agent-details". Codes without
// a row in the catalogue show neither message nor data: they are about the inside. (spec/rest-core §3.1)
func (e *Error) Problem() ([]byte, error) {
	type body struct {
		Type  string        `json:"type"`
		Title string        `json:"title"`
		Msg   *string       `json:"msg,omitempty"`
		Data  any           `json:"data,omitempty"`
		Agent *AgentDetails `json:"agent-details,omitempty"`
	}
	b := body{Type: e.Code.Type(), Title: e.Title(), Agent: e.Agent}
	if e.Agent == nil && !e.Code.hidden() {
		b.Msg, b.Data = e.Message, e.Data
	}
	return EncodeJSON(b)
}

// hidden tells whether messages of this code are for operators only.
func (c Code) hidden() bool {
	p, ok := catalogue[c]
	return !ok || (c != InternalServerError && p.slug == "internal-server-error")
}
