package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/cmd/agent/files"
	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/cmd/agent/runner"
	"backend.ai/manager/cmd/agent/sandbox"
)

// containerID makes an id of the form that official agents have.
func containerID(kernel, creation string) string {
	h := sha256.Sum256([]byte(kernel + "/" + creation))
	return hex.EncodeToString(h[:])
}

// image finds what a kernel shall run. Errors: AgentError for another architecture, ImageNotAvailable.
func (n *Node) image(c callosum.ImageConfig) (images.Image, error) {
	if a := backendai.NormalizeArchitecture(c.Architecture); c.Architecture != "" && a != n.config.Architecture {
		return images.Image{}, callosum.Exception("AgentError", fmt.Sprintf("cannot run %s image on %s machine", a, n.config.Architecture))
	}
	for _, i := range n.config.Images {
		if i.Canonical() == c.Canonical {
			return i, nil
		}
	}
	return images.Image{}, callosum.Exception("ImageNotAvailable", c.Canonical)
}

// mounts are the folders that the kernel shall see.
func mounts(c callosum.KernelCreationConfig) (list []callosum.Mount) {
	for _, m := range c.Mounts {
		if c.InternalData != nil && c.InternalData.PreventVFolderMounts && m.Name != ".logs" {
			continue
		}
		list = append(list, m)
	}
	return list
}

func (n *Node) home(r *record) files.Home {
	h := files.Home{Dir: n.layout(r.KernelID).work(), UID: n.config.Account.UID, GID: n.config.Account.GID}
	for _, m := range mounts(r.Config) {
		h.Folders = append(h.Folders, files.Folder{Target: m.KernelPath, Source: m.HostPath, ReadOnly: m.Perm == "ro"})
	}
	return h
}

// servicePorts lists the services of a kernel, with ports of this machine (spec/agent-protocol §4.7). Kernels share the machine's
// network: a pre-opened port keeps its number if it is free.
func (n *Node) servicePorts(r *record) error {
	r.ServicePorts = []callosum.ServicePort{}
	if role := r.Config.ClusterRole; role != "main" && role != "master" {
		return nil
	}
	add := func(name, protocol string, ports []int, keep bool) error {
		p := callosum.ServicePort{Name: name, Protocol: protocol, ContainerPorts: ports}
		for _, c := range ports {
			wanted := 0
			if keep {
				wanted = c
			}
			port, err := n.ports.Take(r.KernelID, wanted)
			if err != nil {
				return err
			}
			p.HostPorts = append(p.HostPorts, port)
		}
		r.ServicePorts = append(r.ServicePorts, p)
		return nil
	}
	for _, p := range r.Config.PreopenPorts {
		if err := add(strconv.Itoa(p), "preopen", []int{p}, true); err != nil {
			return err
		}
	}
	label, ok := r.Config.Image.Labels[backendai.LabelServicePorts]
	if !ok {
		return callosum.Exception("KeyError", backendai.LabelServicePorts)
	}
	declared, err := backendai.ParseServicePorts(label)
	if err != nil {
		return callosum.Exception("ValueError", err.Error())
	}
	builtin := map[string]callosum.ServicePort{"sshd": {Protocol: "tcp", ContainerPorts: []int{2200}}, "ttyd": {Protocol: "http", ContainerPorts: []int{7681}}}
	for _, p := range declared {
		protocol, ports := string(p.Protocol), p.Ports
		if b, ok := builtin[p.Name]; ok {
			protocol, ports = b.Protocol, b.ContainerPorts
			delete(builtin, p.Name)
		}
		if err := add(p.Name, protocol, ports, protocol == "preopen"); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(builtin)) {
		if err := add(name, builtin[name].Protocol, builtin[name].ContainerPorts, false); err != nil {
			return err
		}
	}
	return nil
}

// environ is all of a kernel's environment: nothing of the agent's own is in it.
func (n *Node) environ(r *record, img images.Image, home, scripts string) []string {
	env := map[string]string{
		"HOME": home, "USER": "work", "LOGNAME": "work", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": "xterm", "PWD": home, "TMPDIR": "/tmp",
		"PATH": sandbox.Path,
	}
	if dir := filepath.Dir(img.Path); !slices.Contains(filepath.SplitList(sandbox.Path), dir) {
		env["PATH"] = dir + ":" + sandbox.Path
	}
	if img.Runtime == images.RuntimePython {
		env["PATH"] = scripts + "/bin:" + env["PATH"] // so that python is the image's, as users of images expect
	}
	if !r.Isolation.HasMounts() {
		env["TMPDIR"] = n.layout(r.KernelID).tmp()
	}
	for _, name := range backendai.ImageLabels(r.Config.Image.Labels).CoreCountEnvs() {
		env[name] = strconv.Itoa(len(r.Allocation.CPUs))
	}
	var ports []string
	for _, p := range r.ServicePorts {
		for i, c := range p.ContainerPorts {
			ports = append(ports, fmt.Sprintf("%s:%d:%d", p.Name, c, p.HostPorts[i]))
		}
	}
	env["BACKENDAI_PORTS"] = strings.Join(ports, ",") // name:declared:to listen on
	maps.Copy(env, r.Config.Environ)
	var list []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if k != "" && !strings.ContainsAny(k, "=\x00") && !strings.Contains(env[k], "\x00") {
			list = append(list, k+"="+env[k])
		}
	}
	return list
}

