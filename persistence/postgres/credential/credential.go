package credential

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	backendai "backend.ai/manager"
)

const (
	cost = 12
	// longest is where bcrypt stops reading; what comes after is ignored.
	longest = 72
	rsaBits = 2048
)

// HashPassword makes the text for users.password: bcrypt, ident $2b$, cost 12.
// It takes a quarter of a second of CPU, which is the point.
func HashPassword(plain string) (string, error) { return hash(plain, cost) }

func hash(plain string, cost int) (string, error) {
	h, err := bcrypt.GenerateFromPassword(cut(plain), cost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	// The library writes $2a$ for what everybody else calls $2b$: the algorithm without the old bugs.
	return "$2b$" + strings.TrimPrefix(string(h), "$2a$"), nil
}

// CheckPassword tells whether plain is the password of a stored hash, of any of
// the usual idents ($2a$, $2b$, $2y$). Nil and malformed hashes match nothing.
func CheckPassword(stored *string, plain string) bool {
	return stored != nil && bcrypt.CompareHashAndPassword([]byte(*stored), cut(plain)) == nil
}

func cut(plain string) []byte {
	b := []byte(plain)
	return b[:min(len(b), longest)]
}

// SSHKeypair is the pair of columns ssh_public_key and ssh_private_key of keypairs.
type SSHKeypair struct {
	Public  string              // one line of OpenSSH, without a comment
	Private backendai.SecretKey // PEM "RSA PRIVATE KEY"
}

// NewSSHKeypair draws an RSA key of 2048 bits.
func NewSSHKeypair() (SSHKeypair, error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return SSHKeypair{}, err
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return SSHKeypair{}, err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return SSHKeypair{
		Public:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
		Private: backendai.SecretKey(pem.EncodeToMemory(block)),
	}, nil
}
