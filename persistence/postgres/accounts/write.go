package accounts

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/credential"
)

// Login is what a password check needs to know of an account.
type Login struct {
	User User
	// Hash is the stored hash of the password; nil where there is none.
	Hash *string
}

// Login reads an account by e-mail and domain, from the rows. Nil when there is none (spec/rest-core §7.1.1).
func (a *Accounts) Login(ctx context.Context, domain, email string) (*Login, error) {
	var l Login
	return found(&l, a.pool.QueryRow(ctx, `SELECT u.password, `+userColumns+` FROM public.users u WHERE u.email = $1 AND u.domain_name = $2`, email, domain).
		Scan(append([]any{&l.Hash}, l.User.into()...)...))
}

// Pair is a keypair's two keys.
type Pair struct {
	Access backendai.AccessKey
	Secret backendai.SecretKey
}

// LoginKeypair is the keypair that a login gets: an active one of the user, an admin's first. Nil when there is none.
func (a *Accounts) LoginKeypair(ctx context.Context, user uuid.UUID) (*Pair, error) {
	var p Pair
	return found(&p, a.pool.QueryRow(ctx, `SELECT access_key, coalesce(secret_key, '') FROM public.keypairs WHERE "user" = $1 AND is_active
ORDER BY is_admin DESC NULLS LAST, created_at, access_key LIMIT 1`, user).Scan(&p.Access, &p.Secret))
}

// Signup is a new account. Hash is the hash of the password.
type Signup struct {
	Domain, Email, Username, FullName, Description string
	Hash                                           string
	NeedPasswordChange                             bool
	Status                                         backendai.UserStatus
	StatusInfo                                     string
	Role                                           backendai.UserRole
	IntegrationID                                  *string
	ResourcePolicy                                 string
	Group                                          string // joined if the domain has one of that name
	RateLimit                                      int
}

// Signup makes a user with a keypair (spec/rest-core §7.1).
//
// Errors: GenericBadRequest "Email already exists", and for what the original answered with 500: an unknown domain or policy, a user name
// that is taken, a value that is too long.
func (a *Accounts) Signup(ctx context.Context, s Signup) (uuid.UUID, Pair, error) {
	user := uuid.New()
	var pair Pair
	pair.Access, pair.Secret = backendai.NewKeypair()
	err := postgres.InTx(ctx, a.pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		// The user name is the e-mail by default: without asking first, its index would answer for the e-mail's.
		var taken bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM public.users WHERE email = $1)`, s.Email).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return backendai.Errorf(backendai.GenericBadRequest, "Email already exists")
		}
		if _, err := tx.Exec(ctx, `INSERT INTO public.users (uuid, username, email, password, need_password_change, full_name, description, status, status_info,
 created_at, modified_at, integration_id, domain_name, role) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), now(), $10, $11, $12)`,
			user, s.Username, s.Email, s.Hash, s.NeedPasswordChange, s.FullName, s.Description, string(s.Status), s.StatusInfo, s.IntegrationID, s.Domain, string(s.Role)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO public.keypairs (user_id, access_key, secret_key, is_active, is_admin, created_at, modified_at, rate_limit, num_queries,
 "user", resource_policy, dotfiles, bootstrap_script) VALUES ($1, $2, $3, $4, false, now(), now(), $5, 0, $6, $7, '\x90', '')`,
			s.Email, string(pair.Access), pair.Secret.Reveal(), s.Status == backendai.UserActive, s.RateLimit, user, s.ResourcePolicy); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO public.association_groups_users (user_id, group_id) SELECT $1, id FROM public.groups WHERE domain_name = $2 AND name = $3`,
			user, s.Domain, s.Group)
		return err
	})
	if err != nil {
		return uuid.Nil, Pair{}, signupError(err)
	}
	a.forget()
	return user, pair, nil
}

func signupError(err error) error {
	bad := func(text string) error {
		return backendai.Errorf(backendai.GenericBadRequest, "%s", text).WithCause(err)
	}
	if name, ok := postgres.UniqueViolation(err); ok {
		switch name {
		case "ix_users_email":
			return bad("Email already exists")
		case "uq_users_username":
			return bad("Username already exists")
		}
	}
	if name, ok := postgres.ForeignKeyViolation(err); ok {
		switch name {
		case "fk_users_domain_name_domains":
			return bad("No such domain")
		case "fk_keypairs_resource_policy_keypair_resource_policies":
			return bad("No such keypair resource policy")
		}
	}
	if invalidValue(err) {
		return bad("A value is too long or has characters that can't be stored")
	}
	return err
}

// invalidValue: the database refuses a value for its content (class 22), such as a text that is too long or has a NUL.
func invalidValue(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && strings.HasPrefix(pe.Code, "22")
}

// Deactivate signs a user out for good: the account and all keypairs of that e-mail become inactive.
func (a *Accounts) Deactivate(ctx context.Context, email string) error {
	defer a.forget()
	return postgres.InTx(ctx, a.pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE public.users SET status = $2, modified_at = now() WHERE email = $1`, email, string(backendai.UserInactive)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE public.keypairs SET is_active = false, modified_at = now() WHERE user_id = $1`, email)
		return err
	})
}

// ErrChanged: the password is no longer the one that was checked.
var ErrChanged = errors.New("the password was changed meanwhile")

// SetPassword replaces the hash old by hash. Errors: ErrChanged.
func (a *Accounts) SetPassword(ctx context.Context, user uuid.UUID, old *string, hash string) error {
	tag, err := a.pool.Exec(ctx, `UPDATE public.users SET password = $3, need_password_change = false, modified_at = now() WHERE uuid = $1 AND password IS NOT DISTINCT FROM $2`, user, old, hash)
	if err != nil {
		return postgres.AsError(err)
	}
	a.forget()
	if tag.RowsAffected() == 0 {
		return ErrChanged
	}
	return nil
}

// SetFullName renames a user; false when the row is gone. Errors: GenericBadRequest for a name that does not fit.
func (a *Accounts) SetFullName(ctx context.Context, user uuid.UUID, name string) (bool, error) {
	tag, err := a.pool.Exec(ctx, `UPDATE public.users SET full_name = $2, modified_at = now() WHERE uuid = $1`, user, name)
	if invalidValue(err) {
		return false, backendai.Errorf(backendai.GenericBadRequest, "The name is too long or has characters that can't be stored").WithCause(err)
	}
	if err != nil {
		return false, postgres.AsError(err)
	}
	a.forget()
	return tag.RowsAffected() > 0, nil
}

// SSHPublicKey of a keypair, from the rows; nil when it has none.
func (a *Accounts) SSHPublicKey(ctx context.Context, key backendai.AccessKey) (*string, error) {
	var public *string
	_, err := found(&public, a.pool.QueryRow(ctx, `SELECT ssh_public_key FROM public.keypairs WHERE access_key = $1`, string(key)).Scan(&public))
	return public, err
}

// SetSSHKeypair replaces the SSH keys of a keypair.
func (a *Accounts) SetSSHKeypair(ctx context.Context, key backendai.AccessKey, ssh credential.SSHKeypair) error {
	_, err := a.pool.Exec(ctx, `UPDATE public.keypairs SET ssh_public_key = $2, ssh_private_key = $3, modified_at = now() WHERE access_key = $1`, string(key), ssh.Public, ssh.Private.Reveal())
	a.forget()
	return postgres.AsError(err)
}
