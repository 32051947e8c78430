package transport

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

const (
	// MinSecret is the least length of a cluster secret.
	MinSecret = 16
	// leafLife is how long a certificate made from the secret is good; a new one is made after half of it.
	leafLife = 24 * time.Hour
	// clockSkew is how far the clocks of two nodes may differ.
	clockSkew = time.Hour
	// nodeName is what every certificate made from the secret is for: who holds the secret is a node, wherever it runs.
	nodeName = "node.cluster.backend.ai"
)

// Files name certificates in PEM: all three or none.
type Files struct {
	// CA holds the authorities whose certificates are accepted.
	CA string
	// Cert and Key are this node's; the certificate must be good for servers and clients, and name the host of the advertised address.
	Cert, Key string
}

func (f Files) given() bool { return f != Files{} }

// trust is whom a node accepts, and how it shows who it is.
type trust struct {
	authorities *x509.CertPool
	name        string // what a server's certificate must be for; "": the host that was connected to
	own         func() (*tls.Certificate, error)
	what        string // for the log: what strangers lack
	mark        string // what nodes that trust each other have in common
}

// ofCertificates is the mark of nodes that an operator has given certificates. Which authorities they accept may differ while one is
// being replaced, so that only a connection shows whether they trust each other.
const ofCertificates = "certificates"

// newTrust makes it from one of the two. Errors: InvalidConfig.
func newTrust(secret config.Secret, files Files) (*trust, error) {
	bad := func(format string, args ...any) (*trust, error) {
		return nil, backendai.Errorf(backendai.InvalidConfig, format, args...)
	}
	switch {
	case files.given() && !secret.IsZero():
		return bad("nodes trust each other by a cluster secret or by certificates, not by both")
	case files.given() && (files.CA == "" || files.Cert == "" || files.Key == ""):
		return bad("of the cluster's certificates, all three are needed: the authority's, the node's and the node's key")
	case files.given():
		return trustOfFiles(files)
	case secret.IsZero():
		return bad("nodes need a cluster secret or certificates to trust each other")
	case len(secret.Reveal()) < MinSecret:
		return bad("the cluster secret is too short: it needs at least %d characters", MinSecret)
	}
	a, err := newAuthority(secret, time.Now)
	if err != nil {
		return nil, backendai.Internal(err)
	}
	t := &trust{authorities: x509.NewCertPool(), name: nodeName, own: a.leaf, what: "another cluster secret"}
	t.authorities.AddCert(a.cert)
	// Nothing that a connection to the port does not show: that has the key itself.
	sum := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo)
	t.mark = "secret:" + hex.EncodeToString(sum[:16])
	return t, nil
}

func trustOfFiles(files Files) (*trust, error) {
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "the certificate of the cluster's authority can't be read").WithCause(err)
	}
	t := &trust{authorities: x509.NewCertPool(), what: "no certificate of the cluster's authority", mark: ofCertificates}
	if !t.authorities.AppendCertsFromPEM(pem) {
		return nil, backendai.Errorf(backendai.InvalidConfig, "%s holds no certificate in PEM", files.CA)
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "this node's certificate and key, %s and %s, can't be used", files.Cert, files.Key).WithCause(err)
	}
	t.own = func() (*tls.Certificate, error) { return &cert, nil }
	return t, nil
}

// config is TLS 1.3 with certificates on both sides, for either side.
func (t *trust) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: t.authorities, ClientCAs: t.authorities, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: t.name,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.own() },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.own() },
		SessionTicketsDisabled: true,
	}
}

// authority signs certificates with a key that is derived from the secret: the same on all nodes, and nowhere on a disk.
type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
	now  func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	renewAt time.Time
}

func newAuthority(secret config.Secret, now func() time.Time) (*authority, error) {
	seed, err := hkdf.Key(sha256.New, []byte(secret.Reveal()), []byte("backend.ai"), "certificate authority of a cluster, ed25519, 1", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	a := &authority{key: ed25519.NewKeyFromSeed(seed), now: now}
	// Nothing here depends on the time or on chance, so every node makes the same certificate.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Backend.AI cluster"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

// leaf is this process's certificate.
func (a *authority) leaf() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.current != nil && now.Before(a.renewAt) {
		return a.current, nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Backend.AI manager node"}, DNSNames: []string{nodeName},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(leafLife), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign this node's certificate: %w", err)
	}
	a.current, a.renewAt = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, now.Add(leafLife/2)
	return a.current, nil
}
