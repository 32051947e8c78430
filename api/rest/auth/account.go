package auth

import (
	"context"
	"errors"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/credential"
)

// check compares a password with a stored hash, in its turn.
func (a *Auth) check(ctx context.Context, hash *string, password string) (bool, error) {
	if hash == nil || strings.ContainsRune(password, 0) {
		return false, nil
	}
	done, err := a.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	return credential.CheckPassword(hash, password), nil
}

func (a *Auth) hash(ctx context.Context, password string) (string, error) {
	if strings.ContainsRune(password, 0) {
		return "", backendai.Errorf(backendai.InvalidAPIParameters, "A password can't have NUL characters.")
	}
	done, err := a.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	h, err := credential.HashPassword(password)
	if err != nil {
		return "", backendai.Internal(err)
	}
	return h, nil
}

// login checks e-mail and password; nil if they do not fit (spec/rest-core §7.1.1).
func (a *Auth) login(ctx context.Context, domain, email, password string) (*accounts.Login, error) {
	l, err := a.accounts.Login(ctx, domain, email)
	if err != nil || l == nil {
		return nil, err
	}
	right, err := a.check(ctx, l.Hash, password)
	if err != nil || !right {
		return nil, err
	}
	return l, nil
}

type authorizeParams struct{ Type, Domain, Username, Password string }

func (p *authorizeParams) bind(b *params.Binder) {
	params.Need(b, &p.Type, params.Enum("keypair", "jwt"), "type")
	params.Need(b, &p.Domain, params.Str, "domain")
	params.Need(b, &p.Username, params.Str, "username")
	params.Need(b, &p.Password, params.Str, "password")
}

var errMismatch = backendai.Errorf(backendai.AuthorizationFailed, "User credential mismatch.")

func (a *Auth) authorize(r *api.Request) error {
	p, err := api.Params(r, (*authorizeParams).bind)
	if err != nil {
		return err
	}
	if p.Type != "keypair" {
		return backendai.Errorf(backendai.InvalidAPIParameters, "Unsupported authorization type")
	}
	ctx := r.Context()
	user, err := a.hooks.Authorize(ctx, r, api.Login{Domain: p.Domain, Username: p.Username, Password: backendai.SecretKey(p.Password)})
	if err != nil {
		return err
	}
	if user == nil {
		l, err := a.login(ctx, p.Domain, p.Username, p.Password)
		if err != nil {
			return err
		}
		if l == nil {
			return errMismatch
		}
		user = &l.User
	}
	switch user.Status {
	case backendai.UserBeforeVerification:
		return backendai.Errorf(backendai.AuthorizationFailed, "This account needs email verification.")
	case backendai.UserInactive, backendai.UserDeleted:
		return errMismatch
	}
	pair, err := a.accounts.LoginKeypair(ctx, user.ID)
	if err != nil {
		return err
	}
	if pair == nil {
		return backendai.Errorf(backendai.AuthorizationFailed, "No API keypairs found.")
	}
	a.hooks.PostAuthorize(ctx, r, *user, *pair)
	type data struct {
		Access backendai.AccessKey  `json:"access_key"`
		Secret string               `json:"secret_key"`
		Role   backendai.UserRole   `json:"role"`
		Status backendai.UserStatus `json:"status"`
	}
	return r.JSON(struct {
		Data data `json:"data"`
	}{data{pair.Access, pair.Secret.Reveal(), user.Role, user.Status}})
}

type signupParams struct {
	Domain, Email, Password         string
	Username, FullName, Description string
}

func (p *signupParams) bind(b *params.Binder) {
	b.AllowExtra()
	params.Need(b, &p.Domain, params.Str, "domain")
	params.Need(b, &p.Email, params.Str, "email")
	params.Need(b, &p.Password, params.Str, "password")
	params.Opt(b, &p.Username, "", params.Else("", params.StrOrBlank), "username")
	params.Opt(b, &p.FullName, "", params.Else("", params.StrOrBlank), "full_name")
	params.Opt(b, &p.Description, "", params.Else("", params.StrOrBlank), "description")
	if p.Username == "" {
		p.Username = p.Email
	}
}

