package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"backend.ai/manager/test/fakeagent"
)

// listQuery is the list that users look at most.
const listQuery = `query($l: Int!) { compute_session_list(limit: $l, offset: 0) { items { id type session_id name image status status_info status_changed created_at result group_name user_email access_key scaling_group cluster_mode cluster_size tag occupied_slots terminated_at } total_count } }`

// api asks a few routes as often as they answer.
func api(ctx context.Context, c *client, o options) (map[string]any, error) {
	sample, err := c.create(ctx, "load-api-"+token(), o.image, false)
	if err != nil {
		return nil, err
	}
	graphql := func(query string, variables map[string]any) func() error {
		body := map[string]any{"query": query, "variables": variables}
		return func() error { return c.do(ctx, "POST", "/admin/gql", body, nil) }
	}
	routes := []struct {
		name string
		ask  func() error
	}{
		{"GET /", func() error { return c.do(ctx, "GET", "/", nil, nil) }},
		{"GET /auth", func() error { return c.do(ctx, "GET", "/auth?echo=x", nil, nil) }},
		{"GET /session/_/match", func() error { return c.do(ctx, "GET", "/session/_/match?id="+url.QueryEscape(sample.Name), nil, nil) }},
		{"GraphQL keypair", graphql("query { keypair { access_key is_active } }", nil)},
		{"GraphQL list of 100 sessions", graphql(listQuery, map[string]any{"l": 100})},
	}
	result := map[string]any{"concurrency": o.concurrency}
	for _, r := range routes {
		if err := r.ask(); err != nil {
			result[r.name] = map[string]any{"error": err.Error()}
			continue
		}
		var n, failed atomic.Int64
		var mu sync.Mutex
		var took []time.Duration
		stop := time.Now().Add(time.Duration(o.seconds * float64(time.Second)))
		var wg sync.WaitGroup
		for range min(o.concurrency, 32) {
			wg.Go(func() {
				var mine []time.Duration
				for time.Now().Before(stop) {
					begin := time.Now()
					if err := r.ask(); err != nil {
						failed.Add(1)
						continue
					}
					mine = append(mine, time.Since(begin))
					n.Add(1)
				}
				mu.Lock()
				took = append(took, mine...)
				mu.Unlock()
			})
		}
		wg.Wait()
		result[r.name] = map[string]any{"per_s": float64(n.Load()) / o.seconds, "failed": failed.Load(), "ms": spreadOf(took)}
	}
	return result, c.do(ctx, "DELETE", "/session/"+sample.Name+"?forced=true", nil, nil)
}

// join has all agents say hello at once and waits until every one is ALIVE.
func join(ctx context.Context, c *client, o options, fleet *fakeagent.Fleet) (map[string]any, error) {
	if fleet == nil {
		return nil, errors.New("join needs --redis: it brings its own agents")
	}
	begin := time.Now()
	if err := fleet.Start(); err != nil {
		return nil, err
	}
	if err := aliveWithin(ctx, c, o, 2*time.Minute); err != nil {
		return nil, err
	}
	all := time.Since(begin)
	s, err := c.create(ctx, "load-join-"+token(), o.image, true)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"agents_joined": o.agents, "all_alive_s": all.Seconds(), "first_session_s": time.Since(begin).Seconds(), "status": s.Status,
	}, c.do(ctx, "DELETE", "/session/"+s.Name, nil, nil)
}

// aliveWithin polls until the manager counts all Go agents as ALIVE: it asks the inspection endpoint, as super-admins may.
func aliveWithin(ctx context.Context, c *client, o options, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		var answer struct {
			Actors []struct {
				ID    string `json:"id"`
				State string `json:"state"`
			} `json:"actors"`
		}
		if err := c.do(ctx, "GET", "/inspect/actors?view=flat&kind=agent&limit=20000", nil, &answer); err != nil {
			return err
		}
		alive := 0
		for _, a := range answer.Actors {
			if a.State == "ALIVE" && len(a.ID) > 5 && a.ID[:5] == "i-go-" {
				alive++
			}
		}
		if alive >= o.agents {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d agents are ALIVE", alive, o.agents)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
