package api

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/accounts"
)

// Hook is an extension that is compiled in. It implements any of the interfaces below. Hooks run one after the other, by name; the first
// error refuses the request with 400 rejected-by-hook and the error's text (spec/rest-core §2.7).
type Hook interface{ Name() string }

type (
	// PreAuthHook may tell who asks by other means than a signature; "" leaves it to the signature. The first that knows decides.
	PreAuthHook interface {
		PreAuth(context.Context, *Request) (backendai.AccessKey, error)
	}
	// AuthorizeHook may check a login by other means than the password; nil leaves it to the password.
	AuthorizeHook interface {
		Authorize(context.Context, *Request, Login) (*accounts.User, error)
	}
	// PostAuthorizeHook is told of logins.
	PostAuthorizeHook interface {
		PostAuthorize(context.Context, *Request, accounts.User, accounts.Pair) error
	}
	// PreSignupHook may change a new account.
	PreSignupHook interface {
		PreSignup(context.Context, *accounts.Signup) error
	}
	// PostSignupHook is told of new accounts. lang is the first of Accept-Language.
	PostSignupHook interface {
		PostSignup(ctx context.Context, email string, user uuid.UUID, lang string) error
	}
	// PasswordHook may refuse a new password.
	PasswordHook interface {
		VerifyPasswordFormat(ctx context.Context, old, new string) error
	}
)

// Login is what a client logs in with.
type Login struct {
	Domain, Username string
	Password         backendai.SecretKey // prints as "<redacted>"
}

// Hooks dispatches events. The zero value has none.
type Hooks struct{ all []Hook }

// NewHooks orders hooks by name.
func NewHooks(hooks ...Hook) Hooks {
	all := slices.Clone(hooks)
	slices.SortFunc(all, func(a, b Hook) int { return cmp.Compare(a.Name(), b.Name()) })
	return Hooks{all}
}

func rejected(h Hook, err error) error {
	return backendai.Errorf(backendai.RejectedByHook, "%s", err.Error()).WithData(map[string]string{"plugins": h.Name()}).WithCause(err)
}

// ask runs an event until a hook refuses or has an answer.
func ask[I any](hooks Hooks, event func(I) (done bool, err error)) error {
	for _, h := range hooks.all {
		if i, ok := h.(I); ok {
			done, err := event(i)
			if err != nil {
				return rejected(h, err)
			}
			if done {
				return nil
			}
		}
	}
	return nil
}

// notify runs an event whose failures only concern the hook.
func notify[I any](hooks Hooks, event func(I) error) {
	for _, h := range hooks.all {
		if i, ok := h.(I); ok {
			if err := event(i); err != nil {
				slog.Warn("a hook failed", "hook", h.Name(), "error", err)
			}
		}
	}
}

// PreAuth asks who signed by other means; "" = nobody knows.
func (h Hooks) PreAuth(ctx context.Context, r *Request) (key backendai.AccessKey, err error) {
	err = ask(h, func(i PreAuthHook) (bool, error) { key, err = i.PreAuth(ctx, r); return key != "", err })
	return key, err
}

// Authorize asks for a login by other means; nil = nobody knows.
func (h Hooks) Authorize(ctx context.Context, r *Request, l Login) (user *accounts.User, err error) {
	err = ask(h, func(i AuthorizeHook) (bool, error) { user, err = i.Authorize(ctx, r, l); return user != nil, err })
	return user, err
}

// PostAuthorize tells of a login.
func (h Hooks) PostAuthorize(ctx context.Context, r *Request, u accounts.User, p accounts.Pair) {
	notify(h, func(i PostAuthorizeHook) error { return i.PostAuthorize(ctx, r, u, p) })
}

// PreSignup lets hooks change a new account.
func (h Hooks) PreSignup(ctx context.Context, s *accounts.Signup) error {
	return ask(h, func(i PreSignupHook) (bool, error) { return false, i.PreSignup(ctx, s) })
}

// PostSignup tells of a new account.
func (h Hooks) PostSignup(ctx context.Context, email string, user uuid.UUID, lang string) {
	notify(h, func(i PostSignupHook) error { return i.PostSignup(ctx, email, user, lang) })
}

// VerifyPasswordFormat lets hooks refuse a new password.
func (h Hooks) VerifyPasswordFormat(ctx context.Context, old, new string) error {
	return ask(h, func(i PasswordHook) (bool, error) { return false, i.VerifyPasswordFormat(ctx, old, new) })
}
