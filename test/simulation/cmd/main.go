// Command cmd simulates clusters, seed by seed:
//
//	go run ./test/simulation/cmd --seeds 10000              look for seeds that violate an invariant
//	go run ./test/simulation/cmd --verbose 4711             tell everything that happens in one of them
//
// It ends with 1 when an invariant was violated.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"backend.ai/manager/test/simulation"
)

func main() {
	seeds := flag.Int("seeds", 1000, "how many seeds to run")
	from := flag.Uint64("from", 0, "the first seed")
	verbose := flag.Int64("verbose", -1, "replay one seed and tell all that happens")
	format := flag.String("format", "text", "text or json (one object per failed seed, and the totals last)")
	keep := flag.Int("keep", 60, "how many of the last events of a failed seed are told")
	most := flag.Int("most", 10, "stop after so many failed seeds; 0: never")
	reliable := flag.Bool("reliable-network", false, "lose no message between managers")
	flag.Parse()
	if flag.NArg() > 0 || *seeds < 0 || *keep < 0 || *format != "text" && *format != "json" {
		flag.Usage()
		os.Exit(2)
	}
	opts := simulation.Options{ReliableNetwork: *reliable}
	if *verbose >= 0 {
		os.Exit(replay(uint64(*verbose), opts))
	}
	os.Exit(search(*from, *seeds, opts, *keep, *most, *format == "json"))
}

func replay(seed uint64, opts simulation.Options) int {
	r := simulation.Replay(seed, opts, func(line string) { fmt.Println(line) })
	fmt.Printf("seed %d: %+v\n", seed, r.Stats)
	for _, v := range r.Violations {
		fmt.Println(v)
	}
	if r.Failed() {
		return 1
	}
	return 0
}

// totals is the last object of the JSON form.
type totals struct {
	Seeds       int              `json:"seeds"`
	Failed      []uint64         `json:"failed"`
	Stats       simulation.Stats `json:"stats"`
	WallSeconds float64          `json:"wall_seconds"`
}

func search(from uint64, n int, opts simulation.Options, keep, most int, asJSON bool) int {
	begin, told := time.Now(), time.Now()
	t := totals{Failed: []uint64{}}
	out := json.NewEncoder(os.Stdout)
	simulation.RunMany(from, n, opts, keep, func(r *simulation.Result) bool {
		t.Seeds++
		t.Stats.Add(r.Stats)
		if r.Failed() {
			t.Failed = append(t.Failed, r.Seed)
			if asJSON {
				_ = out.Encode(r)
			} else {
				tell(r)
			}
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%d of %d seeds, %d failed, %.0f/s\n", t.Seeds, n, len(t.Failed), float64(t.Seeds)/time.Since(begin).Seconds())
		}
		return most == 0 || len(t.Failed) < most
	})
	t.WallSeconds = time.Since(begin).Seconds()
	if asJSON {
		_ = out.Encode(t)
	} else {
		fmt.Printf("%d seeds in %.1f s, failed: %v\n%+v\n", t.Seeds, t.WallSeconds, t.Failed, t.Stats)
	}
	if len(t.Failed) > 0 {
		return 1
	}
	return 0
}

func tell(r *simulation.Result) {
	fmt.Printf("seed %d\n", r.Seed)
	for _, line := range r.Trace {
		fmt.Println("  " + line)
	}
	for _, v := range r.Violations {
		fmt.Println("  " + v.String())
	}
}
