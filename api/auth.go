package api

import (
	"bytes"
	"cmp"
	"strings"
	"sync"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/persistence/postgres/accounts"
)

var (
	errDate       = backendai.Errorf(backendai.InvalidAuthParameters, "Date/time sync error")
	errUnknownKey = backendai.Errorf(backendai.AuthorizationFailed, "Access key not found")
	errNoVersion  = backendai.Errorf(backendai.InvalidAuthParameters, "API version missing in request headers")
	errSignature  = backendai.Errorf(backendai.AuthorizationFailed, "Signature mismatch")
)

// dateText is the time that a request is signed with, as peek gives it.
func (r *Request) dateText() string {
	return strings.TrimSpace(cmp.Or(r.peek("Date"), r.peek("X-BackendAI-Date"), r.peek("X-Sorna-Date")))
}

// SignedAt is the time that the request is signed with, as the client has written it.
func (r *Request) SignedAt() string { return strings.Clone(r.dateText()) }

// authenticate finds out who asks, in the order of spec/rest-core §2.1. A request without an Authorization header stays anonymous: its
// guard refuses it.
func (s *Server) authenticate(r *Request) error {
	dateText := r.dateText()
	date, ok := signing.ParseDate(dateText, r.began)
	if !ok || !signing.InWindow(date, r.began) {
		return errDate
	}
	if s.deps.Hooks.all != nil {
		key, err := s.deps.Hooks.PreAuth(r.Context(), r)
		if err != nil {
			return err
		}
		if key != "" {
			return s.admit(r, key)
		}
	}
	header := r.peek("Authorization")
	if header == "" {
		return nil
	}
	auth, err := signing.ParseAuthorization(header)
	if err != nil {
		return err
	}
	key := backendai.AccessKey(strings.Clone(string(auth.AccessKey))) // caches keep it
	who, err := s.deps.Credentials.Credential(r.Context(), key)
	if err != nil {
		return err
	}
	if who == nil {
		return errUnknownKey
	}
	method, err := signing.ParseMethod(auth.Method)
	if err != nil {
		return err
	}
	subject := signing.Subject{Method: r.Method, Target: r.target, Date: dateText, Host: bytesText(r.ctx.Request().Header.Host()), Version: r.peek("X-BackendAI-Version")}
	if subject.Version == "" {
		subject.Version, subject.LegacyVersion = r.peek("X-Sorna-Version"), true
	}
	if subject.Version == "" {
		return errNoVersion
	}
	contentType := bytesText(r.ctx.Request().Header.ContentType())
	subject.ContentType = signing.MediaType(contentType, contentType != "" || hasHeader(r.ctx.Request().Header.RawHeaders(), "content-type:"))
	if !s.keys.verify(who, method, date, subject, auth.Signature) {
		return errSignature
	}
	r.who = who
	s.deps.Used(key, r.began)
	return nil
}

// admit takes a hook's word for who asks.
func (s *Server) admit(r *Request, key backendai.AccessKey) error {
	who, err := s.deps.Credentials.Credential(r.Context(), key)
	if err != nil {
		return err
	}
	if who == nil {
		return errUnknownKey
	}
	r.who = who
	s.deps.Used(key, r.began)
	return nil
}

// hasHeader finds a header, given in lower case with its colon, at the start of a line: fasthttp does not tell an empty one from a missing
// one.
func hasHeader(raw []byte, name string) bool {
	for line := range bytes.Lines(raw) {
		if len(line) >= len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return true
		}
	}
	return false
}

// keyring keeps derived keys: deriving one costs more than the signature itself. Only keys of right signatures are kept, so that strangers
// can't fill it.
type keyring struct {
	mu    sync.RWMutex
	young map[keyID]derived
	old   map[keyID]derived // the generation before; forgotten when young is full
}

type keyID struct {
	access    backendai.AccessKey
	method    string
	day, host string
}

type derived struct {
	secret backendai.SecretKey // it may have been changed since
	key    *signing.Key
}

const mostDerivedKeys = 10_000

func newKeyring() *keyring { return &keyring{young: map[keyID]derived{}} }

func (k *keyring) verify(who *accounts.Credential, m signing.Method, date time.Time, s signing.Subject, signature string) bool {
	var day [8]byte
	id := keyID{access: who.Keypair.AccessKey, method: m.Name(), day: bytesText(date.AppendFormat(day[:0], signing.Day)), host: s.Host}
	k.mu.RLock()
	d, kept := k.young[id]
	aged := false
	if !kept {
		d, aged = k.old[id]
	}
	k.mu.RUnlock()
	if (kept || aged) && d.secret == who.Secret {
		right := d.key.Verify(s, signature)
		if right && aged {
			k.keep(id, d)
		}
		return right
	}
	d = derived{secret: who.Secret, key: signing.DeriveKey(m, who.Secret, id.day, id.host)}
	right := d.key.Verify(s, signature)
	if right {
		k.keep(id, d)
	}
	return right
}

func (k *keyring) keep(id keyID, d derived) {
	id.day, id.host = strings.Clone(id.day), strings.Clone(id.host)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.young) >= mostDerivedKeys {
		k.old, k.young = k.young, make(map[keyID]derived)
	}
	k.young[id] = d
}
