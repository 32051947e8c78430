package redis

import (
	"bytes"
	"context"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
)

const (
	// missingChunk is written where a chunk should have been.
	missingChunk = "(container log unavailable)\n"
	// maxLog bounds what is taken; the log driver keeps 10 MiB at most by default.
	maxLog = 64 << 20
	// logPage is how many chunks (64 KiB by default) one read takes.
	logPage = 16
)

// DrainLog reads the log that an agent left behind for a container, hands it to store, and removes it when store succeeded: until then,
// and for an hour at most, it stays, so a failed write does not lose it as the original's pop does. No log is an empty log. A list that
// shrinks while it is read ends with a line that says so. (spec/agent-protocol §11.5) Errors: ServiceUnavailable, or store's.
func (s *Set) DrainLog(ctx context.Context, container string, store func(log []byte) error) error {
	key := "containerlog." + container
	r := s.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed { return b.Llen().Key(key).Build() })
	if r.Error() != nil {
		return r.Error()
	}
	total, err := r.AsInt64()
	if err != nil {
		return backendai.Internal(err)
	}
	var log bytes.Buffer
	for from := int64(0); from < total && log.Len() < maxLog; from += logPage {
		r := s.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed {
			return b.Lrange().Key(key).Start(from).Stop(min(from+logPage, total) - 1).Build()
		})
		if r.Error() != nil {
			return r.Error()
		}
		page, err := r.AsStrSlice()
		if err != nil {
			return backendai.Internal(err)
		}
		for _, part := range page {
			log.WriteString(part)
		}
		if int64(len(page)) < min(logPage, total-from) {
			log.WriteString(missingChunk)
			break
		}
	}
	if err := store(log.Bytes()); err != nil {
		return err
	}
	return s.do(ctx, dbStream, func(b rueidis.Builder) rueidis.Completed { return b.Del().Key(key).Build() }).Error()
}
