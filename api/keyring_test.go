package api

import (
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/persistence/postgres/accounts"
)

func TestKeyring(t *testing.T) {
	ring := newKeyring()
	m, _ := signing.ParseMethod(signing.DefaultMethod)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	subject := signing.Subject{Method: "GET", Target: "/", Host: "h", Version: Latest}
	who := &accounts.Credential{Secret: "one"}
	who.Keypair.AccessKey = "K"
	sign := func(secret backendai.SecretKey) string {
		return signing.DeriveKey(m, secret, now.Format(signing.Day), "h").Sign(subject)
	}
	old := sign("one")
	for range 2 {
		if !ring.verify(who, m, now, subject, old) {
			t.Fatal("refused")
		}
	}
	if ring.verify(who, m, now, subject, sign("other")) || ring.verify(who, m, now.AddDate(0, 0, 1), subject, old) {
		t.Error("accepted")
	}
	if len(ring.young) != 1 {
		t.Error("a wrong signature is remembered")
	}
	// The secret was replaced: what was kept is of no use.
	changed := *who
	changed.Secret = "two"
	if ring.verify(&changed, m, now, subject, old) {
		t.Error("the old secret still signs")
	}
	if !ring.verify(&changed, m, now, subject, sign("two")) {
		t.Error("the new secret does not sign")
	}
	// Keys that are in use outlive the others.
	for i := range 2 * mostDerivedKeys {
		ring.keep(keyID{host: string(rune(i))}, derived{})
		if i%1000 == 0 && !ring.verify(&changed, m, now, subject, sign("two")) {
			t.Fatal("forgotten")
		}
	}
	if n := len(ring.young) + len(ring.old); n > 2*mostDerivedKeys {
		t.Error(n, "keys are kept")
	}
}
