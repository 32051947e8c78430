package api

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	backendai "backend.ai/manager"
)

// RateLimiter counts requests in a sliding window; persistence/redis has one. Check counts this request and gives how many there were
// within the window, this one included. The count alone matters here: limit lets an implementation stop counting far above it.
type RateLimiter interface {
	Check(ctx context.Context, key string, limit int, window time.Duration) (count int, err error)
}

const (
	// RateWindow is the window of all limits.
	RateWindow = 15 * time.Minute
	// DefaultRateLimit is that of keypairs without one, and what anonymous requests are told (spec/rest-core §5).
	DefaultRateLimit = 1000
	// rateCheckLimit bounds how long a request waits for the count.
	rateCheckLimit = 250 * time.Millisecond
)

// rate is what the headers of an answer say.
type rate struct{ limit, remaining int }

var errRateLimit = backendai.NewError(backendai.RateLimitExceeded)

// checkRate counts a signed request. While the counter can't be reached nobody is limited (the original made every request hang); that is
// logged, once in a while.
func (s *Server) checkRate(r *Request) error {
	r.limit = rate{DefaultRateLimit, DefaultRateLimit}
	if r.who == nil {
		return nil
	}
	limit := DefaultRateLimit
	if l := r.who.Keypair.RateLimit; l != nil {
		limit = *l
	}
	r.limit = rate{limit, limit}
	if s.deps.RateLimiter == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), rateCheckLimit)
	defer cancel()
	count, err := s.deps.RateLimiter.Check(ctx, string(r.who.Keypair.AccessKey), limit, RateWindow)
	if err != nil {
		if last := s.rateWarned.Load(); r.began.Unix()-last >= 10 && s.rateWarned.CompareAndSwap(last, r.began.Unix()) {
			slog.Warn("requests are not rate-limited", "error", err)
		}
		return nil
	}
	if count > limit {
		return errRateLimit
	}
	r.limit.remaining = limit - count
	return nil
}

// write puts the headers of an answer that is no error (spec/rest-core §5).
func (l rate) write(h *fasthttp.ResponseHeader) {
	var digits [20]byte
	h.SetBytesV("X-RateLimit-Limit", strconv.AppendInt(digits[:0], int64(l.limit), 10))
	h.SetBytesV("X-RateLimit-Remaining", strconv.AppendInt(digits[:0], int64(l.remaining), 10))
	h.Set("X-RateLimit-Window", "900")
}