// hostSpec says how the kernel's process shall be.
func (n *Node) hostSpec(r *record, img images.Image) host.Spec {
	l := n.layout(r.KernelID)
	s := host.Spec{
		KernelID: r.KernelID, ServiceHost: n.config.BindHost, Bootstrap: r.Config.BootstrapScript != nil && *r.Config.BootstrapScript != "",
		Sandbox: sandbox.Spec{
			Isolation: r.Isolation, Account: n.config.Account.Inside(r.Isolation), Hostname: r.Config.ClusterHostname,
			Root: l.root(), Work: l.work(), Tmp: l.tmp(), Config: l.config(), Prefixes: img.Prefixes, CPUs: n.config.Pool.Pins(r.Allocation),
			Processes: n.config.MaxProcesses, Files: 65536,
		},
	}
	if !n.config.Cgroups.HasMemory() {
		s.DataBytes = r.Allocation.MemBytes
	}
	if v, ok := r.Config.ResourceOpts.Get("shmem"); ok {
		if size, err := backendai.ParseAllocation(fmt.Sprint(v)); err == nil {
			s.Sandbox.ShmBytes, _ = size.Int64()
		}
	}
	for _, name := range strings.Split(r.Config.Environ["BACKENDAI_CLUSTER_HOSTS"], ",") {
		if name != "" && name != r.Config.ClusterHostname && !strings.ContainsAny(name, " \t\n#") {
			s.Sandbox.Hosts = append(s.Sandbox.Hosts, name)
		}
	}
	for _, m := range mounts(r.Config) {
		s.Sandbox.Mounts = append(s.Sandbox.Mounts, sandbox.Mount{Source: m.HostPath, Target: m.KernelPath, ReadOnly: m.Perm == "ro"})
	}
	slices.SortStableFunc(s.Sandbox.Mounts, func(a, b sandbox.Mount) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	home, scripts := s.Sandbox.Home(), "/home/config"
	if !r.Isolation.HasMounts() {
		scripts = l.config()
	}
	s.Runner = runner.Config{Runtime: img.Runtime, Path: img.Path, Scripts: scripts, Dir: home, Env: n.environ(r, img, home, scripts)}
	return s
}

// fill puts into the scratch folder what the kernel shall find there.
func (n *Node) fill(r *record, spec host.Spec) error {
	l, h := n.layout(r.KernelID), n.home(r)
	config := map[string]string{"environ.txt": environFile(spec.Runner.Env), "resource.txt": resourceFile(r)}
	for name, text := range runner.Scripts() {
		config[name] = string(text)
	}
	if key := r.Cluster.SSHKeyPair; key != nil {
		if err := os.MkdirAll(filepath.Join(l.config(), "ssh"), 0o755); err != nil {
			return err
		}
		config["ssh/id_cluster"], config["ssh/id_cluster.pub"] = key.PrivateKey, key.PublicKey
	}
	if spec.Runner.Runtime == images.RuntimePython {
		if err := os.MkdirAll(filepath.Join(l.config(), "bin"), 0o755); err != nil {
			return err
		}
		// A script, not a link: an interpreter finds its virtual environment by the name it was started with.
		start := "#!/bin/sh\nexec '" + strings.ReplaceAll(spec.Runner.Path, "'", `'\''`) + "' \"$@\"\n"
		config["bin/python"], config["bin/python3"] = start, start
	}
	for name, text := range config {
		p, mode := filepath.Join(l.config(), name), os.FileMode(0o644)
		switch {
		case name == "ssh/id_cluster" || name == "environ.txt":
			mode = 0o600
		case strings.HasPrefix(name, "bin/"):
			mode = 0o755
		}
		if err := errors.Join(os.WriteFile(p, []byte(text), mode), os.Chmod(p, mode)); err != nil {
			return err
		}
		if os.Getuid() == 0 {
			if err := os.Chown(p, n.config.Account.UID, n.config.Account.GID); err != nil {
				return err
			}
		}
	}
	if spec.Bootstrap {
		if err := h.Put("bootstrap.sh", []byte(*r.Config.BootstrapScript), 0o755); err != nil {
			return err
		}
	}
	d := r.Config.InternalData
	if d == nil {
		return nil
	}
	if key := d.SSHKeyPair; key != nil && !slices.ContainsFunc(r.Config.Mounts, func(m callosum.Mount) bool { return path.Clean(m.KernelPath) == "/home/work/.ssh" }) {
		err := errors.Join(h.Put(".ssh/authorized_keys", []byte(key.PublicKey), 0o600), h.Put(".ssh/id_rsa", []byte(key.PrivateKey), 0o600),
			h.Put(".ssh/id_container", []byte(key.PrivateKey), 0o600), h.Put("id_container", []byte(key.PrivateKey), 0o600))
		if err != nil {
			return err
		}
	}
	for _, f := range d.Dotfiles {
		name := f.Path
		if path.IsAbs(name) {
			rel, ok := strings.CutPrefix(path.Clean(name), "/home/work/")
			if !ok {
				n.log.Warn("a dotfile outside the home folder is left out", "kernel", r.KernelID, "path", name)
				continue
			}
			name = rel
		}
		mode, err := strconv.ParseUint(f.Perm, 8, 32)
		if err != nil {
			mode = 0o644
		}
		if err := h.Put(name, []byte(f.Data), fs.FileMode(mode)&0o777); err != nil {
			return fmt.Errorf("dotfile %s: %w", name, err)
		}
	}
	return nil
}
