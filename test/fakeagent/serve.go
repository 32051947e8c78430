package fakeagent

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// methods are the calls that the agent answers.
func (a *Agent) methods() map[string]callosum.Handler {
	network := func(context.Context, callosum.Arguments) ([]byte, error) { return []byte{0xc0}, nil }
	return map[string]callosum.Handler{
		callosum.MethodPing:                callosum.Typed(func(_ context.Context, r callosum.Ping) (string, error) { return r.Msg, nil }),
		callosum.MethodCreateKernels:       callosum.Typed(a.create),
		callosum.MethodDestroyKernel:       callosum.Typed(a.destroy),
		callosum.MethodRestartKernel:       callosum.Typed(a.restart),
		callosum.MethodStartService:        callosum.Typed(a.startService),
		callosum.MethodShutdownService:     callosum.Typed(a.shutdownService),
		callosum.MethodExecute:             callosum.Typed(a.execute),
		callosum.MethodGetCompletions:      callosum.Typed(a.completions),
		callosum.MethodGetLogs:             callosum.Typed(a.logs),
		callosum.MethodInterruptKernel:     callosum.Typed(a.interrupt),
		callosum.MethodUploadFile:          callosum.Typed(a.upload),
		callosum.MethodDownloadFile:        callosum.Typed(a.download),
		callosum.MethodListFiles:           callosum.Typed(a.list),
		callosum.MethodCreateLocalNetwork:  network,
		callosum.MethodDestroyLocalNetwork: network,
	}
}

// shown shows a call to who wants to see it.
func (a *Agent) shown(serve callosum.Handler) callosum.Handler {
	if a.cfg.Calls == nil {
		return serve
	}
	return func(ctx context.Context, args callosum.Arguments) ([]byte, error) {
		call, err := args.Call()
		if err != nil {
			return nil, err
		}
		a.cfg.Calls(call)
		return serve(ctx, args)
	}
}

// takePorts takes n ports in a row and returns the first.
func (a *Agent) takePorts(n int) int {
	a.port += n
	return a.port - n + 1
}

// servicePorts are those of the image's label, and the two that every main kernel has (spec/agent-protocol §4.7).
func (a *Agent) servicePorts(config callosum.KernelCreationConfig) []callosum.ServicePort {
	var ports []callosum.ServicePort
	add := func(name, protocol string, container ...int) {
		p := callosum.ServicePort{Name: name, Protocol: protocol, ContainerPorts: container}
		for range container {
			p.HostPorts = append(p.HostPorts, a.takePorts(1))
		}
		ports = append(ports, p)
	}
	if parsed, err := backendai.ImageLabels(config.Image.Labels).ServicePorts(); err == nil {
		for _, s := range parsed {
			if s.Protocol != "pty" {
				add(s.Name, string(s.Protocol), s.Ports...)
			}
		}
	}
	add("sshd", "tcp", 2200)
	add("ttyd", "http", 7681)
	return ports
}

func (a *Agent) restart(_ context.Context, r callosum.RestartKernel) (callosum.RestartResult, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.RestartResult{}, err
	}
	a.mu.Lock()
	k.Container = token()
	port := a.takePorts(2)
	result := callosum.RestartResult{ContainerID: k.Container, ReplInPort: port, ReplOutPort: port + 1, ServicePorts: k.ports}
	a.mu.Unlock()
	a.event("kernel_started", r.KernelID, r.CreationID, "")
	return result, nil
}

func (a *Agent) startService(_ context.Context, r callosum.StartService) (callosum.ServiceResult, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.ServiceResult{}, err
	}
	if !slices.ContainsFunc(k.ports, func(p callosum.ServicePort) bool { return p.Name == r.Service }) {
		return callosum.ServiceResult{Status: "failed", Error: "invalid service name"}, nil
	}
	return callosum.ServiceResult{Status: "started"}, nil
}

func (a *Agent) shutdownService(_ context.Context, r callosum.ShutdownService) (callosum.Nothing, error) {
	_, err := a.kernel(r.KernelID)
	return callosum.Nothing{}, err
}

