package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	backendai "backend.ai/manager"
)

// rows are what the database says of all kernels.
type row struct {
	id, name, status, agent, container, info string
}

func (w *world) rows(ctx context.Context) (map[string]row, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	result, err := w.pool.Query(ctx, `SELECT session_id::text, session_name, status::text, coalesce(agent, ''), coalesce(container_id, ''), coalesce(status_info, '') FROM kernels`)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	all := make(map[string]row)
	for result.Next() {
		var r row
		if err := result.Scan(&r.id, &r.name, &r.status, &r.agent, &r.container, &r.info); err != nil {
			return nil, err
		}
		all[r.id] = r
	}
	return all, result.Err()
}

func (r row) live() bool { return r.status == "RUNNING" }
func (r row) over() bool {
	return r.status == "TERMINATED" || r.status == "CANCELLED" || r.status == "ERROR"
}

func (r row) String() string {
	return fmt.Sprintf("%s (%s) %s on %s, container %.12s, %s", r.name, r.id, r.status, r.agent, r.container, r.info)
}

// disagreement compares rows with what the agents know; "" when they agree. Pure. I4: nothing is on its way. I8: rows = agents' truth.
func disagreement(rows map[string]row, truth map[string][2]string) string {
	var wrong []string
	for _, r := range rows {
		at, known := truth[r.id]
		switch {
		case !r.live() && !r.over():
			wrong = append(wrong, fmt.Sprintf("I4: %s neither runs nor has ended (an agent knows it: %v)", r, known))
		case r.live() && !known:
			wrong = append(wrong, fmt.Sprintf("I8: %s, but no agent knows it", r))
		case r.live() && (at[0] != r.agent || at[1] != r.container):
			wrong = append(wrong, fmt.Sprintf("I8: %s, but it is on %s, container %.12s", r, at[0], at[1]))
		case r.over() && known:
			wrong = append(wrong, fmt.Sprintf("I8: %s, but it runs on %s", r, at[0]))
		}
	}
	for id, at := range truth {
		if _, ok := rows[id]; !ok {
			wrong = append(wrong, fmt.Sprintf("I8: %s runs on %s, but has no row", id, at[0]))
		}
	}
	slices.Sort(wrong)
	if len(wrong) > 6 {
		wrong = append(wrong[:6], fmt.Sprintf("and %d more", len(wrong)-6))
	}
	return strings.Join(wrong, "; ")
}

// quietLimit is how long the cluster may take to come to rest without load.
const quietLimit = 60 * time.Second

// slotsLimit is how long figures of occupied slots may be wrong: a scheduler compares what it knows with the rows every 30 s, and believes
// what two readings in a row show.
const slotsLimit = 80 * time.Second

// rest holds the load and checks that rows and agents agree; sessions that lost clients have left behind are destroyed.
func (w *world) rest(ctx context.Context, last bool) {
	release := w.load.hold()
	defer release()
	began := w.now()
	var rows map[string]row
	agree := func() (err error) {
		if rows, err = w.rows(ctx); err != nil {
			return err
		}
		if text := disagreement(rows, w.fleet.kernels()); text != "" {
			return fmt.Errorf("%s", text)
		}
		return nil
	}
	if err := eventually(ctx, quietLimit, agree); err != nil {
		w.violate("", "the cluster does not come to rest within %s: %v", quietLimit, err)
	}
	took := w.now() - began
	w.checkPromises(rows)
	residents := make(map[string]resident)
	for _, r := range w.living() {
		residents[r.ID] = r
	}
	w.checkResidents(rows, residents)
	behind := 0
	left := slices.DeleteFunc(slices.Collect(maps.Values(rows)), func(r row) bool {
		_, resident := residents[r.id]
		if gone := resident && !last || !r.live() && r.status != "ERROR"; gone {
			return true
		}
		if !resident {
			behind++
		}
		return false
	})
	atOnce(8, len(left), func(i int) {
		_ = eventually(ctx, 20*time.Second, func() error {
			call, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			status, err := w.load.client.do(call, "DELETE", "/session/"+left[i].id+"?forced="+fmt.Sprint(left[i].status == "ERROR"), nil, nil)
			if status == 404 {
				return nil
			}
			return err
		})
	})
	if err := eventually(ctx, quietLimit, agree); err != nil {
		w.violate("", "after the destruction of %d sessions that were left behind: %v", len(left), err)
	}
	began = w.now()
	if err := eventually(ctx, slotsLimit, func() error { return w.slotsAgree(ctx, rows) }); err != nil {
		w.violate("", "%v, for %s", err, slotsLimit)
	} else if d := w.now() - began; d > time.Second {
		w.say("figures of occupied slots were wrong for %s, until the scheduler had read the rows again", short(d))
	}
	if last {
		for id, r := range rows {
			if r.live() {
				w.violate("", "%s (%s) still runs after everything was destroyed", r.name, id)
			}
		}
	}
	w.add(entry{Start: began, End: w.now(), What: "rest", Text: fmt.Sprintf("at rest after %.1f s; %d sessions had been left behind", took.Seconds(), behind)})
	w.say("at rest after %.1f s: rows and agents agree on %d sessions; %d that nobody had destroyed are destroyed now", took.Seconds(), len(rows), behind)
}

