package api

import "time"

// SetPing has streams ping more often; it returns what brings the old time back.
func SetPing(every time.Duration) (back func()) {
	was := pingEvery
	pingEvery = every
	return func() { pingEvery = was }
}
