package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"backend.ai/manager/cmd/agent/host"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/cmd/agent/settings"
	"github.com/spf13/pflag"
)

// Version is the generation that the agent serves.
const Version = "22.03.14"

const usage = `backend.ai-agent makes this machine part of a Backend.AI cluster. It runs sessions as isolated processes, no containers
needed: Python and bash, as far as this machine has them.

Usage:
  backend.ai-agent [flags]

It needs the cluster's etcd, where it learns the place of Redis. Settings come from agent.toml (here, in ~/.config/backend.ai or in
/etc/backend.ai; the original's keys) and from flags, which win.

  SIGTERM   end, and all sessions here with it
  SIGINT    end, and leave the sessions running for the next start

Flags:
`

func main() {
	host.Dispatch(os.Args[1:])
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process around it; it returns the exit code.
func run(args []string, out, errs io.Writer) int {
	s, err := parse(args, out)
	switch {
	case errors.Is(err, pflag.ErrHelp), errors.Is(err, errShown):
		return 0
	case err != nil:
		fmt.Fprintln(errs, err)
		return 2
	}
	log := logger(s, errs)
	slog.SetDefault(log)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := serve(s, log, signals); err != nil {
		log.Error("the agent cannot run", "err", err)
		return 1
	}
	return 0
}

var errShown = errors.New("shown")

// parse reads the file and the flags.
func parse(args []string, out io.Writer) (*settings.Settings, error) {
	d := settings.Defaults()
	f := pflag.NewFlagSet("backend.ai-agent", pflag.ContinueOnError)
	f.SortFlags = false
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
	}
	var (
		file       = f.StringP("config", "f", "", "agent.toml to read")
		etcd       = f.StringSlice("etcd", d.EtcdAddrs, "addresses of etcd, host:port; \"none\" for an agent without")
		namespace  = f.String("namespace", d.Namespace, "the cluster's name in etcd")
		redis      = f.String("redis", "", "address of Redis, instead of what etcd says")
		id         = f.String("id", d.ID, "the agent's name in the cluster")
		region     = f.String("region", d.Region, "where the machine stands")
		group      = f.String("scaling-group", d.ScalingGroup, "the pool of agents to join")
		listen     = f.String("listen", ":6001", "address to serve managers at; they are told it, so it must be one they reach (no host: find it out)")
		bind       = f.String("bind-host", "", "address that the sessions' services listen on (default: the one for managers)")
		advertised = f.String("advertised-host", "", "address of these services for users (default: the same)")
		ports      = f.String("port-range", fmt.Sprintf("%d-%d", d.PortLow, d.PortHigh), "ports for these services")
		scratch    = f.String("scratch-root", d.ScratchRoot, "folder for the sessions' files")
		isolation  = f.String("isolation", "auto", "namespaces, mounts, process, or auto for the strictest that works here")
		uid        = f.Int("kernel-uid", -1, "account to run sessions as, when the agent is root")
		gid        = f.Int("kernel-gid", -1, "and its group")
		cpu        = f.Int("reserved-cpu", d.ReservedCPU, "cores to keep from sessions")
		cpus       = f.Int("cpus", 0, "cores to give away, instead of those that are there; sessions share them when it is more")
		mem        = f.String("reserved-mem", "1g", "memory to keep from sessions")
		skip       = f.Bool("skip-manager-detection", false, "do not wait for a manager")
		level      = f.String("log-level", d.LogLevel, "debug, info, warn or error")
		format     = f.String("log-format", d.LogFormat, "text or json")
		version    = f.Bool("version", false, "say the version")
	)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if *version {
		fmt.Fprintln(out, "backend.ai-agent", Version)
		return nil, errShown
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("backend.ai-agent: what is %q? See --help", f.Arg(0))
	}
	s, err := settings.Load(*file)
	if err != nil {
		return nil, err
	}
	if password := os.Getenv("BACKEND_ETCD_PASSWORD"); password != "" {
		s.SetEtcdPassword(password)
	}
	set := func(name string, apply func() error) {
		if err == nil && f.Changed(name) {
			if e := apply(); e != nil {
				err = fmt.Errorf("--%s: %w", name, e)
			}
		}
	}
	text := func(name string, into *string, v *string) {
		set(name, func() error { *into = *v; return nil })
	}
	text("namespace", &s.Namespace, namespace)
	text("redis", &s.Redis, redis)
	text("id", &s.ID, id)
	text("region", &s.Region, region)
	text("scaling-group", &s.ScalingGroup, group)
	text("bind-host", &s.BindHost, bind)
	text("advertised-host", &s.AdvertisedHost, advertised)
	text("scratch-root", &s.ScratchRoot, scratch)
	text("log-level", &s.LogLevel, level)
	text("log-format", &s.LogFormat, format)
	set("etcd", func() error {
		s.EtcdAddrs = *etcd
		if len(*etcd) == 1 && (*etcd)[0] == "none" {
			s.EtcdAddrs = nil
		}
		return nil
	})
	set("listen", func() error { return s.SetListen(*listen) })
	set("port-range", func() error {
		if _, err := fmt.Sscanf(*ports, "%d-%d", &s.PortLow, &s.PortHigh); err != nil {
			return errors.New("want LOW-HIGH")
		}
		return nil
	})
	set("isolation", func() (err error) { s.Isolation, err = sandbox.ParseIsolation(*isolation); return err })
	set("kernel-uid", func() error { s.KernelUID = *uid; return nil })
	set("kernel-gid", func() error { s.KernelGID = *gid; return nil })
	set("reserved-cpu", func() error { s.ReservedCPU = *cpu; return nil })
	set("cpus", func() error { return s.SetCPUs(*cpus) })
	set("reserved-mem", func() error { return s.SetReservedMem(*mem) })
	set("skip-manager-detection", func() error { s.SkipManagerDetection = *skip; return nil })
	if err != nil {
		return nil, err
	}
	return s, s.Check()
}

func logger(s *settings.Settings, errs io.Writer) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(strings.ToUpper(s.LogLevel))) != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(errs, options))
	}
	return slog.New(slog.NewTextHandler(errs, options))
}

// lookup resolves a host name.
func lookup(name string) ([]net.IP, error) {
	list, err := net.DefaultResolver.LookupIP(context.Background(), "ip4", name)
	return list, err
}
