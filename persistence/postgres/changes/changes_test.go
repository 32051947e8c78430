package changes_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func TestCacheAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		c := changes.NewCache(10, func(context.Context, string) (int32, error) { return loads.Add(1), nil })
		get := func() int32 {
			v, err := c.Get(t.Context(), "k")
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if a, b := get(), get(); a != 1 || b != 1 {
			t.Fatal("loaded twice", a, b)
		}
		time.Sleep(changes.MaxAge)
		if v := get(); v != 2 {
			t.Fatal("an old value is given", v)
		}
		c.Drop()
		if v := get(); v != 3 {
			t.Fatal("a dropped value is given", v)
		}
	})
}

func TestCacheLoadsOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		c := changes.NewCache(10, func(context.Context, int) (int, error) { loads.Add(1); time.Sleep(time.Second / 10); return 7, nil })
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if v, err := c.Get(t.Context(), 1); v != 7 || err != nil {
					t.Error(v, err)
				}
			})
		}
		wg.Wait()
		if n := loads.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

// A change during a load: those who asked before may get the old value, nobody who asks after.
func TestCacheForgetsLoadsThatBeganBeforeADrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		row := 1
		c := changes.NewCache(10, func(context.Context, int) (int, error) { v := row; time.Sleep(time.Second / 10); return v, nil })
		first := make(chan int)
		go func() { v, _ := c.Get(t.Context(), 1); first <- v }()
		synctest.Wait()
		row = 2
		c.Drop()
		if v, _ := c.Get(t.Context(), 1); v != 2 {
			t.Errorf("after the drop: %d", v)
		}
		<-first
		if v, _ := c.Get(t.Context(), 1); v != 2 {
			t.Errorf("kept: %d", v)
		}
	})
}

func TestCacheKeepsNoErrorsAndGivesUpWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := errors.New("down")
		c := changes.NewCache(2, func(_ context.Context, k int) (int, error) {
			time.Sleep(time.Second)
			return k, fail
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.Get(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := c.Get(t.Context(), 1); !errors.Is(err, fail) {
			t.Error(err)
		}
		fail = nil
		if v, err := c.Get(t.Context(), 1); v != 1 || err != nil {
			t.Error(v, err)
		}
		for k := range 100 { // never more than two are kept; all are given
			if v, err := c.Get(t.Context(), k); v != k || err != nil {
				t.Fatal(v, err)
			}
		}
	})
}

// The limit of a load is nobody's deadline: whoever waits for it learns that the database is slow.
func TestCacheLoadsWithinALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := changes.NewCache(2, func(ctx context.Context, k int) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if _, err := c.Get(t.Context(), 1); backendai.CodeOf(err) != backendai.ServiceUnavailable {
			t.Error(err)
		}
	})
}

func TestListenerHearsCommits(t *testing.T) {
	pool := dbtest.New(t)
	l := changes.NewListener(pool)
	heard := make(chan string, 100)
	l.Subscribe(func() { heard <- "domains" }, "domains", "groups")
	l.Subscribe(func() { heard <- "users" }, "users")
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	<-l.Listening()
	if a, b := <-heard, <-heard; a != "domains" || b != "users" {
		t.Fatal("everything is told at first", a, b)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO public.domains (name, allowed_vfolder_hosts, allowed_docker_registries, dotfiles) VALUES ('x', '{}', '{}', '\x90')`); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "domains" {
		t.Fatal(got)
	}
	// Cut its connection: it comes back and tells everything again.
	if _, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	if a, b := <-heard, <-heard; a != "domains" || b != "users" {
		t.Fatal(a, b)
	}
}
