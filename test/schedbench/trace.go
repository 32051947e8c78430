package main

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/scheduler"
)

// The trace is drawn, not recorded. Its shape is the published one of large multi-tenant GPU clusters: most jobs
// want one GPU, few want many and take most of the GPU time, run times are heavy-tailed (minutes at the median, days at the end),
// and a small part of the users submits most jobs. See Jeon et al., "Analysis of Large-Scale Multi-Tenant GPU
// Clusters for DNN Training Workloads", USENIX ATC 2019 (Philly), and Hu et al., "Characterization and Prediction of Deep Learning Workloads
// in Large-Scale GPU Datacenters", SC 2021 (Helios). The figures below are ours within that shape.
var jobSizes = []struct {
	gpus    int
	of      float64 // share of the jobs
	minutes float64 // median run time
}{{1, 0.75, 12}, {2, 0.08, 20}, {4, 0.07, 30}, {8, 0.08, 60}, {16, 0.02, 120}}

const (
	sigma      = 1.6 // of the logarithm of run times: the mean is 3.6 times the median
	longest    = 60 * time.Hour
	traceUsers = 60
	offered    = 0.95 // of the cluster's GPUs, on average while jobs arrive
)

type job struct {
	id       uuid.UUID
	kernels  []uuid.UUID
	gpus     int
	arrival  time.Duration
	duration time.Duration
	limit    time.Duration // that its user asks for; people ask for more than they need
	start    time.Duration
	user     int
}

// Outcome is what a policy has made of the trace.
type Outcome struct {
	Policy      string  `json:"policy"`
	Jobs        int     `json:"jobs"`
	GPUs        int     `json:"gpus"`
	Makespan    float64 `json:"makespan_hours"`
	Utilisation float64 `json:"utilisation"` // of GPUs, while jobs arrived
	Fairness    float64 `json:"jain_fairness"`
	Waits       []Wait  `json:"waits"`
	Decisions   int     `json:"decisions"`
}

// Wait is the time from arrival to start of jobs of one size.
type Wait struct {
	GPUs int     `json:"gpus"`
	Jobs int     `json:"jobs"`
	P50  float64 `json:"p50_seconds"`
	P99  float64 `json:"p99_seconds"`
}

func drawTrace(jobs, gpus int) []*job {
	r := rand.New(rand.NewPCG(3, 4))
	var list []*job
	work := 0.0
	for range jobs {
		size := jobSizes[0]
		at := r.Float64()
		for _, s := range jobSizes {
			size = s
			if at -= s.of; at < 0 {
				break
			}
		}
		d := time.Duration(size.minutes * math.Exp(sigma*r.NormFloat64()) * float64(time.Minute))
		j := &job{gpus: size.gpus, duration: min(max(d, 10*time.Second), longest), user: int(float64(traceUsers) * math.Pow(r.Float64(), 3))}
		work += float64(j.gpus) * j.duration.Seconds()
		list = append(list, j)
	}
	asked := rand.New(rand.NewPCG(5, 6)) // of its own, so that the trace is the same without
	for _, j := range list {
		j.limit = time.Duration(float64(j.duration) * (1 + 3*asked.Float64()))
	}
	// Arrivals come at random, so many an hour that the work offered is the wanted share of the cluster.
	mean := work / (offered * float64(gpus)) / float64(jobs)
	var now time.Duration
	for _, j := range list {
		now += time.Duration(r.ExpFloat64() * mean * float64(time.Second))
		j.arrival = now
	}
	return list
}

