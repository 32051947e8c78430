package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// credentials are TLS that says in the log why it refuses somebody, or is refused; for connections to a node, or, without one, from any.
func (t *Transport) credentials(node string) credentials.TransportCredentials {
	return handshake{credentials.NewTLS(t.trust.config()), t, node}
}

type handshake struct {
	credentials.TransportCredentials
	t    *Transport
	node string
}

func (h handshake) Clone() credentials.TransportCredentials {
	return handshake{h.TransportCredentials.Clone(), h.t, h.node}
}

func (h handshake) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		h.t.refused(h.node, err)
	}
	return conn, info, err
}

func (h handshake) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		host, _, _ := net.SplitHostPort(raw.RemoteAddr().String())
		h.t.refused(host, err)
	}
	return conn, info, err
}

// refused says what a failed handshake means. A connection that simply ended (a probe of the port, a node that stops) is not worth a word.
func (t *Transport) refused(who string, err error) {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var verify *tls.CertificateVerificationError
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		t.rare.say("trust "+who, "a node is not let in, it has "+t.trust.what, "from", who)
	case errors.As(err, &name):
		t.rare.say("name "+who, "a node is not connected to, its certificate is not for the address it says it has", "node", who, "error", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		t.rare.say("expired "+who, "a node is not let in, its certificate is not valid now: has it expired, or is a clock wrong?", "from", who, "error", err)
	case errors.As(err, &verify):
		t.rare.say("trust "+who, "a node is not let in, its certificate can't be used", "from", who, "error", err)
	case strings.Contains(text, "didn't provide a certificate"):
		t.rare.say("bare "+who, "a connection without a certificate was refused", "from", who)
	case strings.Contains(text, "remote error: tls: "):
		t.rare.say("alert "+who, "a node does not trust this one; either of them has "+t.trust.what, "from", who, "error", err)
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		t.rare.say("plain "+who, "a connection without encryption was refused", "from", who)
	}
}

// rare says the same thing no more than once in a while, and then how often it would have.
type rare struct {
	log   *slog.Logger
	every time.Duration

	mu   sync.Mutex
	said map[string]*saying
}

type saying struct {
	at    time.Time
	times int // since then
}

// maxSaid bounds what is remembered, whoever connects.
const maxSaid = 512

func newRare(log *slog.Logger, every time.Duration) *rare {
	return &rare{log: log, every: every, said: make(map[string]*saying)}
}

// say logs a warning, unless it has logged one of the same key lately.
func (r *rare) say(key, msg string, args ...any) {
	if times, ok := r.due(key, time.Now()); ok {
		r.log.Warn(msg, append(args, "times", times)...)
	}
}

// due tells whether something is to be said, and how often it has happened since it was said last.
func (r *rare) due(key string, now time.Time) (times int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.said[key]
	if s == nil {
		if len(r.said) >= maxSaid {
			maps.DeleteFunc(r.said, func(_ string, s *saying) bool { return now.Sub(s.at) >= r.every })
		}
		if len(r.said) >= maxSaid {
			return 0, false
		}
		r.said[key] = &saying{at: now}
		return 1, true
	}
	s.times++
	if now.Sub(s.at) < r.every {
		return 0, false
	}
	times = s.times
	s.at, s.times = now, 0
	return times, true
}
