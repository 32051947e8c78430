package api

import backendai "backend.ai/manager"

var errUnauthorized = backendai.Errorf(backendai.AuthorizationFailed, "Unauthorized access")

// Auth asks for a signed request. Errors: 401, as for all roles (spec/rest-core §2.8).
func Auth(r *Route) {
	r.signed = true
	r.guards = append(r.guards, func(r *Request) error {
		if r.who == nil {
			return errUnauthorized
		}
		return nil
	})
}

// Admin asks for a keypair flagged admin; a superadmin whose keypair is not fails.
func Admin(r *Route) {
	r.signed = true
	r.guards = append(r.guards, func(r *Request) error {
		if r.who == nil || !r.who.IsAdmin() {
			return errUnauthorized
		}
		return nil
	})
}

// Superadmin asks for a user whose role is superadmin.
func Superadmin(r *Route) {
	r.signed = true
	r.guards = append(r.guards, func(r *Request) error {
		if r.who == nil || !r.who.IsSuperadmin() {
			return errUnauthorized
		}
		return nil
	})
}

// Status is whether the cluster's manager takes requests: what etcd holds under manager/status (spec/rest-core §6).
type Status string

const (
	Running Status = "running"
	Frozen  Status = "frozen"
)

// ReadAllowed asks for a manager that is running or frozen. Errors: 503 service-unavailable.
func ReadAllowed(r *Route) { r.guards = append(r.guards, statusGuard(Running, Frozen)) }

// AllAllowed asks for a manager that is running. Errors: 503 server-frozen when it is frozen, else service-unavailable.
func AllAllowed(r *Route) { r.guards = append(r.guards, statusGuard(Running)) }

func statusGuard(allowed ...Status) func(*Request) error {
	return func(r *Request) error { return CheckStatus(r.server.deps.Status(), allowed...) }
}

// CheckStatus is the rule of the status gates, for what is no route (GraphQL mutations).
func CheckStatus(now Status, allowed ...Status) error {
	names := ""
	for i, s := range allowed {
		if s == now {
			return nil
		}
		if i > 0 {
			names += " or "
		}
		names += string(s)
	}
	if now == Frozen {
		return backendai.NewError(backendai.ServerFrozen)
	}
	return backendai.Errorf(backendai.ServiceUnavailable, "The manager must be %s.", names)
}

// Waits marks a route whose handler may wait for long for something else (a session that starts). Such requests are admitted apart, so
// that they never keep quick ones out.
func Waits(r *Route) { r.waits = true }
