package graphql

import (
	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
)

var (
	errForbidden    = backendai.NewError(backendai.GenericForbidden)
	errSuperOnly    = backendai.Errorf(backendai.GenericForbidden, "superadmin privilege required")
	errInsufficient = backendai.NewError(backendai.InsufficientPrivilege)
	errUnknownRole  = backendai.Errorf(backendai.InvalidAPIParameters, "Unknown client role")
)

// superadmin refuses everybody else.
func superadmin(who *accounts.Credential) error {
	if !who.IsSuperadmin() {
		return errSuperOnly
	}
	return nil
}

// scope is the rule of spec/graphql §3.1: whose rows of which domain a role sees. X is what the rows are of: an access key, a user. Nil
// results mean no restriction. autofill makes the own one the default.
//
// Errors: Forbidden for what is another's, UnknownRole for monitors.
func scope[X comparable](who *accounts.Credential, domain *string, own X, given *X, autofill bool) (*string, *X, error) {
	if who.User.Role != backendai.RoleSuperadmin {
		if domain != nil && *domain != who.User.Domain {
			return nil, nil, errForbiddenOr(who)
		}
		domain = &who.User.Domain
	}
	switch who.User.Role {
	case backendai.RoleSuperadmin, backendai.RoleAdmin:
		if given == nil && autofill {
			given = &own
		}
		return domain, given, nil
	case backendai.RoleUser:
		if given != nil && *given != own {
			return nil, nil, errForbidden
		}
		return domain, &own, nil
	}
	return nil, nil, errUnknownRole
}

func errForbiddenOr(who *accounts.Credential) error {
	if who.User.Role == backendai.RoleMonitor {
		return errUnknownRole
	}
	return errForbidden
}
