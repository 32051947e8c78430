package main

import (
	"slices"
	"time"
)

// spread is a distribution in milliseconds.
type spread struct {
	N    int     `json:"n"`
	Min  float64 `json:"min"`
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Mean float64 `json:"mean"`
}

func spreadOf(list []time.Duration) spread {
	if len(list) == 0 {
		return spread{}
	}
	slices.Sort(list)
	at := func(q float64) float64 { return milliseconds(list[min(len(list)-1, int(q*float64(len(list))))]) }
	var sum time.Duration
	for _, d := range list {
		sum += d
	}
	return spread{N: len(list), Min: at(0), P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1), Mean: milliseconds(sum / time.Duration(len(list)))}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
