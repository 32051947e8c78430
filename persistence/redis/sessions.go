package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis/event"
)

func keySession(id backendai.SessionID, what string) string {
	return "session." + id.String() + "." + what
}

// keep is how long the keys of an idle check live: a day, or twice its time limit.
func keep(limit time.Duration) string {
	return strconv.FormatInt(max(86400, int64(2*limit.Seconds())), 10)
}

// touch takes the time from Redis, so that managers with different clocks agree on who was idle how long.
var touch = rueidis.NewLuaScript(`
local t = redis.call('TIME')
return redis.call('SET', KEYS[1], string.format('%d.%06d', t[1], t[2]), 'EX', ARGV[1])
`)

// TouchSession notes that a session was used just now; limit is its idle timeout. (spec/scheduling §18.3)
func (s *Set) TouchSession(ctx context.Context, id backendai.SessionID, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return coded(touch.Exec(ctx, s.db[dbLive], []string{keySession(id, "last_access")}, []string{keep(limit)}).Error())
}

// HoldSession notes that a session is in use until it is touched again: code runs, or an app connection is open. A session that was
// never touched stays so.
func (s *Set) HoldSession(ctx context.Context, id backendai.SessionID) error {
	err := s.do(ctx, dbLive, func(b rueidis.Builder) rueidis.Completed {
		return b.Set().Key(keySession(id, "last_access")).Value("0").Xx().Build()
	}).Error()
	if rueidis.IsRedisNil(err) {
		return nil
	}
	return err
}

// Access is what is known of a session's use.
type Access struct {
	// Last is zero when nothing is known.
	Last time.Time
	// Held sessions are in use (HoldSession).
	Held bool
	// Connections is the number of open app connections.
	Connections int64
}

// SessionAccess reads the use of many sessions, and what time it is for Redis.
func (s *Set) SessionAccess(ctx context.Context, ids []backendai.SessionID) (out map[backendai.SessionID]Access, now time.Time, err error) {
	out = make(map[backendai.SessionID]Access, len(ids))
	for part := range slices.Chunk(ids, chunk) {
		rs := s.multi(ctx, dbLive, func(b rueidis.Builder) rueidis.Commands {
			var cmds rueidis.Commands
			for _, id := range part {
				cmds = append(cmds, b.Get().Key(keySession(id, "last_access")).Build(), b.Zcard().Key(keySession(id, "active_app_connections")).Build())
			}
			return append(cmds, b.Time().Build())
		})
		if err := firstError(rs); err != nil {
			return nil, now, err
		}
		for i, id := range part {
			var a Access
			if text, err := rs[2*i].ToString(); err == nil {
				if a.Held = text == "0"; !a.Held {
					a.Last, _ = fromUnix(text)
				}
			}
			a.Connections, _ = rs[2*i+1].AsInt64()
			out[id] = a
		}
		clock, err := rs[len(rs)-1].AsStrSlice()
		if err != nil || len(clock) != 2 {
			return nil, now, backendai.Internal(fmt.Errorf("TIME answered %q: %w", clock, err))
		}
		now, _ = fromUnix(clock[0] + "." + fmt.Sprintf("%06s", clock[1]))
	}
	return out, now, nil
}

// Connection names an app connection.
type Connection struct {
	Kernel  backendai.KernelID
	Service string
	// Stream is the connection's id, hexadecimal.
	Stream string
}

func (c Connection) member() string { return c.Kernel.String() + ":" + c.Service + ":" + c.Stream }

// SeeConnection notes an app connection, at its opening and on its traffic (not for every packet).
func (s *Set) SeeConnection(ctx context.Context, id backendai.SessionID, c Connection, at time.Time) error {
	return s.do(ctx, dbLive, func(b rueidis.Builder) rueidis.Completed {
		return b.Zadd().Key(keySession(id, "active_app_connections")).ScoreMember().ScoreMember(float64(at.UnixMicro())/1e6, c.member()).Build()
	}).Error()
}

// EndConnection removes one and returns how many are left.
func (s *Set) EndConnection(ctx context.Context, id backendai.SessionID, c Connection) (left int64, err error) {
	key := keySession(id, "active_app_connections")
	return s.shrink(ctx, key, func(b rueidis.Builder) rueidis.Completed { return b.Zrem().Key(key).Member(c.member()).Build() })
}

// PurgeConnections removes those of which nothing was seen since, and returns how many are left: connections of a manager that died.
func (s *Set) PurgeConnections(ctx context.Context, id backendai.SessionID, since time.Time) (left int64, err error) {
	key := keySession(id, "active_app_connections")
	return s.shrink(ctx, key, func(b rueidis.Builder) rueidis.Completed {
		return b.Zremrangebyscore().Key(key).Min("-inf").Max("(" + unix(since)).Build()
	})
}

func (s *Set) shrink(ctx context.Context, key string, remove func(rueidis.Builder) rueidis.Completed) (int64, error) {
	rs := s.multi(ctx, dbLive, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{remove(b), b.Zcard().Key(key).Build()}
	})
	if err := firstError(rs); err != nil {
		return 0, err
	}
	return rs[1].AsInt64()
}

// DropSession removes everything kept of an ended session.
func (s *Set) DropSession(ctx context.Context, id backendai.SessionID) error {
	return s.do(ctx, dbLive, func(b rueidis.Builder) rueidis.Completed {
		return b.Del().Key(keySession(id, "last_access"), keySession(id, "active_app_connections"), keySession(id, "util_series"), keySession(id, "util_last_collected")).Build()
	}).Error()
}

// Utilization is the samples of the utilization check.
type Utilization struct {
	// Series are the samples in percent by resource, oldest first.
	Series map[string][]float64
	// Collected is when the newest was taken; zero = never.
	Collected time.Time
}

// Utilization reads a session's samples. (spec/scheduling §18.4)
func (s *Set) Utilization(ctx context.Context, id backendai.SessionID) (u Utilization, err error) {
	u.Series = map[string][]float64{}
	keys := []string{keySession(id, "util_series"), keySession(id, "util_last_collected")}
	err = s.values(ctx, dbLive, len(keys), func(i int) string { return keys[i] }, func(i int, value string) {
		if i == 1 {
			u.Collected, _ = fromUnix(value)
			return
		}
		o, _ := event.DecodeObject([]byte(value))
		for _, m := range o {
			items, _ := m.Value.([]any)
			for _, item := range items {
				switch v := item.(type) {
				case float64:
					u.Series[m.Name] = append(u.Series[m.Name], v)
				case int64:
					u.Series[m.Name] = append(u.Series[m.Name], float64(v))
				}
			}
		}
	})
	return u, err
}

// SetUtilization writes them; window is the check's time window.
func (s *Set) SetUtilization(ctx context.Context, id backendai.SessionID, u Utilization, window time.Duration) error {
	o := event.Object{}
	for name, series := range u.Series {
		items := make([]any, len(series))
		for i, v := range series {
			items[i] = v
		}
		o = append(o, event.Member{Name: name, Value: items})
	}
	packed, err := event.EncodeObject(o)
	if err != nil {
		return backendai.Internal(err)
	}
	ttl, _ := strconv.ParseInt(keep(window), 10, 64)
	return firstError(s.multi(ctx, dbLive, func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{
			b.Set().Key(keySession(id, "util_series")).Value(rueidis.BinaryString(packed)).ExSeconds(ttl).Build(),
			b.Set().Key(keySession(id, "util_last_collected")).Value(unix(u.Collected)).ExSeconds(ttl).Build(),
		}
	}))
}
