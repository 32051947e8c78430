package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// listQuery is the list that users look at most.
const listQuery = `query { compute_session_list(limit: 20, offset: 0) { items { id name image status status_info created_at occupied_slots } total_count } }`

// patienceOfClients bounds a request.
const patienceOfClients = 90 * time.Second

// load is clients that work all the time, through the balancer.
type load struct {
	client  *client
	history *history
	workers sync.WaitGroup
	stop    chan struct{}
	gate    sync.RWMutex // held for writing: everyone pauses
	serial  atomic.Int64

	mu       sync.Mutex
	accepted map[string]string // names of sessions by id, of creations that were answered with 201
	ended    map[string]bool   // ids of sessions whose destruction was answered with 200
}

func newLoad(c *client, h *history) *load {
	return &load{client: c, history: h, stop: make(chan struct{}), accepted: make(map[string]string), ended: make(map[string]bool)}
}

// request does something and notes it.
func (l *load) request(op, name string, f func(ctx context.Context) (id string, status int, err error)) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfClients)
	defer cancel()
	e := l.history.begin(entry{What: "request", Op: op, Name: name})
	var err error
	e.ID, e.Status, err = f(ctx)
	if err != nil {
		e.Error = err.Error()
	}
	e.End = l.history.now()
	l.history.add(e)
	return e.Status, err
}

func (l *load) start(workers int) {
	for range workers {
		l.workers.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				l.gate.RLock()
				l.life()
				l.gate.RUnlock()
			}
		})
	}
}

// hold lets everyone finish what he is at, and wait; the return value lets them go on.
func (l *load) hold() func() {
	l.gate.Lock()
	return l.gate.Unlock
}

func (l *load) close() {
	close(l.stop)
	l.workers.Wait()
}

func (l *load) create(name string) (s session, err error) {
	_, err = l.request("create", name, func(ctx context.Context) (string, int, error) {
		var status int
		s, status, err = l.client.create(ctx, name)
		if err == nil {
			l.mu.Lock()
			l.accepted[s.ID] = name
			l.mu.Unlock()
		}
		return s.ID, status, err
	})
	return s, err
}

// life is what a client does with one session.
func (l *load) life() {
	name := fmt.Sprintf("load-%06d", l.serial.Add(1))
	s, err := l.create(name)
	if err != nil {
		think(100 * time.Millisecond) // as clients do that are refused
	}
	get := func(op, target string) {
		_, _ = l.request(op, name, func(ctx context.Context) (string, int, error) {
			status, err := l.client.do(ctx, "GET", target, nil, nil)
			return "", status, err
		})
		think(20 * time.Millisecond)
	}
	for range 1 + rand.IntN(3) {
		get("match", "/session/_/match?id="+url.QueryEscape(name))
		if err == nil {
			get("info", "/session/"+name)
		}
		_, _ = l.request("list", "", func(ctx context.Context) (string, int, error) {
			status, err := l.client.do(ctx, "POST", "/admin/graphql", map[string]any{"query": listQuery, "variables": map[string]any{}}, nil)
			return "", status, err
		})
		think(20 * time.Millisecond)
	}
	if err == nil && s.Status == "RUNNING" {
		_, _ = l.request("execute", name, func(ctx context.Context) (string, int, error) {
			id, status, err := l.client.container(ctx, name)
			return id, status, err
		})
	}
	if err != nil {
		return // it may be there all the same; it is found at the next rest
	}
	for i := range 10 {
		op := "destroy"
		if i > 0 {
			op = "redestroy" // it may have been destroyed by a request whose answer was lost
		}
		status, err := l.request(op, name, func(ctx context.Context) (string, int, error) {
			status, err := l.client.do(ctx, "DELETE", "/session/"+name, nil, nil)
			return s.ID, status, err
		})
		if status == 200 {
			l.mu.Lock()
			l.ended[s.ID] = true
			l.mu.Unlock()
		}
		if err == nil || status == 404 {
			return
		}
		think(300 * time.Millisecond)
	}
}

func think(d time.Duration) { time.Sleep(d/2 + rand.N(d)) }
