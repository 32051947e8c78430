package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// line is what a report says of a kind of faults.
type line struct {
	Kind       kind      `json:"kind"`
	Times      int       `json:"times"`
	Wait       quantiles `json:"longest_wait_ms"`
	Recovery   quantiles `json:"recovery_ms"`
	Requests   int       `json:"requests"`
	Failed     int       `json:"failed"`
	Violations int       `json:"violations"`
}

// quantiles in milliseconds.
type quantiles struct {
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

func quantilesOf(list []time.Duration) (q quantiles) {
	if len(list) == 0 {
		return q
	}
	list = slices.Sorted(slices.Values(list))
	at := func(share float64) int64 { return list[min(len(list)-1, int(share*float64(len(list))))].Milliseconds() }
	return quantiles{at(0.5), at(0.99), list[len(list)-1].Milliseconds()}
}

func (q quantiles) String() string { return fmt.Sprintf("%d / %d / %d", q.P50, q.P99, q.Max) }

// linesOf sums outcomes up by kind.
func linesOf(outcomes []outcome) (lines []line) {
	for _, k := range kinds {
		l := line{Kind: k}
		var waits, recoveries []time.Duration
		for _, o := range outcomes {
			if o.Fault.Kind != k {
				continue
			}
			l.Times++
			waits = append(waits, o.Waits...)
			recoveries = append(recoveries, o.Recovery)
			l.Requests, l.Failed, l.Violations = l.Requests+o.Requests, l.Failed+o.Failed, l.Violations+o.Violations
		}
		if l.Times > 0 {
			l.Wait, l.Recovery = quantilesOf(waits), quantilesOf(recoveries)
			lines = append(lines, l)
		}
	}
	return lines
}

// answers counts failed requests by operation, status and kind of the last fault before they ended: one that was under way when a node
// was killed failed of that.
func answers(entries []entry, plan []fault) map[string]int {
	var faults []entry // in the order of time
	for _, e := range entries {
		if e.What == "fault" {
			faults = append(faults, e)
		}
	}
	counts := make(map[string]int)
	for _, e := range entries {
		if e.What == "request" && (e.Status == 0 || e.Status >= 400) {
			k := kind("nothing")
			n, _ := slices.BinarySearchFunc(faults, e.End, func(f entry, end time.Duration) int { return cmp.Compare(f.Start, end) })
			if n > 0 {
				k = plan[faults[n-1].Fault-1].Kind
			}
			counts[fmt.Sprintf("%s %d after %s: %.90s", e.Op, e.Status, k, e.Error)]++
		}
	}
	return counts
}

// report writes the table, what was refused, and what was wrong with the history around it.
func (w *world) report(out io.Writer, format string, seed uint64, plan []fault, outcomes []outcome) {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", " ")
		_ = enc.Encode(map[string]any{"seed": seed, "kinds": linesOf(outcomes), "outcomes": outcomes, "refused": answers(w.between(0, w.now()), plan), "violations": w.violations, "took_s": w.now().Seconds()})
		return
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nFAULT\tTIMES\tLONGEST WAIT OF A COMMAND, ms\tWHOLE AFTER HEALING, ms\tREQUESTS\tFAILED\tVIOLATIONS")
	fmt.Fprintln(t, "\t\tp50 / p99 / max\tp50 / p99 / max\t\t(5xx, none)\t")
	total := line{}
	for _, l := range linesOf(outcomes) {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d\t%d\t%d\n", l.Kind, l.Times, l.Wait, l.Recovery, l.Requests, l.Failed, l.Violations)
		total.Times, total.Requests, total.Failed = total.Times+l.Times, total.Requests+l.Requests, total.Failed+l.Failed
	}
	fmt.Fprintf(t, "all\t%d\t\t\t%d\t%d\t%d\n", total.Times, total.Requests, total.Failed, len(w.violations))
	_ = t.Flush()
	if counts := answers(w.between(0, w.now()), plan); len(counts) > 0 {
		fmt.Fprintln(out, "\nrefused or failed requests of the load:")
		for _, text := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) }) {
			fmt.Fprintf(out, "%6d  %s\n", counts[text], text)
		}
	}
	for _, v := range w.violations {
		fmt.Fprintf(out, "\nVIOLATION at %.3f s, fault %d %s: %s\nthe history around it:\n", v.At.Seconds(), v.Fault, v.Kind, v.Text)
		w.excerpt(out, v)
	}
	fmt.Fprintf(out, "\n%d faults in %s, seed %d: %d violations\n", len(outcomes), w.now().Truncate(time.Second), seed, len(w.violations))
}

// excerptLines is how much of the history is shown with a violation.
const excerptLines = 60

// excerpt shows what happened from the last fault until a violation: all but requests that went well.
func (w *world) excerpt(out io.Writer, v violation) {
	from := v.At - 10*time.Second
	for _, e := range w.between(0, v.At) {
		if e.What == "fault" {
			from = e.Start
		}
	}
	from = max(from, v.At-2*time.Minute)
	list := w.between(from, v.At)
	list = slices.DeleteFunc(list, func(e entry) bool { return e.What == "request" && !e.bad() || e.What == "violation" })
	list = folded(list)
	for i, e := range list {
		if i == excerptLines/2 && len(list) > excerptLines {
			fmt.Fprintf(out, "  … %d more\n", len(list)-excerptLines)
		}
		if i < excerptLines/2 || i >= len(list)-excerptLines/2 {
			fmt.Fprintf(out, "  %s\n", e)
		}
	}
}

// folded makes one entry of many changes of shards in a row.
func folded(list []entry) (short []entry) {
	for i := 0; i < len(list); i++ {
		short = append(short, list[i])
		if list[i].What != "view" {
			continue
		}
		same := i
		for same+1 < len(list) && list[same+1].What == "view" && list[same+1].Start-list[i].Start < 100*time.Millisecond {
			same++
		}
		if same > i {
			short[len(short)-1].Text += fmt.Sprintf(" … and %d more changes of members and claims within %s", same-i, list[same].Start-list[i].Start)
			i = same
		}
	}
	return short
}