// execute answers at once with the code that it was given, or its options in a batch run; code with input( waits for input. No code at
// all asks for the container's id, by which tests tell whether a kernel is still the same.
func (a *Agent) execute(_ context.Context, r callosum.Execute) (callosum.ExecuteResult, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.ExecuteResult{}, err
	}
	a.event("execution_started", r.KernelID)
	out, run, code := r.Code, token()[:32], 0
	if r.RunID != nil {
		run = *r.RunID
	}
	switch {
	case r.Mode == "query" && r.Code == "":
		a.mu.Lock()
		out = k.Container
		a.mu.Unlock()
	case r.Mode != "query" && r.Mode != "input":
		if out, err = spaced(r.Opts); err != nil {
			return callosum.ExecuteResult{}, callosum.Exception("TypeError", err.Error())
		}
	}
	result := callosum.ExecuteResult{RunID: run, Status: "finished", ExitCode: &code, Console: [][]any{{"stdout", out + "\n"}}}
	if r.Mode == "query" && strings.Contains(out, "input(") {
		result.Status, result.ExitCode, result.Options = "waiting-input", nil, callosum.Map{{Key: "is_password", Value: false}}
	}
	a.mu.Lock()
	k.log = append(k.log, out+"\n"...)
	a.mu.Unlock()
	a.event("execution_finished", r.KernelID)
	return result, nil
}

// spaced is a JSON object as Python writes it.
func spaced(m callosum.Map) (string, error) {
	items := make([]string, len(m))
	for i, e := range m {
		key, err := json.Marshal(e.Key)
		if err != nil {
			return "", err
		}
		value, err := json.Marshal(e.Value)
		if err != nil {
			return "", err
		}
		items[i] = string(key) + ": " + string(value)
	}
	return "{" + strings.Join(items, ", ") + "}", nil
}

// completions has none, as agents do.
func (a *Agent) completions(_ context.Context, r callosum.GetCompletions) (callosum.Nothing, error) {
	_, err := a.kernel(r.KernelID)
	return callosum.Nothing{}, err
}

func (a *Agent) logs(_ context.Context, r callosum.GetLogs) (callosum.Logs, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.Logs{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return callosum.Logs{Logs: string(k.log)}, nil
}

// leaveLog hands the log of a kernel that ends over.
func (a *Agent) leaveLog(id string) {
	k, err := a.kernel(id)
	if err != nil || a.cfg.Logs == nil {
		return
	}
	a.mu.Lock()
	log, container := slices.Clone(k.log), k.Container
	a.mu.Unlock()
	a.cfg.Logs(container, log)
	a.event("do_sync_kernel_logs", id, container)
}

func (a *Agent) interrupt(_ context.Context, r callosum.InterruptKernel) (callosum.Nothing, error) {
	_, err := a.kernel(r.KernelID)
	return callosum.Nothing{}, err
}

func (a *Agent) upload(_ context.Context, r callosum.UploadFile) (callosum.Nothing, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.Nothing{}, err
	}
	a.mu.Lock()
	k.files[strings.TrimLeft(r.Filename, "/")] = r.Data
	a.mu.Unlock()
	return callosum.Nothing{}, nil
}

// tarBlock is what Python pads archives to.
const tarBlock = 10240

func (a *Agent) download(_ context.Context, r callosum.DownloadFile) ([]byte, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return nil, err
	}
	name := strings.TrimLeft(strings.TrimPrefix(r.Path, "/home/work/"), "/")
	a.mu.Lock()
	data, ok := k.files[name]
	a.mu.Unlock()
	if !ok {
		return nil, callosum.Exception("KeyError", name)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: path.Base(name), Mode: 0o644, Size: int64(len(data)), ModTime: time.Now().Truncate(time.Second)}); err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if rest := out.Len() % tarBlock; rest > 0 {
		out.Write(make([]byte, tarBlock-rest))
	}
	return out.Bytes(), nil
}

func (a *Agent) list(_ context.Context, r callosum.ListFiles) (callosum.FileList, error) {
	k, err := a.kernel(r.KernelID)
	if err != nil {
		return callosum.FileList{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := float64(time.Now().UnixMicro()) / 1e6
	rows := []string{}
	for _, name := range slices.Sorted(maps.Keys(k.files)) {
		row, err := spaced(callosum.Map{{Key: "mode", Value: "-rw-r--r--"}, {Key: "size", Value: len(k.files[name])},
			{Key: "ctime", Value: now}, {Key: "mtime", Value: now}, {Key: "atime", Value: now}, {Key: "filename", Value: name}})
		if err != nil {
			return callosum.FileList{}, err
		}
		rows = append(rows, row)
	}
	return callosum.FileList{Files: "[" + strings.Join(rows, ", ") + "]\n", AbsPath: r.Path}, nil
}
