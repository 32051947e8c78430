package api

import (
	"context"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
)

// Owners looks up on whose behalf a request may act; *accounts.Accounts is one.
type Owners interface {
	Owner(context.Context, backendai.AccessKey) (*accounts.Owner, error)
	UserByEmail(context.Context, string) (*accounts.User, error)
}

// OwnerScope tells which keypair a request acts for: its own, or that of owner when one is given (spec/rest-core §2.8, rest-session §1.5).
//
// Errors: InvalidAPIParameters "Unknown owner access key"; GenericForbidden when the requester may not act for the owner.
func OwnerScope(ctx context.Context, owners Owners, who *accounts.Credential, owner *backendai.AccessKey) (accounts.Owner, error) {
	if who == nil {
		return accounts.Owner{}, backendai.Errorf(backendai.GenericForbidden, "Only authorized requests may have access key scopes.")
	}
	self := accounts.Owner{AccessKey: who.Keypair.AccessKey, User: who.User.ID, Email: who.User.Email, Domain: who.User.Domain, Role: who.User.Role}
	if owner == nil || *owner == self.AccessKey {
		return self, nil
	}
	found, err := owners.Owner(ctx, *owner)
	if err != nil {
		return accounts.Owner{}, err
	}
	if found == nil {
		return accounts.Owner{}, backendai.Errorf(backendai.InvalidAPIParameters, "Unknown owner access key")
	}
	return *found, MayActFor(who, *found)
}

// MayActFor is the rule of delegation.
func MayActFor(who *accounts.Credential, owner accounts.Owner) error {
	switch {
	case who.IsSuperadmin():
		return nil
	case !who.IsAdmin():
		return backendai.Errorf(backendai.GenericForbidden, "Only admins can perform operations on behalf of other users.")
	case owner.Domain != who.User.Domain:
		return backendai.Errorf(backendai.GenericForbidden, "Domain-admins can perform operations on behalf of other users in the same domain only.")
	case owner.Role == backendai.RoleSuperadmin:
		return backendai.Errorf(backendai.GenericForbidden, "Domain-admins cannot perform operations on behalf of super-admins.")
	}
	return nil
}

// UserScope tells which user a request acts for: its own, or the one of that e-mail, for superadmins (folders; spec/rest-core §2.8).
//
// Errors: InvalidAPIParameters for others than superadmins and for an unknown e-mail; GenericForbidden without a signature.
func UserScope(ctx context.Context, owners Owners, who *accounts.Credential, email *string) (uuid.UUID, backendai.UserRole, error) {
	switch {
	case who == nil:
		return uuid.Nil, "", backendai.Errorf(backendai.GenericForbidden, "Only authorized requests may have user scopes.")
	case email == nil:
		return who.User.ID, who.User.Role, nil
	case !who.IsSuperadmin():
		return uuid.Nil, "", backendai.Errorf(backendai.InvalidAPIParameters, "Only superadmins may have user scopes.")
	}
	u, err := owners.UserByEmail(ctx, *email)
	if err != nil {
		return uuid.Nil, "", err
	}
	if u == nil {
		return uuid.Nil, "", backendai.Errorf(backendai.InvalidAPIParameters, "Cannot delegate an unknown user")
	}
	return u.ID, u.Role, nil
}
