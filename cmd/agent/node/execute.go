package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/persistence/redis/event"
)

func (n *Node) execute(ctx context.Context, q callosum.Execute) (callosum.ExecuteResult, error) {
	k, err := n.find(q.KernelID)
	if err != nil {
		if id, parseErr := backendai.ParseKernelID(q.KernelID); parseErr == nil {
			err = callosum.Exception("RuntimeError", fmt.Sprintf("The container for kernel %s is not found! (might be terminated--try it again)", id))
		}
		return callosum.ExecuteResult{}, err
	}
	runID := ""
	if q.RunID != nil {
		runID = *q.RunID
	}
	if runID == "" {
		raw := make([]byte, 16)
		rand.Read(raw)
		runID = hex.EncodeToString(raw)
	}
	res, err := n.run(ctx, k, host.Request{
		RunID: runID, Mode: q.Mode, Code: q.Code, FlushSeconds: q.FlushTimeout, Clean: option(q.Opts, "clean"), Build: option(q.Opts, "build"), Exec: option(q.Opts, "exec"),
	})
	if err != nil {
		return callosum.ExecuteResult{}, err
	}
	return shape(res, q.APIVersion), nil
}

func option(opts callosum.Map, name string) *string {
	if v, ok := opts.Get(name); ok {
		if text, ok := v.(string); ok {
			return &text
		}
	}
	return nil
}

// run asks the kernel's host and tells the cluster that the session is in use.
func (n *Node) run(ctx context.Context, k *kernel, q host.Request) (host.Result, error) {
	select {
	case <-k.created:
	case <-ctx.Done():
		return host.Result{}, ctx.Err()
	}
	k.mu.Lock()
	ready := k.ready
	k.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
		return host.Result{}, ctx.Err()
	}
	session := event.ExecutionStarted{Session: backendai.SessionID(k.id)} // the kernel's id stands for the session's (spec/agent-protocol §8)
	n.bus.Publish(session)
	res, err := k.client.Execute(ctx, q)
	switch {
	case err == nil && res.Status == host.StatusFinished:
		n.bus.Publish(event.ExecutionFinished(session))
	case err != nil:
		n.bus.Publish(event.ExecutionCancelled(session))
		if errors.Is(err, host.ErrGone) {
			err = context.Canceled // reaches the caller as CANCELLED
		} else if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			err = callosum.Exception("RuntimeError", err.Error())
		}
	}
	return res, err
}

// shape makes the answer of the API version (spec/agent-protocol §5.11).
func shape(r host.Result, version int) callosum.ExecuteResult {
	out := callosum.ExecuteResult{RunID: r.RunID, Status: r.Status, ExitCode: r.ExitCode, Console: [][]any{}}
	if r.Status == host.StatusWaitingInput {
		out.Options = callosum.Map{{Key: "is_password", Value: r.IsPassword}}
	}
	v1 := &callosum.ConsoleV1{}
	for _, i := range r.Console {
		switch i.Type {
		case "html":
			var text string
			json.Unmarshal(i.Data, &text)
			out.Console = append(out.Console, []any{"html", text})
			v1.HTML = append(v1.HTML, text)
		case "media":
			var pair []string
			if json.Unmarshal(i.Data, &pair) == nil && len(pair) == 2 {
				media := []any{pair[0], pair[1]}
				out.Console = append(out.Console, []any{"media", media})
				v1.Media = append(v1.Media, media)
			}
		case "stdout":
			out.Console = append(out.Console, []any{i.Type, i.Text})
			v1.Stdout += i.Text
		case "stderr":
			out.Console = append(out.Console, []any{i.Type, i.Text})
			v1.Stderr += i.Text
		}
	}
	if version < 2 {
		out.Console, out.V1 = nil, v1
	}
	return out
}

// batchRun is the reserved id of a batch session's run.
const batchRun = "batch-job"

// watchBatch runs the start-up command of a batch kernel, or goes on watching it, until its outcome is published.
func (n *Node) watchBatch(k *kernel) {
	r := k.snapshot()
	if r.Config.SessionType != "batch" || r.Config.ClusterRole != "main" && r.Config.ClusterRole != "master" {
		return
	}
	command := ""
	if r.Config.StartupCommand != nil {
		command = *r.Config.StartupCommand
	}
	n.runBatch(k, command)
}

func (n *Node) runBatch(k *kernel, command string) {
	k.mu.Lock()
	begin := !k.batch && !k.record.BatchDone
	k.batch = k.batch || begin
	k.mu.Unlock()
	if !begin {
		return
	}
	n.work.Go(func() {
		outcome, ok := n.batch(k, command)
		k.mu.Lock()
		k.batch = false
		k.mu.Unlock()
		if !ok {
			return // the agent ends, or the kernel is gone, which is reported otherwise
		}
		if outcome.ExitCode == 0 {
			n.bus.Publish(event.SessionSuccess(outcome))
		} else {
			n.bus.Publish(event.SessionFailure(outcome))
		}
		if err := n.update(k, func(r *record) { r.BatchDone = true }); err != nil {
			n.log.Warn("the end of a batch command cannot be noted", "kernel", k.id, "err", err)
		}
	})
}

// batch polls the run to its end. The host knows whether the agent before has begun it.
func (n *Node) batch(k *kernel, command string) (event.SessionSuccess, bool) {
	outcome := event.SessionSuccess{Session: backendai.SessionID(k.id), Reason: "task-done"}
	flush := 1.0
	request := host.Request{RunID: batchRun, Mode: "continue", FlushSeconds: &flush}
	if _, err := k.client.Execute(n.ctx, request); err != nil {
		request.Mode, request.Exec = "batch", &command
	}
	for {
		res, err := n.run(n.ctx, k, request)
		switch {
		case n.ctx.Err() != nil:
			return outcome, false
		case err != nil && k.isRunning():
			select {
			case <-n.ctx.Done():
				return outcome, false
			case <-time.After(200 * time.Millisecond): // the host is about to be reported gone, or is restarting
			}
			if strings.Contains(err.Error(), "is not under way") { // it has restarted
				request.Mode, request.Exec = "batch", &command
			}
		case err != nil:
			outcome.Reason, outcome.ExitCode = "task-cancelled", -2
			return outcome, true
		case res.Status == host.StatusFinished:
			if res.ExitCode != nil && *res.ExitCode != 0 {
				outcome.Reason, outcome.ExitCode = "task-failed", *res.ExitCode
			}
			return outcome, true
		default:
			request.Mode, request.Exec = "continue", nil
		}
	}
}
