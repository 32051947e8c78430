package graphql

import (
	"strings"
	"sync"
)

// batch reads what belongs to all objects of a page when the first of them is asked for it: for fields with arguments, which the page's
// resolver can't read ahead. The zero value is ready.
type batch[V any] struct {
	mu    sync.Mutex
	loads map[string]func() (map[string]V, error)
}

// of gives what belongs to one object. The same argument with the same fields is read once.
func (b *batch[V]) of(id string, argument *string, f fields, load func() (map[string]V, error)) (V, error) {
	key := strings.Join(f, " ")
	if argument != nil {
		key += " of " + *argument
	}
	b.mu.Lock()
	once := b.loads[key]
	if once == nil {
		if b.loads == nil {
			b.loads = map[string]func() (map[string]V, error){}
		}
		once = sync.OnceValues(load)
		b.loads[key] = once
	}
	b.mu.Unlock()
	all, err := once()
	return all[id], err
}
