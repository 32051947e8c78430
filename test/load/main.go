package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/redis"
	"backend.ai/manager/test/fakeagent"
)

type options struct {
	endpoint, access, secret, image, redis string
	count, concurrency, agents             int
	seconds                                float64
	delay                                  time.Duration
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: load bench|sessions|wake|api|join [flags]; load sessions -h lists them")
		os.Exit(2)
	}
	o := options{}
	fs := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	fs.StringVar(&o.endpoint, "endpoint", "http://127.0.0.1:8091", "where the manager answers")
	fs.StringVar(&o.access, "access-key", os.Getenv("BACKEND_ACCESS_KEY"), "of a keypair without narrow quotas")
	fs.StringVar(&o.secret, "secret-key", os.Getenv("BACKEND_SECRET_KEY"), "better given in the environment")
	fs.StringVar(&o.image, "image", "127.0.0.1:5000/stable/python:3.11-debian12", "canonical name of an image")
	fs.StringVar(&o.redis, "redis", "", "host:port; bring Go agents that speak through it")
	fs.IntVar(&o.count, "count", 500, "sessions")
	fs.IntVar(&o.concurrency, "concurrency", 200, "requests at a time")
	fs.IntVar(&o.agents, "agents", 10, "Go agents to bring")
	fs.Float64Var(&o.seconds, "seconds", 3, "how long to ask each route")
	fs.DurationVar(&o.delay, "create-delay", 300*time.Millisecond, "how long Go agents take to create a kernel")
	binary := fs.String("manager", "bin/backend.ai", "bench: the program to measure")
	_ = fs.Parse(os.Args[2:])
	if os.Args[1] == "bench" {
		if err := bench(context.Background(), o, *binary, pythonWithAgents()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	result, err := run(context.Background(), os.Args[1], o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", " ")
	_ = enc.Encode(result)
}

func run(ctx context.Context, scenario string, o options) (map[string]any, error) {
	c, err := newClient(o.endpoint, o.access, o.secret, o.concurrency)
	if err != nil {
		return nil, err
	}
	var fleet *fakeagent.Fleet
	asked := make(chan time.Time, 1<<16)
	if o.redis != "" {
		set, err := redis.Open(ctx, redis.Config{Addr: o.redis, Patience: 5 * time.Second})
		if err != nil {
			return nil, err
		}
		defer set.Close()
		cfg := fakeagent.Config{Capacity: backendai.SlotsOf("cpu", "4096", "mem", "16384g"), CreateDelay: o.delay}
		if scenario == "wake" {
			cfg = wakeConfig(o, asked)
		}
		fleet = fakeagent.NewFleet(set, o.agents, o.image, cfg)
	}
	var result map[string]any
	switch scenario {
	case "sessions":
		result, err = sessions(ctx, c, o, fleet)
	case "wake":
		result, err = wake(ctx, c, o, fleet, asked)
	case "api":
		result, err = api(ctx, c, o)
	case "join":
		result, err = join(ctx, c, o, fleet)
	default:
		return nil, fmt.Errorf("no scenario is called %s", scenario)
	}
	if fleet != nil && err == nil {
		b := fleet.Books()
		result["agents"] = map[string]any{"kernels_left": b.Kernels, "created": b.Created, "overcommits": b.Overcommits, "duplicates": b.Duplicates}
		fleet.Stop()
	}
	return result, err
}

// pool runs n pieces of work, some at a time, and returns how long each took.
func pool(n, atOnce int, work func(i int) error) ([]time.Duration, []error) {
	took, errs := make([]time.Duration, n), make([]error, n)
	next := atomic.Int64{}
	var wg sync.WaitGroup
	for range min(atOnce, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				begin := time.Now()
				errs[i] = work(i)
				took[i] = time.Since(begin)
			}
		})
	}
	wg.Wait()
	return took, errs
}

func sessions(ctx context.Context, c *client, o options, fleet *fakeagent.Fleet) (map[string]any, error) {
	if fleet != nil {
		if err := fleet.Start(); err != nil {
			return nil, err
		}
		if err := aliveWithin(ctx, c, o, 30*time.Second); err != nil {
			return nil, err
		}
	}
	prefix := token()
	made := make([]session, o.count)
	begin := time.Now()
	took, errs := pool(o.count, o.concurrency, func(i int) (err error) {
		made[i], err = c.create(ctx, fmt.Sprintf("load-%s-%05d", prefix, i), o.image, true)
		return err
	})
	all := time.Since(begin)
	running, failed, firstError := 0, 0, ""
	for i := range made {
		if errs[i] != nil {
			failed++
			firstError = errs[i].Error()
		} else if made[i].Status == "RUNNING" {
			running++
		}
	}
	begin = time.Now()
	destroyed, destroyErrs := pool(o.count, o.concurrency, func(i int) error {
		if errs[i] != nil {
			return nil
		}
		return c.do(ctx, "DELETE", "/session/"+made[i].Name, nil, nil)
	})
	ended := time.Since(begin)
	undestroyed := 0
	for _, err := range destroyErrs {
		if err != nil {
			undestroyed++
			firstError = err.Error()
		}
	}
	return map[string]any{
		"asked": o.count, "running": running, "failed": failed, "concurrency": o.concurrency, "first_error": firstError,
		"sessions_per_s": float64(running) / all.Seconds(), "post_to_running_ms": spreadOf(took),
		"destroys_per_s": float64(o.count) / ended.Seconds(), "destroy_ms": spreadOf(destroyed), "undestroyed": undestroyed,
	}, nil
}

func token() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
