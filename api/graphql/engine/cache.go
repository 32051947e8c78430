package engine

import (
	"container/list"
	"sync"
)

// Bounds of the cache, in bytes of queries' texts; a document takes some ten times its text.
const (
	mostCached    = 1 << 20
	longestCached = 16 << 10
)

// cache keeps the documents that were used last, right ones only, so that strangers' mistakes take no room.
type cache struct {
	mu    sync.Mutex
	found map[string]*list.Element // of *Document
	order list.List                // the last used first
	bytes int
}

func newCache() *cache { return &cache{found: map[string]*list.Element{}} }

func (c *cache) get(text string) *Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.found[text]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*Document)
}

func (c *cache) put(d *Document) {
	if len(d.text) > longestCached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found[d.text] != nil {
		return
	}
	c.found[d.text] = c.order.PushFront(d)
	c.bytes += len(d.text)
	for c.bytes > mostCached {
		oldest := c.order.Remove(c.order.Back()).(*Document)
		delete(c.found, oldest.text)
		c.bytes -= len(oldest.text)
	}
}
