package auth

import (
	"context"
	"runtime"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/api/params"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/credential"
)

// Auth is the resource. Mount it at "/auth".
type Auth struct {
	accounts *accounts.Accounts
	hooks    api.Hooks
	turns    chan struct{}
}

// turnLimit is how long a password waits to be checked.
const turnLimit = 10 * time.Second

// New makes the resource.
func New(a *accounts.Accounts, hooks api.Hooks) *Auth {
	return &Auth{accounts: a, hooks: hooks, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// Register adds its routes.
func (a *Auth) Register(r *api.Router) {
	for _, path := range []string{"", "/test"} {
		r.GET(path, test, api.Auth)
		r.POST(path, test, api.Auth)
	}
	r.POST("/authorize", a.authorize)
	r.GET("/role", a.role, api.Auth)
	r.POST("/signup", a.signup)
	r.POST("/signout", a.signout, api.Auth)
	r.POST("/update-password", a.updatePassword, api.Auth)
	r.POST("/update-full-name", a.updateFullName, api.Auth)
	r.GET("/ssh-keypair", a.sshKeypair, api.Auth)
	r.PATCH("/ssh-keypair", a.newSSHKeypair, api.Auth)
}

type empty struct{}

type testParams struct{ Echo string }

func (p *testParams) bind(b *params.Binder) { params.Need(b, &p.Echo, params.Str, "echo") }

func test(r *api.Request) error {
	p, err := api.Params(r, (*testParams).bind)
	if err != nil {
		return err
	}
	return r.JSON(struct {
		Authorized string `json:"authorized"`
		Echo       string `json:"echo"`
	}{"yes", p.Echo})
}

type roleParams struct{ Group *uuid.UUID }

func (p *roleParams) bind(b *params.Binder) { params.Maybe(b, &p.Group, params.UUID, "group") }

// notMember has a title of its own: "No such project (user group)."
var notMember = backendai.NoSuch("project (user group)").WithMessage("No such project or you are not the member of it.")

func (a *Auth) role(r *api.Request) error {
	p, err := api.Params(r, (*roleParams).bind)
	if err != nil {
		return err
	}
	who := r.Who()
	answer := struct {
		Global string  `json:"global_role"`
		Domain string  `json:"domain_role"`
		Group  *string `json:"group_role"`
	}{Global: "user", Domain: "user"}
	if who.IsSuperadmin() {
		answer.Global = "superadmin"
	}
	if who.IsAdmin() {
		answer.Domain = "admin"
	}
	if p.Group != nil {
		groups, err := a.accounts.GroupsOf(r.Context(), who.User.ID)
		if err != nil {
			return err
		}
		for _, g := range groups {
			if g.ID == *p.Group {
				member := "user"
				answer.Group = &member
			}
		}
		if answer.Group == nil {
			return notMember
		}
	}
	return r.JSON(answer)
}

type nameParams struct{ Email, FullName string }

func (p *nameParams) bind(b *params.Binder) {
	params.Need(b, &p.Email, params.Str, "email") // asked for, but the requester is renamed
	params.Need(b, &p.FullName, params.Str, "full_name")
}

func (a *Auth) updateFullName(r *api.Request) error {
	p, err := api.Params(r, (*nameParams).bind)
	if err != nil {
		return err
	}
	found, err := a.accounts.SetFullName(r.Context(), r.Who().User.ID, p.FullName)
	if err != nil {
		return err
	}
	if !found {
		return mishap(r, "Unknown user")
	}
	return r.JSON(empty{})
}

// mishap is a problem document that also carries "error_msg", where the original answered that member alone and clients then stumbled over
// the missing title.
func mishap(r *api.Request, text string) error {
	body, err := backendai.EncodeJSON(struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		Msg   string `json:"msg"`
		Error string `json:"error_msg"`
	}{backendai.GenericBadRequest.Type(), backendai.GenericBadRequest.Title(), text, text})
	if err != nil {
		return err
	}
	return r.Send(backendai.GenericBadRequest.HTTPStatus(), backendai.ProblemContentType, body)
}

func (a *Auth) sshKeypair(r *api.Request) error {
	key, err := a.accounts.SSHPublicKey(r.Context(), r.Who().Keypair.AccessKey)
	if err != nil {
		return err
	}
	return r.JSON(struct {
		Public *string `json:"ssh_public_key"`
	}{key})
}

func (a *Auth) newSSHKeypair(r *api.Request) error {
	done, err := a.turn(r.Context())
	if err != nil {
		return err
	}
	keys, err := credential.NewSSHKeypair()
	done()
	if err != nil {
		return backendai.Internal(err)
	}
	if err := a.accounts.SetSSHKeypair(r.Context(), r.Who().Keypair.AccessKey, keys); err != nil {
		return err
	}
	return r.JSON(struct {
		Public  string `json:"ssh_public_key"`
		Private string `json:"ssh_private_key"`
	}{keys.Public, keys.Private.Reveal()})
}

// turn waits for a processor to spend. Errors: Overloaded.
func (a *Auth) turn(ctx context.Context) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	select {
	case a.turns <- struct{}{}:
		return func() { <-a.turns }, nil
	case <-ctx.Done():
		return nil, backendai.Errorf(backendai.Overloaded, "Too many passwords are being checked.").WithCause(ctx.Err())
	}
}
