package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"unsafe"

	"github.com/gofiber/fiber/v2"

	backendai "backend.ai/manager"
)

// entry takes every request through the chain that doc.go draws, and always answers.
func (s *Server) entry(c *fiber.Ctx) error {
	r := &Request{ctx: c, server: s, began: s.now()}
	r.body.stream = c.Context().RequestBodyStream()
	c.Response().Header.DisableNormalizing()
	err := s.run(r)
	switch {
	case err != nil:
		r.problem(err)
	case !streams(c):
		r.limit.write(&c.Response().Header)
	}
	if r.route != nil {
		r.allowOrigin()
	}
	r.body.finish(c)
	if s.deps.Observe != nil {
		s.deps.Observe(r.observation())
	}
	return nil
}

// streams tells whether the answer goes on after the handler: these carry no rate limit (spec/rest-core §5).
func streams(c *fiber.Ctx) bool { return c.Response().IsBodyStream() || c.Context().Hijacked() }

// run is the chain. A panic is the error of this request only.
func (s *Server) run(r *Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = backendai.Internal(&panicked{p, debug.Stack()})
		}
	}()
	if err := s.find(r); err != nil {
		return err
	}
	release, err := s.admission.enter(r.route)
	if err != nil {
		return err
	}
	defer release()
	version := r.peek("X-BackendAI-Version")
	if version == "" {
		version = r.peek("X-Sorna-Version")
	}
	if r.Version, err = negotiate(version); err != nil {
		return err
	}
	if r.route == nil { // OPTIONS
		r.limit = rate{DefaultRateLimit, DefaultRateLimit}
		return r.preflight()
	}
	if r.route.signed {
		if err := s.authenticate(r); err != nil {
			return err
		}
	}
	if err := s.checkRate(r); err != nil {
		return err
	}
	for _, guard := range r.route.guards {
		if err := guard(r); err != nil {
			return err
		}
	}
	return r.route.handler(r)
}

// find applies a method override and looks for the route (spec/rest-core §1.3, §1.6; the override comes first here, so that everything
// behind it applies to overridden requests as well).
func (s *Server) find(r *Request) error {
	header := &r.ctx.Request().Header
	r.Method = string(header.Method())
	if override := header.Peek("X-Method-Override"); len(override) > 0 {
		r.Method = string(override)
	}
	r.target = string(header.RequestURI())
	r.Path, r.Query = splitTarget(r.target)
	m := s.routes.find(r.Method, normalPath(r.Path), r.Method == fiber.MethodOptions)
	r.route, r.values, r.methods = m.route, m.values, m.methods
	switch {
	case r.route != nil:
		return nil
	case len(r.methods) == 0:
		return backendai.NewError(backendai.URLNotFound).WithData(unescapePath(r.Path))
	case r.Method != fiber.MethodOptions:
		return backendai.MethodNotAllowedError(r.Method, r.methods)
	}
	return nil
}

// panicked is a panic of a handler.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// explain is what a client is told of an error, and what the log is. With Debug the inside shows.
func (s *Server) explain(r *Request, err error) *backendai.Error {
	if errors.Is(err, context.Canceled) && s.running.Err() != nil {
		return backendai.Errorf(backendai.ServiceUnavailable, "The manager is stopping.").WithCause(err)
	}
	if backendai.CodeOf(err) == backendai.DeadlineExceeded {
		// Requests themselves have no limit: a store, or an actor that waits for one, was given a time and has not answered in it.
		err = backendai.Errorf(backendai.ServiceUnavailable, "Something that the manager needs takes too long to answer; try again.").WithCause(err)
	}
	e := backendai.AsError(err)
	if e.HTTPStatus() < 500 {
		return e
	}
	stack := ""
	var p *panicked
	if errors.As(err, &p) {
		stack = string(p.stack)
	}
	// Refusals of a frozen or overloaded manager are no faults of it.
	if e.HTTPStatus() != fiber.StatusServiceUnavailable {
		slog.Error("a request failed", "method", r.Method, "path", r.Path, "error", err, "stack", stack)
		if s.deps.Failed != nil {
			s.deps.Failed(Failure{Method: r.Method, Path: r.Path, Err: e, Stack: stack})
		}
	}
	if s.config.Debug && e.Code.Type() == backendai.InternalServerError.Type() && e.Message == nil {
		text := err.Error()
		if stack != "" {
			text += "\n" + stack
		}
		return backendai.Errorf(backendai.InternalServerError, "%s", text).WithCause(err)
	}
	return e
}

// comeAgain tells whether the same request may well succeed soon.
func comeAgain(e *backendai.Error) bool {
	return e.Code == backendai.Overloaded || e.Code == backendai.ServiceUnavailable && e.Unwrap() != nil
}

// bytesText shows bytes of the request as a text without copying them: only good until the handler returns.
func bytesText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
