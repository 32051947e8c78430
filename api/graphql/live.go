package graphql

import (
	"context"
	"log/slog"

	backendai "backend.ai/manager"
)

// Redis may be away: what it knows is then shown as unknown, and the rest of the answer stands.
func away(what string, err error) {
	if err != nil {
		slog.Warn("live state is not shown", "what", what, "error", err)
	}
}

func (s *Resource) kernelStats(ctx context.Context, ids []backendai.KernelID) map[string]JSONString {
	if s.deps.Live == nil {
		return nil
	}
	stats, err := s.deps.Live.KernelStats(ctx, ids)
	away("statistics of kernels", err)
	out := make(map[string]JSONString, len(stats))
	for id, stat := range stats {
		if text, err := encoded(stat); err == nil {
			out[id.String()] = *text
		}
	}
	return out
}

func (s *Resource) concurrency(ctx context.Context, keys []backendai.AccessKey) map[backendai.AccessKey]int {
	if s.deps.Live == nil {
		return nil
	}
	n, err := s.deps.Live.Concurrency(ctx, keys)
	away("sessions in use", err)
	return n
}

func (s *Resource) queryCounts(ctx context.Context, keys []backendai.AccessKey) map[backendai.AccessKey]int {
	if s.deps.Live == nil {
		return nil
	}
	n, err := s.deps.Live.QueryCounts(ctx, keys)
	away("numbers of requests", err)
	return n
}
