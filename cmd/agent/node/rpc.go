package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/persistence/redis/event"
)

// nothing makes a handler of a function that returns only an error.
func nothing[Q any](f func(context.Context, Q) error) func(context.Context, Q) (callosum.Nothing, error) {
	return func(ctx context.Context, q Q) (callosum.Nothing, error) { return callosum.Nothing{}, f(ctx, q) }
}

// register hands the methods to the server (spec/agent-protocol §5).
func (n *Node) register() {
	handle := func(method string, h callosum.Handler) {
		n.server.Handle(method, func(ctx context.Context, a callosum.Arguments) ([]byte, error) {
			if err := n.epochs.admit(callosum.FenceOf(ctx)); err != nil {
				return nil, err
			}
			return h(ctx, a)
		})
	}
	handle(callosum.MethodPing, callosum.Typed(func(_ context.Context, q callosum.Ping) (string, error) { return q.Msg, nil }))
	handle(callosum.MethodPingKernel, callosum.Typed(nothing(func(context.Context, callosum.PingKernel) error { return nil })))
	handle(callosum.MethodGatherHWInfo, callosum.Typed(func(context.Context, callosum.GatherHWInfo) (callosum.HardwareInfos, error) {
		return callosum.HardwareInfos{}, nil
	}))
	handle(callosum.MethodUpdateScalingGroup, callosum.Typed(nothing(n.updateScalingGroup)))
	handle(callosum.MethodCreateKernels, callosum.Typed(n.createKernels))
	handle(callosum.MethodDestroyKernel, callosum.Typed(nothing(n.destroyByID)))
	handle(callosum.MethodRestartKernel, callosum.Typed(n.restart))
	handle(callosum.MethodInterruptKernel, callosum.Typed(nothing(func(ctx context.Context, q callosum.InterruptKernel) error {
		k, err := n.find(q.KernelID)
		if err != nil {
			return err
		}
		return k.client.Interrupt(ctx)
	})))
	handle(callosum.MethodGetCompletions, callosum.Typed(n.complete))
	handle(callosum.MethodGetLogs, callosum.Typed(n.logs))
	handle(callosum.MethodExecute, callosum.Typed(n.execute))
	handle(callosum.MethodExecuteBatch, callosum.Typed(nothing(func(_ context.Context, q callosum.ExecuteBatch) error {
		k, err := n.find(q.KernelID)
		if err == nil {
			n.runBatch(k, q.StartupCommand)
		}
		return err
	})))
	handle(callosum.MethodStartService, callosum.Typed(n.startService))
	handle(callosum.MethodShutdownService, callosum.Typed(nothing(func(ctx context.Context, q callosum.ShutdownService) error {
		if k, err := n.find(q.KernelID); err == nil {
			if err := k.client.StopService(ctx, q.Service); err != nil {
				n.log.Info("a service cannot be stopped", "kernel", q.KernelID, "service", q.Service, "err", err)
			}
		}
		return nil // whatever happened (spec/agent-protocol §5.14)
	})))
	handle(callosum.MethodUploadFile, callosum.Typed(nothing(func(_ context.Context, q callosum.UploadFile) error {
		k, err := n.find(q.KernelID)
		if err != nil {
			return err
		}
		r := k.snapshot()
		return n.home(&r).Upload(q.Filename, q.Data)
	})))
	handle(callosum.MethodDownloadFile, callosum.Typed(func(_ context.Context, q callosum.DownloadFile) ([]byte, error) {
		k, err := n.find(q.KernelID)
		if err != nil {
			return nil, err
		}
		r := k.snapshot()
		return n.home(&r).Download(q.Path)
	}))
	handle(callosum.MethodListFiles, callosum.Typed(func(_ context.Context, q callosum.ListFiles) (callosum.FileList, error) {
		k, err := n.find(q.KernelID)
		if err != nil {
			return callosum.FileList{}, err
		}
		r := k.snapshot()
		return n.home(&r).List(q.Path)
	}))
	for _, verb := range []callosum.Network{callosum.CreateLocalNetwork, callosum.DestroyLocalNetwork, callosum.CreateOverlayNetwork, callosum.DestroyOverlayNetwork} {
		handle(string(verb), callosum.Typed(nothing(n.network)))
	}
	handle(callosum.MethodShutdownAgent, callosum.Typed(nothing(func(_ context.Context, q callosum.ShutdownAgent) error {
		if n.config.RequestStop != nil {
			n.config.RequestStop(q.TerminateKernels)
		}
		return nil
	})))
	handle(callosum.MethodResetAgent, callosum.Typed(nothing(func(ctx context.Context, _ callosum.ResetAgent) error {
		n.destroyAll(ctx, "agent-reset")
		return ctx.Err()
	})))
	handle(callosum.MethodCleanAllKernels, callosum.Typed(nothing(func(ctx context.Context, q callosum.CleanAllKernels) error {
		n.destroyAll(ctx, q.Reason)
		return ctx.Err()
	})))
}

