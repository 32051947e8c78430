package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	backendai "backend.ai/manager"
)

// keyLastSeen is a hash in the live database: agent id → Unix seconds as decimal text.
const keyLastSeen = "agent.last_seen"

// chunk bounds the commands of one pipeline.
const chunk = 512

// unix is a time as the original writes it.
func unix(t time.Time) string { return fmt.Sprintf("%.6f", float64(t.UnixMicro())/1e6) }

// fromUnix reads it back; false for what is no time.
func fromUnix(text string) (time.Time, bool) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1e11 {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(f * 1e6)), true
}

// SeeAgents notes when agents were heard of, by the manager's clock: one command for a whole batch of heartbeats. (spec/agent-protocol §10.3)
func (s *Set) SeeAgents(ctx context.Context, seen map[backendai.AgentID]time.Time) error {
	if len(seen) == 0 {
		return nil
	}
	return s.do(ctx, dbLive, func(b rueidis.Builder) rueidis.Completed {
		fields := b.Hset().Key(keyLastSeen).FieldValue()
		for id, at := range seen {
			fields = fields.FieldValue(string(id), unix(at))
		}
		return fields.Build()
	}).Error()
}

// LastSeen is when each agent was heard of; entries that are no times are left out.
func (s *Set) LastSeen(ctx context.Context) (map[backendai.AgentID]time.Time, error) {
	r := s.do(ctx, dbLive, func(b rueidis.Builder) rueidis.Completed { return b.Hgetall().Key(keyLastSeen).Build() })
	if r.Error() != nil {
		return nil, r.Error()
	}
	fields, err := r.AsStrMap()
	if err != nil {
		return nil, backendai.Internal(err)
	}
	out := make(map[backendai.AgentID]time.Time, len(fields))
	for id, text := range fields {
		if at, ok := fromUnix(text); ok {
			out[backendai.AgentID(id)] = at
		}
	}
	return out, nil
}

// ForgetAgents removes agents that are lost or terminated from LastSeen.
func (s *Set) ForgetAgents(ctx context.Context, ids ...backendai.AgentID) error {
	if len(ids) == 0 {
		return nil
	}
	return s.do(ctx, dbLive, func(b rueidis.Builder) rueidis.Completed {
		del := b.Hdel().Key(keyLastSeen).Field(string(ids[0]))
		for _, id := range ids[1:] {
			del = del.Field(string(id))
		}
		return del.Build()
	}).Error()
}

// UpdateAgentImages moves the sets of agents per image (canonical names) from what an agent had to what it has; before is nil for an agent
// whose former images nobody remembers. The original only ever adds. (spec/agent-protocol §10.3)
func (s *Set) UpdateAgentImages(ctx context.Context, agent backendai.AgentID, before, now []string) error {
	type change struct {
		image string
		add   bool
	}
	var changes []change
	had, has := setOf(before), setOf(now)
	for image := range has {
		if !had[image] {
			changes = append(changes, change{image, true})
		}
	}
	for image := range had {
		if !has[image] {
			changes = append(changes, change{image, false})
		}
	}
	for part := range slices.Chunk(changes, chunk) {
		rs := s.multi(ctx, dbImage, func(b rueidis.Builder) rueidis.Commands {
			cmds := make(rueidis.Commands, len(part))
			for i, c := range part {
				if c.add {
					cmds[i] = b.Sadd().Key(c.image).Member(string(agent)).Build()
				} else {
					cmds[i] = b.Srem().Key(c.image).Member(string(agent)).Build()
				}
			}
			return cmds
		})
		if err := firstError(rs); err != nil {
			return err
		}
	}
	return nil
}

func setOf(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, item := range list {
		m[item] = true
	}
	return m
}

// RemoveAgentImages takes a lost agent out of the sets of all images. It walks the whole image database, which holds nothing else.
func (s *Set) RemoveAgentImages(ctx context.Context, agent backendai.AgentID) error {
	for cursor := uint64(0); ; {
		r := s.do(ctx, dbImage, func(b rueidis.Builder) rueidis.Completed { return b.Scan().Cursor(cursor).Count(chunk).Build() })
		if r.Error() != nil {
			return r.Error()
		}
		page, err := r.AsScanEntry()
		if err != nil {
			return backendai.Internal(err)
		}
		for part := range slices.Chunk(page.Elements, chunk) {
			rs := s.multi(ctx, dbImage, func(b rueidis.Builder) rueidis.Commands {
				cmds := make(rueidis.Commands, len(part))
				for i, image := range part {
					cmds[i] = b.Srem().Key(image).Member(string(agent)).Build()
				}
				return cmds
			})
			if err := firstError(rs); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}

// ImageAgents tells which agents have each image; an image nobody has is left out.
func (s *Set) ImageAgents(ctx context.Context, images []string) (map[string][]backendai.AgentID, error) {
	out := map[string][]backendai.AgentID{}
	for part := range slices.Chunk(images, chunk) {
		rs := s.multi(ctx, dbImage, func(b rueidis.Builder) rueidis.Commands {
			cmds := make(rueidis.Commands, len(part))
			for i, image := range part {
				cmds[i] = b.Smembers().Key(image).Build()
			}
			return cmds
		})
		if err := firstError(rs); err != nil {
			return nil, err
		}
		for i, r := range rs {
			members, err := r.AsStrSlice()
			if err != nil {
				return nil, backendai.Internal(err)
			}
			slices.Sort(members)
			for _, id := range members {
				out[part[i]] = append(out[part[i]], backendai.AgentID(id))
			}
		}
	}
	return out, nil
}
