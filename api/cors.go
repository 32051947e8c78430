package api

import (
	"bytes"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	backendai "backend.ai/manager"
)

// Any origin may call any route, without credentials (spec/rest-core §1.7).

// preflight answers OPTIONS on a path that has routes. Errors: GenericBadRequest without an origin or without a route for the method.
func (r *Request) preflight() error {
	origin, method := r.Header(fiber.HeaderOrigin), r.Header(fiber.HeaderAccessControlRequestMethod)
	if origin == "" || !slices.Contains(r.methods, method) {
		return backendai.NewError(backendai.GenericBadRequest)
	}
	r.SetHeader(fiber.HeaderAccessControlAllowOrigin, origin)
	r.SetHeader(fiber.HeaderAccessControlAllowMethods, method)
	if asked := r.Header(fiber.HeaderAccessControlRequestHeaders); asked != "" {
		names := strings.Split(strings.ToUpper(asked), ",")
		for i := range names {
			names[i] = strings.TrimSpace(names[i])
		}
		r.SetHeader(fiber.HeaderAccessControlAllowHeaders, strings.Join(names, ","))
	}
	return r.Send(fiber.StatusOK, "application/octet-stream", nil)
}

// simpleHeaders may be read by pages without being exposed.
var simpleHeaders = []string{"cache-control", "content-language", "content-type", "expires", "last-modified", "pragma"}

// allowOrigin lets the page that asked read an answer, error or not, with all its headers.
func (r *Request) allowOrigin() {
	origin := r.ctx.Request().Header.Peek(fiber.HeaderOrigin)
	if len(origin) == 0 {
		return
	}
	h := &r.ctx.Response().Header
	names := []string{"Server", "Date", "Content-Length"} // fasthttp adds these itself
	h.VisitAll(func(name, _ []byte) {
		if slices.Contains(simpleHeaders, string(bytes.ToLower(name))) || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, string(name)) }) {
			return
		}
		names = append(names, string(name))
	})
	h.Set(fiber.HeaderAccessControlExposeHeaders, strings.Join(names, ","))
	h.SetBytesV(fiber.HeaderAccessControlAllowOrigin, origin)
}
