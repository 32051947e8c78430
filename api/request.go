package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/accounts"
)

// Request is what a handler gets. It is valid until the handler returns; texts that its methods give are copies and may be kept.
type Request struct {
	Method  string // after an override
	Path    string // as sent, percent-encoded
	Query   string // as sent
	Version Version

	ctx     *fiber.Ctx
	server  *Server
	target  string
	route   *Route
	methods []string // of all routes of the path; for preflights
	values  []string
	who     *accounts.Credential
	body    body
	began   time.Time
	limit   rate
}

// Who signed the request; nil on routes that need no signature.
func (r *Request) Who() *accounts.Credential { return r.who }

// Param is the percent-decoded value of a path variable.
func (r *Request) Param(name string) string {
	for i, n := range r.route.names {
		if n == name {
			return r.values[i]
		}
	}
	return ""
}

// Header of the request; "" when it is missing.
func (r *Request) Header(name string) string {
	return string(r.ctx.Request().Header.Peek(name))
}

// Context ends when the server gives up on its running requests. Fiber does not tell when a client goes away.
func (r *Request) Context() context.Context { return r.server.running }

// Fiber is the context of the connection, for upgrades, streams and what has no method here. Texts it gives must be copied before they are
// kept or sent to an actor.
func (r *Request) Fiber() *fiber.Ctx { return r.ctx }

// Params reads and binds the parameters of a request: of its body, or of the query string if it has none (spec/rest-core §4).
//
// Errors: InvalidAPIParameters with what is wrong with each; GenericBadRequest for a body that is too large.
func Params[T any](r *Request, fill func(*T, *params.Binder)) (T, error) {
	values, err := r.Values()
	if err != nil {
		var none T
		return none, err
	}
	return params.Bind(values, fill)
}

// Values are the parameters as they came.
func (r *Request) Values() (params.Values, error) {
	body, err := r.Body()
	if err != nil {
		return nil, err
	}
	return params.Read(r.Header(fiber.HeaderContentType), body, r.Query)
}

// JSON answers with 200.
func (r *Request) JSON(v any) error { return r.JSONStatus(fiber.StatusOK, v) }

// JSONStatus answers with another status.
func (r *Request) JSONStatus(status int, v any) error {
	text, err := backendai.EncodeJSON(v)
	if err != nil {
		return err
	}
	return r.Send(status, "application/json; charset=utf-8", text)
}

// Send answers with any body.
func (r *Request) Send(status int, contentType string, body []byte) error {
	res := r.ctx.Response()
	res.SetStatusCode(status)
	res.Header.SetContentType(contentType)
	res.SetBodyRaw(body)
	return nil
}

// SetHeader of the answer, with the name's case as it is.
func (r *Request) SetHeader(name, value string) { r.ctx.Response().Header.Set(name, value) }

// peek gives a header without copying it: only good until the handler returns, and only to be compared or signed.
func (r *Request) peek(name string) string {
	return bytesText(r.ctx.Request().Header.Peek(name))
}

// problem answers with an error.
func (r *Request) problem(err error) {
	res := r.ctx.Response()
	res.Reset()
	res.Header.DisableNormalizing()
	e := r.server.explain(r, err)
	body, encodeErr := e.Problem()
	if encodeErr != nil {
		e = backendai.Internal(errors.Join(err, encodeErr))
		body, _ = e.Problem() // two constant texts
	}
	if allowed, ok := e.Data.([]string); ok && e.Code == backendai.MethodNotAllowed {
		res.Header.Set(fiber.HeaderAllow, strings.Join(allowed, ", "))
	}
	if comeAgain(e) {
		res.Header.Set(fiber.HeaderRetryAfter, "1")
	}
	res.SetStatusCode(e.HTTPStatus())
	res.Header.SetContentType(backendai.ProblemContentType)
	res.SetBodyRaw(body)
}