func (a *Auth) signup(r *api.Request) error {
	p, err := api.Params(r, (*signupParams).bind)
	if err != nil {
		return err
	}
	ctx := r.Context()
	s := accounts.Signup{
		Domain: p.Domain, Email: p.Email, Username: p.Username, FullName: p.FullName, Description: p.Description,
		Status: backendai.UserActive, StatusInfo: "user-signup", Role: backendai.RoleUser,
		ResourcePolicy: "default", Group: "default", RateLimit: api.DefaultRateLimit,
	}
	if err := a.hooks.PreSignup(ctx, &s); err != nil {
		return err
	}
	// The hash is dear: what is refused anyway is refused before.
	if taken, err := a.accounts.UserByEmail(ctx, s.Email); err != nil {
		return err
	} else if taken != nil {
		return backendai.Errorf(backendai.GenericBadRequest, "Email already exists")
	}
	if s.Hash, err = a.hash(ctx, p.Password); err != nil {
		return err
	}
	user, pair, err := a.accounts.Signup(ctx, s)
	if err != nil {
		return err
	}
	a.hooks.PostSignup(ctx, s.Email, user, language(r.Header("Accept-Language")))
	return r.JSONStatus(201, struct {
		Access backendai.AccessKey `json:"access_key"`
		Secret string              `json:"secret_key"`
	}{pair.Access, pair.Secret.Reveal()})
}

// language is the first one that a client accepts.
func language(accepted string) string {
	first, _, _ := strings.Cut(accepted, ",")
	if first == "" {
		return "en-us"
	}
	return strings.ToLower(first)
}

type signoutParams struct{ Email, Password string }

func (p *signoutParams) bind(b *params.Binder) {
	params.Need(b, &p.Email, params.Str, "email", "username")
	params.Need(b, &p.Password, params.Str, "password")
}

func (a *Auth) signout(r *api.Request) error {
	p, err := api.Params(r, (*signoutParams).bind)
	if err != nil {
		return err
	}
	who := r.Who()
	if p.Email != who.User.Email {
		return backendai.Errorf(backendai.GenericForbidden, "Not the account owner")
	}
	l, err := a.login(r.Context(), who.User.Domain, who.User.Email, p.Password)
	if err != nil {
		return err
	}
	if l == nil {
		return backendai.Errorf(backendai.GenericBadRequest, "Invalid email and/or password")
	}
	if err := a.accounts.Deactivate(r.Context(), who.User.Email); err != nil {
		return err
	}
	return r.JSON(empty{})
}

type passwordParams struct{ Old, New, New2 string }

func (p *passwordParams) bind(b *params.Binder) {
	params.Need(b, &p.Old, params.Str, "old_password")
	params.Need(b, &p.New, params.Str, "new_password")
	params.Need(b, &p.New2, params.Str, "new_password2")
}

var errOldPassword = backendai.Errorf(backendai.AuthorizationFailed, "Old password mismatch")

func (a *Auth) updatePassword(r *api.Request) error {
	p, err := api.Params(r, (*passwordParams).bind)
	if err != nil {
		return err
	}
	ctx, who := r.Context(), r.Who()
	l, err := a.login(ctx, who.User.Domain, who.User.Email, p.Old)
	if err != nil {
		return err
	}
	if l == nil {
		return errOldPassword
	}
	if p.New != p.New2 {
		return mishap(r, "new password mismitch") // as clients know it
	}
	if err := a.hooks.VerifyPasswordFormat(ctx, p.Old, p.New); err != nil {
		return err
	}
	hash, err := a.hash(ctx, p.New)
	if err != nil {
		return err
	}
	if err := a.accounts.SetPassword(ctx, l.User.ID, l.Hash, hash); errors.Is(err, accounts.ErrChanged) {
		return errOldPassword // somebody else was quicker
	} else if err != nil {
		return err
	}
	return r.JSON(empty{})
}
