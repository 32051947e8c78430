package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
)

// RateWindow is the length of the rolling window of requests (spec/rest-core §5).
const RateWindow = 900 * time.Second

// hit counts a request: a sorted set of request ids by time per access key. The keys and the numbering are the original's, so that
// managers of both generations count together.
var hit = rueidis.NewLuaScript(`
local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local id = redis.call('INCR', KEYS[2])
if id >= 1e12 then
	redis.call('SET', KEYS[2], 1)
	id = 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - window)
redis.call('ZADD', KEYS[1], ARGV[1], string.format('%.0f', id))
redis.call('EXPIRE', KEYS[1], window)
return redis.call('ZCARD', KEYS[1])
`)

// Hit counts one request of a keypair and returns how many it made within RateWindow, this one included; refused ones count as well. now
// is the manager's clock. It is tried once: the caller decides whether a request may pass while Redis is away, at once and not after
// a row of attempts. Errors: ServiceUnavailable.
func (s *Set) Hit(ctx context.Context, ak backendai.AccessKey, now time.Time) (count int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	count, err = hit.Exec(ctx, s.db[dbRate], []string{string(ak), "__request_id"},
		[]string{fmt.Sprintf("%.3f", float64(now.UnixMilli())/1e3), fmt.Sprint(int64(RateWindow.Seconds()))}).AsInt64()
	return count, coded(err)
}