// checkPromises: an accepted creation has a row, and what was destroyed has ended.
func (w *world) checkPromises(rows map[string]row) {
	w.load.mu.Lock()
	defer w.load.mu.Unlock()
	for id, name := range w.load.accepted {
		if _, ok := rows[id]; !ok {
			w.violate("", "I4: the creation of %s (%s) was accepted, but there is no row", name, id)
		}
	}
	for id := range w.load.ended {
		if r := rows[id]; r.live() {
			w.violate("", "the destruction of %s was answered with 200, but it runs", r)
		}
	}
	clear(w.load.accepted)
	clear(w.load.ended)
}

// checkResidents: none is lost.
func (w *world) checkResidents(rows map[string]row, residents map[string]resident) {
	for id, r := range residents {
		if row := rows[id]; !row.live() || row.container != r.Container || row.agent != r.Agent {
			w.violate("", "resident %s lives on %s in the container %.12s, but the row says: %s", r.Name, r.Agent, r.Container, row)
		}
	}
}

// slotsAgree compares what the agents' rows say is occupied with the sessions that run.
func (w *world) slotsAgree(ctx context.Context, rows map[string]row) error {
	expected := make(map[string]int64)
	for _, r := range rows {
		if r.live() {
			expected[r.agent]++
		}
	}
	result, err := w.pool.Query(ctx, `SELECT id, status::text, occupied_slots FROM agents`)
	if err != nil {
		return err
	}
	defer result.Close()
	for result.Next() {
		var id, status string
		var slots backendai.ResourceSlots
		if err := result.Scan(&id, &status, &slots); err != nil {
			return err
		}
		n := expected[id]
		want := backendai.SlotsOf("cpu", fmt.Sprint(n), "mem", fmt.Sprint(n*256<<20))
		if slots.Get("cpu").String() != want.Get("cpu").String() || slots.Get("mem").String() != want.Get("mem").String() {
			return fmt.Errorf("agent %s (%s) is said to have %v occupied; it has %d sessions", id, status, slots, n)
		}
	}
	return result.Err()
}

// checkSins: I1 and I3, counted by the agents. The counts that were told before are not told again.
func (w *world) checkSins(k kind, told map[string]int) {
	overcommits, duplicates := w.fleet.sins()
	for name, counts := range map[string]map[string]int{"I1: more kernels than fit": overcommits, "I3: a kernel created while it runs": duplicates} {
		for id, n := range counts {
			if n > told[name+id] {
				told[name+id] = n
				w.violate(k, "%s, on %s (%d times)", name, id, n)
			}
		}
	}
}

// checkLogs: no goroutine of a node has panicked.
func (w *world) checkLogs() {
	for _, n := range w.nodes {
		text := n.tail(1 << 30)
		for _, sign := range []string{"panic: ", "fatal error: ", "DATA RACE", "goroutine 1 ["} {
			if i := strings.Index(text, sign); i >= 0 {
				w.violate("", "%s says:\n%s", n.Name, text[i:min(len(text), i+2000)])
			}
		}
	}
}