// ends is a heap of running jobs by their end.
type ends []*job

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].start+e[i].duration < e[j].start+e[j].duration }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(*job)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// play runs a trace through a policy in virtual time.
func play(policy protocol.Policy, label string, jobs, machines int) Outcome {
	w := newWorld(policy.Name, 0)
	w.core.Apply(&protocol.PolicyChanged{Policy: policy}, w.now)
	for i := range machines {
		w.core.Apply(&protocol.AgentState{ID: fmt.Sprintf("gpu%03d", i), ScalingGroup: group, Architecture: "x86_64", Alive: true, Schedulable: true,
			Available: backendai.SlotsOf("cpu", "64", "mem", "512g", "cuda.device", "8")}, w.now)
	}
	trace := drawTrace(jobs, machines*8)
	out := Outcome{Policy: label, Jobs: jobs, GPUs: machines * 8}
	epoch, last := w.now, trace[len(trace)-1].arrival
	byID := make(map[uuid.UUID]*job)
	var running ends
	var busy, now time.Duration // busy: GPU time until the last arrival
	var used int
	tick := 10 * time.Second
	advance := func(to time.Duration) {
		if until := min(to, last); until > now {
			busy += (until - now) * time.Duration(used)
		}
		now = to
	}
	for next := 0; next < len(trace) || len(running) > 0; {
		at := time.Duration(math.MaxInt64)
		if next < len(trace) {
			at = trace[next].arrival
		}
		if len(running) > 0 {
			at = min(at, running[0].start+running[0].duration)
		}
		// The tick matters to what retries to skip are counted by; the original's goes every ten seconds.
		if waiting, _ := w.core.QueueLength(); waiting > 0 && policy.RetriesToSkip > 0 {
			at = min(at, (now/tick+1)*tick)
		}
		advance(at)
		t := epoch.Add(now)
		if now%tick == 0 {
			w.core.Apply(&protocol.Tick{Now: t}, t)
		}
		for ; next < len(trace) && trace[next].arrival <= now; next++ {
			j := trace[next]
			s := w.session()
			s.CreatedAt, s.AccessKey, s.Kernels, s.ClusterMode = t, fmt.Sprint("user", j.user), nil, backendai.SingleNode
			each := min(j.gpus, 8)
			if j.gpus > each {
				s.ClusterMode = backendai.MultiNode
			}
			w.kernels(&s, j.gpus/each, backendai.SlotsOf("cpu", fmt.Sprint(6*each), "mem", fmt.Sprint(48*each, "g"), "cuda.device", fmt.Sprint(each)))
			for _, k := range s.Kernels {
				j.kernels = append(j.kernels, k.ID)
			}
			if policy.Options.Backfill {
				s.Wishes.TimeLimit = j.limit
			}
			j.id = s.ID
			byID[s.ID] = j
			w.core.Apply(&protocol.Enqueue{Session: s}, t)
		}
		for len(running) > 0 && running[0].start+running[0].duration <= now {
			j := heap.Pop(&running).(*job)
			used -= j.gpus
			w.core.Apply(&protocol.Ending{KernelIDs: j.kernels}, t)
			w.core.Apply(&protocol.Release{KernelIDs: j.kernels}, t)
			out.Makespan = now.Hours()
		}
		if !w.core.Due() {
			continue
		}
		effects, err := w.core.Pass(t)
		if err != nil {
			panic(err)
		}
		for _, e := range effects {
			switch e := e.(type) {
			case scheduler.Place:
				out.Decisions++
				w.core.Apply(&protocol.Placed{SessionID: e.SessionID, Committed: true}, t)
				j := byID[e.SessionID]
				j.start = now
				used += j.gpus
				heap.Push(&running, j)
			case scheduler.Report:
				out.Decisions++
			}
		}
	}
	out.Utilisation = busy.Seconds() / (last.Seconds() * float64(out.GPUs))
	out.Fairness = jain(trace)
	for _, size := range jobSizes {
		var waits []float64
		for _, j := range trace {
			if j.gpus == size.gpus {
				waits = append(waits, (j.start - j.arrival).Seconds())
			}
		}
		slices.Sort(waits)
		if len(waits) > 0 {
			out.Waits = append(out.Waits, Wait{GPUs: size.gpus, Jobs: len(waits), P50: waits[len(waits)/2], P99: waits[len(waits)*99/100]})
		}
	}
	return out
}

// jain is Jain's index of the users' mean slowdowns, inverted so that more is better for a user: 1 is perfectly fair, 1/users is not at
// all. Slowdowns are bounded: a job counts as at least ten minutes, or the shortest would decide everything.
func jain(trace []*job) float64 {
	slow, count := make(map[int]float64), make(map[int]float64)
	for _, j := range trace {
		d := max(j.duration, 10*time.Minute).Seconds()
		slow[j.user] += ((j.start - j.arrival).Seconds() + d) / d
		count[j.user]++
	}
	var sum, squares float64
	users := make([]int, 0, len(slow))
	for u := range slow {
		users = append(users, u)
	}
	slices.SortFunc(users, cmp.Compare[int])
	for _, u := range users {
		speed := count[u] / slow[u]
		sum += speed
		squares += speed * speed
	}
	return sum * sum / (float64(len(slow)) * squares)
}
