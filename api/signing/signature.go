package signing

import (
	"crypto/hmac"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"strings"
	"sync"

	backendai "backend.ai/manager"
)

// Subject is what is signed of a request (spec/rest-core §2.5 step 4).
type Subject struct {
	Method      string // of the request line, upper case
	Target      string // of the request line, still percent-encoded, not normalised
	Date        string // the raw date header
	Host        string // the Host header, port included, case preserved
	ContentType string // MediaType of the Content-Type header
	// LegacyVersion tells that Version came from X-Sorna-Version.
	LegacyVersion bool
	Version       string
}

// Text is the string to sign.
func (s Subject) Text(m Method) string { return string(s.append(nil, m)) }

func (s Subject) append(b []byte, m Method) []byte {
	b = append(b, s.Method...)
	b = append(b, '\n')
	b = append(b, s.Target...)
	b = append(b, '\n')
	b = append(b, s.Date...)
	b = append(b, "\nhost:"...)
	b = append(b, s.Host...)
	b = append(b, "\ncontent-type:"...)
	b = append(b, s.ContentType...)
	if s.LegacyVersion {
		b = append(b, "\nx-sorna-version:"...)
	} else {
		b = append(b, "\nx-backendai-version:"...)
	}
	b = append(b, s.Version...)
	b = append(b, '\n')
	return append(b, m.emptyHash...)
}

// MediaType is what line 5 of the text takes of a Content-Type header: the media type in lower case, without parameters. A missing
// header counts as application/octet-stream, a malformed one as text/plain (spec/rest-core §2.5).
func MediaType(header string, present bool) string {
	if !present {
		return "application/octet-stream"
	}
	switch header { // what clients send, without an allocation
	case "application/json", "text/plain", "application/octet-stream":
		return header
	}
	kind, _, _ := strings.Cut(header, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if strings.Count(kind, "/") != 1 {
		return "text/plain"
	}
	return kind
}

// Key is the second derived key, ready to sign. It may be used by many goroutines.
type Key struct {
	method Method
	secret []byte
	idle   sync.Pool // of hash.Hash, keyed: saves the key schedule of each signature
}

// Day is the form of the date that the first key is derived from; use the time in the offset of its header.
const Day = "20060102"

// DeriveKey makes the key of a secret, day and host (spec/rest-core §2.5 step 5).
func DeriveKey(m Method, secret backendai.SecretKey, day, host string) *Key {
	k1 := mac(m, []byte(secret.Reveal()), day)
	return &Key{method: m, secret: mac(m, k1, host)}
}

func mac(m Method, key []byte, text string) []byte {
	h := hmac.New(m.hash, key)
	h.Write([]byte(text)) // never fails (hash.Hash)
	return h.Sum(nil)
}

// Sign is the signature of a subject in lower-case hexadecimal.
func (k *Key) Sign(s Subject) string { return hex.EncodeToString(k.sum(s, nil)) }

func (k *Key) sum(s Subject, buf []byte) []byte {
	h, _ := k.idle.Get().(hash.Hash)
	if h == nil {
		h = hmac.New(k.method.hash, k.secret)
	}
	h.Reset()
	text := s.append(buf, k.method)
	h.Write(text)
	sum := h.Sum(text[:0])
	k.idle.Put(h)
	return sum
}

// Verify compares in constant time. Signatures of another length or with other characters, upper-case digits included, do not match.
func (k *Key) Verify(s Subject, signature string) bool {
	var text [512]byte
	var digits [128]byte
	sum := k.sum(s, text[:0])
	want := hex.AppendEncode(digits[:0], sum)
	return subtle.ConstantTimeCompare(want, []byte(signature)) == 1
}
