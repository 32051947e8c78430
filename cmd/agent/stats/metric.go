package stats

import (
	"math"
	"strconv"
	"strings"
	"time"

	"backend.ai/manager/actors/agent/callosum"
)

// Which statistics a metric shows, beside its current value.
const (
	showMax = 1 << iota
	showAvg
	showRate
)

// Series remembers what the statistics of one metric need.
type Series struct {
	count       int
	sum, max    float64
	last, rate  float64
	lastMeasure time.Time
}

// add takes a sample.
func (s *Series) add(v float64, now time.Time) {
	if s.count == 0 || v > s.max {
		s.max = v
	}
	if elapsed := now.Sub(s.lastMeasure).Seconds(); s.count > 0 && elapsed > 0 {
		s.rate = (v - s.last) / elapsed
	}
	s.count++
	s.sum += v
	s.last, s.lastMeasure = v, now
}

// Number writes a value as readers expect: three decimals at most, no trailing zeros.
func Number(v float64) string { return trimmed(v, 3) }

func trimmed(v float64, decimals int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "0"
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		s = "0"
	}
	return s
}

// metric makes the object of one metric; a capacity below zero is none.
func metric(current, capacity float64, unit string, show int, s *Series) callosum.Map {
	m := callosum.Map{{Key: "current", Value: Number(current)}, {Key: "capacity", Value: nil}, {Key: "pct", Value: nil}, {Key: "unit_hint", Value: unit}}
	if capacity >= 0 {
		m[1].Value = Number(capacity)
		if capacity > 0 {
			m[2].Value = trimmed(current/capacity*100, 2)
		}
	}
	if show&showAvg != 0 && s.count > 0 {
		m = append(m, callosum.Entry{Key: "stats.avg", Value: Number(s.sum / float64(s.count))})
	}
	if show&showMax != 0 {
		m = append(m, callosum.Entry{Key: "stats.max", Value: Number(s.max)})
	}
	if show&showRate != 0 {
		m = append(m, callosum.Entry{Key: "stats.rate", Value: Number(s.rate)})
	}
	return m
}
