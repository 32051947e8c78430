package api_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/api"
	"backend.ai/manager/persistence/postgres/accounts"
)

type owners map[string]accounts.Owner

func (o owners) Owner(_ context.Context, k backendai.AccessKey) (*accounts.Owner, error) {
	if v, ok := o[string(k)]; ok {
		return &v, nil
	}
	return nil, nil
}

func (o owners) UserByEmail(_ context.Context, email string) (*accounts.User, error) {
	for _, v := range o {
		if v.Email == email {
			return &accounts.User{ID: v.User, Email: email, Role: v.Role}, nil
		}
	}
	return nil, nil
}

func requester(key string, admin bool, role backendai.UserRole) *accounts.Credential {
	c := &accounts.Credential{}
	c.Keypair.AccessKey, c.Keypair.IsAdmin = backendai.AccessKey(key), admin
	c.User.Role, c.User.Domain, c.User.Email = role, "default", "me"
	return c
}

// spec/rest-core §2.8, spec/rest-session §1.5.
func TestOwnerScope(t *testing.T) {
	people := owners{
		"SAME":  {AccessKey: "SAME", Domain: "default", Role: backendai.RoleUser, Email: "same"},
		"OTHER": {AccessKey: "OTHER", Domain: "other", Role: backendai.RoleUser, Email: "other"},
		"SUPER": {AccessKey: "SUPER", Domain: "default", Role: backendai.RoleSuperadmin, Email: "super"},
	}
	user, admin, super := requester("ME", false, backendai.RoleUser), requester("ME", true, backendai.RoleAdmin), requester("ME", false, backendai.RoleSuperadmin)
	for _, c := range []struct {
		who   *accounts.Credential
		owner string
		want  string
	}{
		{user, "", "ME"}, {user, "ME", "ME"}, {admin, "SAME", "SAME"}, {super, "SAME", "SAME"}, {super, "OTHER", "OTHER"}, {super, "SUPER", "SUPER"},
		{user, "SAME", "403 Only admins can perform operations on behalf of other users."},
		{user, "NOBODY", "400 Unknown owner access key"}, {admin, "NOBODY", "400 Unknown owner access key"},
		{admin, "OTHER", "403 Domain-admins can perform operations on behalf of other users in the same domain only."},
		{admin, "SUPER", "403 Domain-admins cannot perform operations on behalf of super-admins."},
		{nil, "", "403 Only authorized requests may have access key scopes."},
	} {
		var owner *backendai.AccessKey
		if c.owner != "" {
			k := backendai.AccessKey(c.owner)
			owner = &k
		}
		o, err := api.OwnerScope(t.Context(), people, c.who, owner)
		got := string(o.AccessKey)
		if e := backendai.AsError(err); e != nil {
			got = fmt.Sprint(e.HTTPStatus(), " ", *e.Message)
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestUserScope(t *testing.T) {
	people := owners{"SAME": {User: uuid.MustParse("2de2b969-1d04-48a6-af16-0bc8adb3c831"), Email: "same", Role: backendai.RoleAdmin}}
	user, super := requester("ME", true, backendai.RoleAdmin), requester("ME", false, backendai.RoleSuperadmin)
	same, nobody := "same", "nobody"
	for _, c := range []struct {
		who   *accounts.Credential
		email *string
		want  string
	}{
		{user, nil, "00000000-0000-0000-0000-000000000000 admin"}, {super, &same, "2de2b969-1d04-48a6-af16-0bc8adb3c831 admin"},
		{user, &same, "400 Only superadmins may have user scopes."}, {super, &nobody, "400 Cannot delegate an unknown user"},
		{nil, nil, "403 Only authorized requests may have user scopes."},
	} {
		id, role, err := api.UserScope(t.Context(), people, c.who, c.email)
		got := fmt.Sprint(id, " ", role)
		if e := backendai.AsError(err); e != nil {
			got = fmt.Sprint(e.HTTPStatus(), " ", *e.Message)
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
