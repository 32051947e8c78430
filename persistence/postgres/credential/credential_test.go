package credential

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
)

func TestPassword(t *testing.T) {
	stored, err := hash("wJalrXUt", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\$2b\$04\$.{53}$`).MatchString(stored) {
		t.Errorf("form: %s", stored)
	}
	for _, ident := range []string{"$2a$", "$2b$", "$2y$"} {
		h := ident + strings.TrimPrefix(stored, "$2b$")
		if !CheckPassword(&h, "wJalrXUt") || CheckPassword(&h, "wJalrXUT") {
			t.Errorf("check of %s", ident)
		}
	}
	for _, bad := range []string{"", "plain", "$2b$", "$1$x$y", stored[:40]} {
		if CheckPassword(&bad, "wJalrXUt") {
			t.Errorf("%q matches", bad)
		}
	}
	if CheckPassword(nil, "") {
		t.Error("NULL matches")
	}
}

func TestLongPassword(t *testing.T) {
	long := strings.Repeat("x", 72)
	stored, err := hash(long+"one", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if !CheckPassword(&stored, long+"other") || CheckPassword(&stored, long[1:]) {
		t.Error("not cut at 72 bytes")
	}
}

func TestCostOfTheOriginal(t *testing.T) {
	stored, err := HashPassword("x")
	if err != nil || !strings.HasPrefix(stored, "$2b$12$") || len(stored) != 60 {
		t.Errorf("%s, %v", stored, err)
	}
}

func TestSSHKeypair(t *testing.T) {
	k, err := NewSSHKeypair()
	if err != nil {
		t.Fatal(err)
	}
	private, err := ssh.ParsePrivateKey([]byte(k.Private.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(k.Public))
	if err != nil || comment != "" || string(public.Marshal()) != string(private.PublicKey().Marshal()) {
		t.Errorf("public %q, comment %q, %v", k.Public, comment, err)
	}
	if len(k.Public) > 750 || len(k.Private) > 2000 || !strings.HasPrefix(k.Private.Reveal(), "-----BEGIN RSA PRIVATE KEY-----\n") {
		t.Error("does not fit its columns")
	}
}
