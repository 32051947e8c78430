package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// A stretch is so many decisions, a tenth of a second: a noisy machine then disturbs all that are compared alike. Together they are enough
// for ten collections of the garbage of the largest.
const stretch, stretches = 5000, 200

// Parked is what 100,000 parked sessions cost fifo on 5,000 agents with 10,000 sessions ready.
type Parked struct {
	Cost    float64 `json:"cost"`    // the part of the throughput
	Control float64 `json:"control"` // by how much the two without any differ: how exact this is
}

// parkedCost measures it. Three schedulers, two of them without parked sessions, work in turn for a stretch each, each in a process of
// its own on one processor, so that all that it takes is counted for it, collections of garbage included.
func parkedCost() (p Parked, err error) {
	var workers [3]*worker
	for i, parked := range []int{0, 0, 100_000} {
		if workers[i], err = startWorker(parked); err != nil {
			return p, err
		}
		defer workers[i].stop()
	}
	var taken [len(workers)]time.Duration
	order := rand.New(rand.NewPCG(1, 2)) // who comes behind whom must not matter: they leave each other's data in the caches
	for range stretches {
		for _, i := range order.Perm(len(workers)) {
			d, err := workers[i].work()
			if err != nil {
				return p, err
			}
			taken[i] += d
		}
	}
	without := (taken[0] + taken[1]).Seconds() / 2
	return Parked{Cost: 1 - without/taken[2].Seconds(), Control: taken[0].Seconds()/taken[1].Seconds() - 1}, nil
}

// worker is a process with a scheduler at work.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startWorker starts this program with -worker.
func startWorker(parked int) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.Command(self, "-worker", "-parked", strconv.Itoa(parked))}
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewScanner(out)
	return w, w.cmd.Start()
}

// work is the processor time of a stretch.
func (w *worker) work() (time.Duration, error) {
	if _, err := fmt.Fprintln(w.in); err != nil {
		return 0, err
	}
	if !w.out.Scan() {
		return 0, fmt.Errorf("a worker has ended: %w", w.out.Err())
	}
	return time.ParseDuration(w.out.Text())
}

func (w *worker) stop() {
	_ = w.in.Close()
	_ = w.cmd.Wait() // it ends with its input, and has nothing to say any more
}

// serveStretches is the worker's side: for each line it reads, it works for a stretch and tells the processor time it took.
func serveStretches(parked int, in io.Reader, out io.Writer) error {
	world := newWorld("fifo", 5000)
	world.park(parked)
	world.fill(10_000)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		begin, made := spent(), 0
		for made < stretch {
			made += world.turn()
		}
		if _, err := fmt.Fprintln(out, (spent()-begin)*stretch/time.Duration(made)); err != nil {
			return err
		}
	}
	return lines.Err()
}
