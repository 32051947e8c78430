package signing_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
)

const secret = backendai.SecretKey("sk-0123456789abcdefghijABCDEFGHIJ-test-key")

// The vectors of spec/rest-core §2.5.
func TestVectors(t *testing.T) {
	for _, c := range []struct{ method, target, date, contentType, signMethod, signature string }{
		{"GET", "/auth/role?group=00000000-0000-0000-0000-000000000001", "2022-06-15T01:02:03.456789+00:00", "text/plain", "HMAC-SHA256",
			"648f382233d50722cdee44ccbb1c42ee46b7e2fe901e39047e47b13aeb8fe016"},
		{"POST", "/auth/test", "2022-06-15T01:02:03.456789+00:00", "application/json", "HMAC-SHA256",
			"e0698df3f2b01d94a0f14907c89fa1f57030a05f4bdf6c0bc50f24028fdc36a8"},
		{"POST", "/auth/test", "2022-06-15T23:30:00+09:00", "application/json", "HMAC-SHA1", "6b1f185582f93b8168d14c4173d90e2773b2eb20"},
	} {
		m, err := signing.ParseMethod(c.signMethod)
		if err != nil {
			t.Fatal(err)
		}
		date, ok := signing.ParseDate(c.date, time.Now())
		if !ok {
			t.Fatalf("date %q", c.date)
		}
		const host = "api.example.com:8081"
		key := signing.DeriveKey(m, secret, date.Format(signing.Day), host)
		s := signing.Subject{Method: c.method, Target: c.target, Date: c.date, Host: host, ContentType: c.contentType, Version: "v6.20220615"}
		for range 2 { // the second time the hash comes from the pool
			if got := key.Sign(s); got != c.signature {
				t.Errorf("%s %s: %s, want %s", c.method, c.target, got, c.signature)
			}
		}
		if !key.Verify(s, c.signature) {
			t.Error("a right signature is refused")
		}
		if key.Verify(s, strings.ToUpper(c.signature)) || key.Verify(s, "") || key.Verify(s, "é"+c.signature[2:]) {
			t.Error("a wrong signature is accepted")
		}
	}
}

func TestAuthorizationHeader(t *testing.T) {
	const malformed = "Missing or malformed authorization parameters"
	for header, want := range map[string]string{
		"":                                    "Malformed authorization header",
		"BackendAI":                           "Malformed authorization header",
		"Basic abc":                           "Invalid authorization type name",
		"backendai signMethod=a":              "Invalid authorization type name",
		"BackendAI signMethod=a":              malformed,
		"BackendAI credential=a:b":            malformed,
		"BackendAI x, credential=a:b":         malformed,
		"BackendAI ":                          malformed,
		"Sorna signMethod=a, credential=noco": malformed,
	} {
		_, err := signing.ParseAuthorization(header)
		e := backendai.AsError(err)
		if e == nil || e.Code != backendai.InvalidAuthParameters || *e.Message != want {
			t.Errorf("%q: %v, want %s", header, err, want)
		}
	}
	got, err := signing.ParseAuthorization("Sorna  credential = K:a:b=c ,other=1,signMethod=x, signMethod = HMAC-SHA1")
	if want := (signing.Authorization{Method: "HMAC-SHA1", AccessKey: "K", Signature: "a:b=c"}); err != nil || got != want {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
}

func TestMethods(t *testing.T) {
	for text, want := range map[string]backendai.Code{
		"SHA256": backendai.AuthorizationFailed, "HMAC-SHA-256": backendai.AuthorizationFailed, "": backendai.AuthorizationFailed,
		"CMAC-SHA256": backendai.InvalidAuthParameters, "HMAC-SHA999": backendai.InvalidAuthParameters, "HMAC-SHAKE_128": backendai.InvalidAuthParameters,
		"hmac-sha256": "", "HMAC-SHA3_256": "", "HMAC-BLAKE2B": "", "HMAC-md5": "",
	} {
		if _, err := signing.ParseMethod(text); backendai.CodeOf(err) != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestMediaType(t *testing.T) {
	for in, want := range map[string]string{"application/JSON; charset=utf-8": "application/json", "": "text/plain", "nonsense": "text/plain", "a/b/c": "text/plain",
		"multipart/form-data; boundary=x": "multipart/form-data"} {
		if got := signing.MediaType(in, true); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := signing.MediaType("", false); got != "application/octet-stream" {
		t.Errorf("missing: %q", got)
	}
}

// Any change of any part of a subject changes whether the signature fits.
func TestSignatureBindsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z0-9/?=:.+-]{0,20}`)
		s := signing.Subject{Method: word.Draw(t, "method"), Target: word.Draw(t, "target"), Date: word.Draw(t, "date"), Host: word.Draw(t, "host"),
			ContentType: word.Draw(t, "type"), Version: word.Draw(t, "version")}
		name := rapid.SampledFrom([]string{"HMAC-SHA256", "HMAC-SHA1", "HMAC-SHA512", "HMAC-SHA3_384", "HMAC-BLAKE2S"}).Draw(t, "hash")
		m, err := signing.ParseMethod(name)
		if err != nil {
			t.Fatal(err)
		}
		key := signing.DeriveKey(m, secret, "20220615", s.Host)
		signature := key.Sign(s)
		if _, err := hex.DecodeString(signature); err != nil || !key.Verify(s, signature) {
			t.Fatalf("own signature %q is refused", signature)
		}
		for i, change := range []func(*signing.Subject){
			func(s *signing.Subject) { s.Method += "x" }, func(s *signing.Subject) { s.Target += "x" }, func(s *signing.Subject) { s.Date += "x" },
			func(s *signing.Subject) { s.Host += "x" }, func(s *signing.Subject) { s.ContentType += "x" }, func(s *signing.Subject) { s.Version += "x" },
			func(s *signing.Subject) { s.LegacyVersion = true },
		} {
			other := s
			change(&other)
			if key.Verify(other, signature) {
				t.Fatalf("change %d goes unnoticed", i)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	m, _ := signing.ParseMethod(signing.DefaultMethod)
	key := signing.DeriveKey(m, secret, "20220615", "api.example.com:8081")
	s := signing.Subject{Method: "GET", Target: "/auth/role?group=00000000-0000-0000-0000-000000000001", Date: "2022-06-15T01:02:03.456789+00:00",
		Host: "api.example.com:8081", ContentType: "text/plain", Version: "v6.20220615"}
	signature := key.Sign(s)
	b.ReportAllocs()
	for b.Loop() {
		if !key.Verify(s, signature) {
			b.Fatal("refused")
		}
	}
}
