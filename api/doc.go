// Package api is the HTTP front end: it decides who asks, whether they may, and what they asked for; then a handler of a resource asks an
// actor or reads the database, and answers. Handlers decide nothing.
//
//	request ──▶ admission ──▶ method override ──▶ route ──▶ version ──▶ CORS preflight
//	             │ 503            │                 │ 404/405   │ 400
//	             ▼                ▼                 ▼           ▼
//	         ──▶ signature ──▶ rate limit ──▶ guards ──▶ handler ──▶ answer
//	             400/401         429          401/503       │
//	                                                        └ error or panic ──▶ problem document
//
// # Words
//
//   - resource: a package under api/rest (and graphql, stream, inspect) that registers the routes of one path prefix with a Router
//   - route: method, path and handler, with guards in the order in which they refuse
//   - guard: what must hold before the handler runs: a signature, a role, the manager's status
//   - request: what a handler gets; its strings are copies, because those of Fiber point into a buffer that the next request overwrites
//   - credential: who signed; nil for routes that need no signature, whatever headers were sent
//   - scope: on whose behalf (owner delegation)
//
// # A resource
//
//	func (a *Auth) Register(r *api.Router) {
//		r.GET("/role", a.role, api.Auth)
//		r.POST("/authorize", a.authorize)
//	}
//
//	func (a *Auth) role(r *api.Request) error {
//		p, err := api.Params(r, (*roleParams).bind)
//		if err != nil {
//			return err
//		}
//		return r.JSON(…)
//	}
//
// # Why the router is our own
//
// The rules of the API are exact: percent-encoded paths, one 405 with every allowed method, no HEAD for a GET, no trailing slash,
// preflights per route, and a method that a header may override before routing (spec/rest-core §1.3–1.7). Fiber serves the connection and
// hands every request to one handler here.
package api