// createKernels creates all at once, waits for all, and fails as the original does (spec/agent-protocol §5.5).
func (n *Node) createKernels(ctx context.Context, q callosum.CreateKernels) ([]callosum.KernelCreationResult, error) {
	if len(q.KernelIDs) != len(q.Configs) {
		return nil, callosum.Exception("ValueError", "kernel ids and configurations differ in number")
	}
	for _, c := range q.Configs {
		if c.InternalData != nil {
			if err := n.epochs.admit(c.InternalData.Fence); err != nil {
				return nil, err
			}
		}
	}
	results := make([]callosum.KernelCreationResult, len(q.KernelIDs))
	errs := make([]error, len(q.KernelIDs))
	var wait sync.WaitGroup
	for i := range q.KernelIDs {
		wait.Go(func() {
			results[i], errs[i] = n.create(ctx, q.CreationID, q.SessionID, q.KernelIDs[i], q.Configs[i], q.ClusterInfo)
		})
	}
	wait.Wait()
	var failed []error
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	switch len(failed) {
	case 0:
		return results, nil
	case 1:
		return nil, failed[0]
	}
	return nil, callosum.Exception("TaskGroupError", "agent.create_kernels() failed")
}

func (n *Node) complete(ctx context.Context, q callosum.GetCompletions) (callosum.Completions, error) {
	k, err := n.find(q.KernelID)
	if err != nil {
		return callosum.Completions{}, err
	}
	list, err := k.client.Complete(ctx, q.Text)
	if err != nil && !errors.Is(err, host.ErrGone) {
		return callosum.Completions{}, err
	}
	return callosum.Completions{Status: "finished", Completions: list}, nil
}

func (n *Node) logs(_ context.Context, q callosum.GetLogs) (callosum.Logs, error) {
	k, err := n.find(q.KernelID)
	if err != nil {
		return callosum.Logs{}, err
	}
	raw, err := os.ReadFile(filepath.Join(n.layout(k.id.String()).private(), host.LogFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return callosum.Logs{}, err
	}
	return callosum.Logs{Logs: strings.ToValidUTF8(string(raw), "\uFFFD")}, nil
}

func (n *Node) startService(ctx context.Context, q callosum.StartService) (callosum.ServiceResult, error) {
	k, err := n.find(q.KernelID)
	if err != nil {
		return callosum.ServiceResult{}, err
	}
	r := k.snapshot()
	if d := r.Config.InternalData; d != nil && d.BlockServicePorts {
		return callosum.ServiceResult{Status: "failed", Error: "operation blocked"}, nil
	}
	for _, p := range r.ServicePorts {
		if p.Name != q.Service || len(p.HostPorts) == 0 {
			continue
		}
		s := host.Service{Name: p.Name, Protocol: p.Protocol, Port: p.HostPorts[0], Envs: map[string]string{}}
		if envs, ok := q.Opts.Get("envs"); ok {
			if m, ok := envs.(callosum.Map); ok {
				for _, e := range m {
					s.Envs[e.Key] = fmt.Sprint(e.Value)
				}
			}
		}
		status, err := k.client.StartService(ctx, s)
		if err != nil {
			return callosum.ServiceResult{Status: "failed", Error: "cancelled"}, nil
		}
		return callosum.ServiceResult{Status: status.Status, Error: status.Error}, nil
	}
	return callosum.ServiceResult{Status: "failed", Error: "invalid service name"}, nil
}

func (n *Node) updateScalingGroup(_ context.Context, q callosum.UpdateScalingGroup) error {
	if n.config.SaveScalingGroup != nil {
		if err := n.config.SaveScalingGroup(q.ScalingGroup); err != nil {
			return callosum.Exception("OSError", err.Error())
		}
	}
	n.mu.Lock()
	n.scalingGroup = q.ScalingGroup
	n.mu.Unlock()
	n.beat()
	return nil
}

// network keeps the names: kernels of one machine share its network, so there is nothing to make.
func (n *Node) network(_ context.Context, q callosum.NetworkCall) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch q.Verb {
	case callosum.CreateLocalNetwork:
		n.networks[q.Name] = true
	case callosum.DestroyLocalNetwork:
		if !n.networks[q.Name] {
			return callosum.Exception("DockerError", int64(404), "network "+q.Name+" not found")
		}
		delete(n.networks, q.Name)
	default:
		return callosum.Exception("RuntimeError", "This agent has no overlay networks")
	}
	return nil
}

// onFailure tells the cluster of every exception that reached a caller.
func (n *Node) onFailure(method string, err *callosum.RemoteError) {
	text := strings.TrimSpace(err.Traceback)
	message := text[strings.LastIndexByte(text, '\n')+1:]
	if message == "" {
		message = err.Repr
	}
	n.log.Info("a call failed", "method", method, "error", message)
	n.bus.Publish(event.AgentError{Message: message, Traceback: &text, Context: event.Object{}, Severity: "error"})
}
