package changes

import (
	"context"
	"sync"
	"time"

	backendai "backend.ai/manager"
)

// MaxAge bounds how old a cached value may be while nobody hears of changes.
const MaxAge = time.Second

// loadLimit bounds one load; those who wait for it may give up earlier.
const loadLimit = 5 * time.Second

// Cache holds values by key, read through a load function. The zero value is not usable.
type Cache[K comparable, V any] struct {
	load func(context.Context, K) (V, error)
	most int
	now  func() time.Time

	mu         sync.RWMutex
	generation uint64
	values     map[K]kept[V]
	loading    map[K]*loading[V]
}

type kept[V any] struct {
	value V
	until time.Time
}

type loading[V any] struct {
	generation uint64
	done       chan struct{}
	value      V
	err        error
}

// NewCache makes a cache of at most most values. Values are shared: nobody may change them. Errors are not kept; "there is none" should
// be a value (nil), so that asking for what does not exist is cheap as well.
func NewCache[K comparable, V any](most int, load func(context.Context, K) (V, error)) *Cache[K, V] {
	return &Cache[K, V]{load: load, most: most, now: time.Now, values: map[K]kept[V]{}, loading: map[K]*loading[V]{}}
}

// Get gives the value of a key. Errors: those of the load, and the end of ctx.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, error) {
	c.mu.RLock()
	k, ok := c.values[key]
	c.mu.RUnlock()
	if ok && c.now().Before(k.until) {
		return k.value, nil
	}
	c.mu.Lock()
	l := c.loading[key]
	if l == nil || l.generation != c.generation {
		l = &loading[V]{generation: c.generation, done: make(chan struct{})}
		c.loading[key] = l
		go c.fetch(key, l)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// fetch loads for all who wait. It does not end with the first of them.
func (c *Cache[K, V]) fetch(key K, l *loading[V]) {
	ctx, cancel := context.WithTimeout(context.Background(), loadLimit)
	defer cancel()
	began := c.now()
	if l.value, l.err = c.load(ctx, key); l.err != nil && ctx.Err() != nil { // the limit is ours, not the caller's
		l.err = backendai.Errorf(backendai.ServiceUnavailable, "The database takes too long to answer; try again.").WithCause(l.err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loading[key] == l {
		delete(c.loading, key)
	}
	if l.err == nil && l.generation == c.generation {
		c.makeRoom()
		c.values[key] = kept[V]{value: l.value, until: began.Add(MaxAge)}
	}
	close(l.done)
}

// makeRoom forgets what is too old, and any others if that is not enough.
func (c *Cache[K, V]) makeRoom() {
	if len(c.values) < c.most {
		return
	}
	now := c.now()
	for k, v := range c.values {
		if !now.Before(v.until) {
			delete(c.values, k)
		}
	}
	for k := range c.values {
		if len(c.values) < c.most*3/4 {
			break
		}
		delete(c.values, k)
	}
}

// Drop forgets everything, and keeps nothing whose load has begun already.
func (c *Cache[K, V]) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.values)
}
