package golden

import (
	"bytes"
	"context"
	_ "embed"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/bcrypt"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/fixture"
)

//go:embed cluster.json
var cluster []byte

// Keypair is one that the captures were signed with.
type Keypair struct {
	Access backendai.AccessKey
	Secret backendai.SecretKey
}

// Keys are the well-known test keys, by the names that captures use.
var Keys = map[string]Keypair{
	"admin":        {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
	"domain-admin": {"AKIAHUKCHDEZGEXAMPLE", "cWbsM_vBB4CzTW7JdORRMx8SjGI3-wEXAMPLEKEY"},
	"user":         {"AKIANABBDUSEREXAMPLE", "C8qnIo29EZvXkPK_MXcuAakYTy4NYrxwmCEyNPlf"},
	"monitor":      {"AKIANAMONITOREXAMPLE", "7tuEwF1J7FfK41vOM4uSSyWCUWjPBolpVwvgkSBu"},
	"load":         {"AKIALOADDRIVEREXAMPL", "loaddriverloaddriverloaddriverEXAMPLEKEY"},
	"unknown":      {"AKIAUNKNOWNKEYEXAMPL", "nosuchsecretnosuchsecretnosuchsecretEXAM"},
}

// Passwords are those of the accounts of Cluster, by e-mail.
var Passwords = map[string]string{
	"admin@lablup.com": "wJalrXUt", "domain-admin@lablup.com": "cWbsM_vB", "user@lablup.com": "C8qnIo29", "monitor@lablup.com": "7tuEwF1J", "load@example.com": "loadtest",
}

// Cluster gives an empty database the rows that the captures were taken with. Passwords are hashed at the least cost, so that tests are
// quick.
func Cluster(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	ctx := context.Background()
	if _, err := fixture.Populate(ctx, pool, bytes.NewReader(cluster)); err != nil {
		tb.Fatalf("golden: %v", err)
	}
	for email, password := range Passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			tb.Fatalf("golden: %v", err)
		}
		if _, err := pool.Exec(ctx, `UPDATE public.users SET password = $2 WHERE email = $1`, email, string(hash)); err != nil {
			tb.Fatalf("golden: %v", err)
		}
	}
}
