package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/config"
)

// The authority is the same wherever the secret is; certificates are drawn anew, and before they expire.
func TestAuthority(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	a, err := newAuthority(config.NewSecret(secret), clock)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newAuthority(config.NewSecret(secret), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newAuthority(config.NewSecret(secret+"."), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.cert.Raw, b.cert.Raw) || bytes.Equal(a.cert.RawSubjectPublicKeyInfo, c.cert.RawSubjectPublicKeyInfo) {
		t.Error("an authority is a function of its secret")
	}
	verify := func(when time.Time, by *authority) error {
		leaf, err := a.leaf()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(leaf.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(by.cert)
		_, err = cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: nodeName, CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return err
	}
	first, _ := a.leaf()
	again, _ := a.leaf()
	if first != again {
		t.Error("a certificate is made for every connection")
	}
	for _, hours := range []int{0, 11, 12, 13, 100, 24 * 365 * 20} {
		now = time.Now().Add(time.Duration(hours) * time.Hour)
		for _, skew := range []time.Duration{-clockSkew + time.Minute, 0, clockSkew} {
			if err := verify(now.Add(skew), b); err != nil {
				t.Errorf("after %d hours, a clock %s off: %v", hours, skew, err)
			}
		}
		if verify(now, c) == nil {
			t.Error("another authority accepts it")
		}
	}
	other, _ := b.leaf()
	if bytes.Equal(first.Certificate[0], other.Certificate[0]) {
		t.Error("two processes have one key")
	}
}

func TestConfiguration(t *testing.T) {
	receive := func([]byte) {}
	for want, cfg := range map[string]Config{
		"a receiver":              {Host: "127.0.0.1", Secret: config.NewSecret(secret)},
		"must say where":          {Host: "0.0.0.0", Secret: config.NewSecret(secret), Receive: receive},
		"need a cluster secret":   {Host: "127.0.0.1", Receive: receive},
		"too short":               {Host: "127.0.0.1", Secret: config.NewSecret("0123456789abcde"), Receive: receive},
		"not by both":             {Host: "127.0.0.1", Secret: config.NewSecret(secret), Files: Files{CA: "x"}, Receive: receive},
		"all three are needed":    {Host: "127.0.0.1", Files: Files{CA: "x"}, Receive: receive},
		"authority can't be read": {Host: "127.0.0.1", Files: Files{"/nowhere/ca", "/nowhere/cert", "/nowhere/key"}, Receive: receive},
	} {
		_, err := New(cfg)
		if backendai.CodeOf(err) != backendai.InvalidConfig || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if err != nil && strings.Contains(err.Error(), "0123456789abcde") {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
	taken := newNode(t)
	_, port, _ := net.SplitHostPort(taken.Address())
	cfg := Config{Host: "127.0.0.1", Secret: config.NewSecret(secret), Receive: receive, Log: slog.New(slog.DiscardHandler)}
	at(port)(&cfg)
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Start(context.Background()); backendai.CodeOf(err) != backendai.InvalidConfig {
		t.Errorf("a port that is taken: %v", err)
	}
	tr.Send("127.0.0.1:1", nil) // not started: nothing happens
	if err := tr.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAdvertised(t *testing.T) {
	for _, c := range [][3]string{
		{"", "127.0.0.1:6020", "127.0.0.1:6020"}, {"node1", "[::]:6020", "node1:6020"}, {"node1:0", "[::]:6020", "node1:6020"},
		{"node1:7000", "[::]:6020", "node1:7000"}, {"[fd00::1]", "[::]:6020", "[fd00::1]:6020"}, {"fd00::1", "[::]:6020", "[fd00::1]:6020"},
	} {
		if got := advertised(c[0], c[1]); got != c[2] {
			t.Errorf("%q on %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// files makes an authority and a certificate of it for names, as an operator would.
func files(t *testing.T, caKey *ecdsa.PrivateKey, ca *x509.Certificate, names ...string) Files {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return Files{write("ca.pem", "CERTIFICATE", ca.Raw), write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", raw)}
}

func authorityFiles(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// With certificates of an operator, the authority and the names count.
func TestFiles(t *testing.T) {
	key, ca := authorityFiles(t)
	with := func(f Files) func(*Config) { return func(c *Config) { c.Secret, c.Files = config.Secret{}, f } }
	a, b := newNode(t, with(files(t, key, ca, "127.0.0.1"))), newNode(t, with(files(t, key, ca, "127.0.0.1")))
	a.Send(b.Address(), []byte("hello"))
	if got := string(b.next()); got != "hello" {
		t.Error(got)
	}
	elsewhere := newNode(t, with(files(t, key, ca, "node7.example")))
	a.Send(elsewhere.Address(), []byte("x"))
	poll(t, "a name that is not the address's is refused", func() bool {
		return strings.Contains(a.log.String(), "its certificate is not for the address it says it has")
	})
	otherKey, otherCA := authorityFiles(t)
	stranger := newNode(t, with(files(t, otherKey, otherCA, "127.0.0.1")))
	stranger.Send(a.Address(), []byte("x"))
	poll(t, "another authority is refused", func() bool { return strings.Contains(a.log.String(), "no certificate of the cluster's authority") })
	if len(a.frames)+len(elsewhere.frames) != 0 {
		t.Error("frames have arrived")
	}
}

// The mark tells clusters apart, and tells nobody the secret.
func TestMark(t *testing.T) {
	mark := func(secret string) string {
		tr, err := newTrust(config.NewSecret(secret), Files{})
		if err != nil {
			t.Fatal(err)
		}
		return tr.mark
	}
	a := mark("a secret of these nodes")
	if again := mark("a secret of these nodes"); again != a {
		t.Errorf("two nodes of one secret have the marks %q and %q", a, again)
	}
	if other := mark("a secret of those nodes"); other == a || strings.Contains(a, "nodes") || len(a) != len("secret:")+32 {
		t.Errorf("marks %q and %q", a, other)
	}
}
