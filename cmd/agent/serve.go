package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/agent/bus"
	"backend.ai/manager/cmd/agent/directory"
	"backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/cmd/agent/node"
	"backend.ai/manager/cmd/agent/resources"
	"backend.ai/manager/cmd/agent/sandbox"
	"backend.ai/manager/cmd/agent/settings"
	"backend.ai/manager/config/shared"
	"backend.ai/manager/persistence/redis"
)

// nobodys is the account of kernels under a root agent that was told no other: one that nothing else on a machine uses.
const nobodys = 64000

const (
	stopTimeout = 60 * time.Second
	byeTimeout  = 5 * time.Second
)

// serve is the agent from start to end; a signal ends it at any time.
func serve(s *settings.Settings, log *slog.Logger, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	quit := make(chan bool, 1) // true: with the kernels
	request := func(terminate bool) {
		select {
		case quit <- terminate:
		default:
		}
		cancel()
	}
	go func() {
		for sig := range signals {
			if sig != syscall.SIGHUP { // a lost terminal is no reason
				request(sig == syscall.SIGTERM)
			}
		}
	}()

	var dir *directory.Directory
	if len(s.EtcdAddrs) > 0 {
		var err error
		dir, err = directory.Open(ctx, shared.Config{
			Endpoints: s.EtcdAddrs, Namespace: s.Namespace, User: s.EtcdUser, Password: s.EtcdPassword, Agent: s.ID, ScalingGroup: s.ScalingGroup,
		}, log)
		if err != nil {
			return stopped(ctx, err)
		}
		defer dir.Close()
		if err := dir.Announce(ctx, "starting", ""); err != nil {
			return stopped(ctx, err)
		}
		if !s.SkipManagerDetection {
			if err := dir.AwaitManager(ctx); err != nil {
				return stopped(ctx, err)
			}
		}
	}
	config, err := configure(ctx, s, dir, log)
	if err != nil {
		return stopped(ctx, err)
	}
	config.Bus = bus.New(s.ID, whereRedis(s, dir), log)
	config.SaveScalingGroup, config.RequestStop = s.SaveScalingGroup, request
	n, err := node.New(config)
	if err != nil {
		return err
	}
	config.Bus.Start()
	if err := n.Start(); err != nil {
		return err
	}
	if dir != nil {
		if err := dir.Announce(ctx, "running", config.ListenHost); err != nil {
			log.Warn("the agent runs, but etcd does not know", "err", err)
		}
	}
	log.Info("the agent serves", "id", s.ID, "addr", n.Address(), "isolation", config.Isolation, "kernels", n.Kernels(), "images", len(config.Images))

	terminate := <-quit
	log.Info("the agent ends", "kernels", n.Kernels(), "with_kernels", terminate)
	ending, done := context.WithTimeout(context.Background(), stopTimeout)
	defer done()
	err = n.Stop(ending, terminate)
	bye, done := context.WithTimeout(context.Background(), byeTimeout)
	defer done()
	config.Bus.Stop(bye)
	return err
}

// stopped makes no error of one that is there because the agent was told to end.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func whereRedis(s *settings.Settings, dir *directory.Directory) bus.Where {
	return func(ctx context.Context) (redis.Config, error) {
		if s.Redis != "" || dir == nil {
			return redis.Config{Addr: s.Redis, Password: s.RedisPassword}, nil
		}
		return dir.Redis(ctx)
	}
}

// configure finds out what was not told.
func configure(ctx context.Context, s *settings.Settings, dir *directory.Directory, log *slog.Logger) (node.Config, error) {
	c := node.Config{
		ID: s.ID, Region: s.Region, ScalingGroup: s.ScalingGroup, Version: Version, ListenHost: s.ListenHost, ListenPort: s.ListenPort,
		BindHost: s.BindHost, AdvertisedHost: s.AdvertisedHost, PortLow: s.PortLow, PortHigh: s.PortHigh, ScratchRoot: s.ScratchRoot,
		MaxProcesses: s.MaxProcesses, Architecture: images.Architecture(), Logger: log,
	}
	setting := func(key string) (string, error) {
		if dir == nil {
			return "", nil
		}
		return dir.Text(ctx, key)
	}
	if c.ListenHost == "" {
		subnet, err := setting("config/network/subnet/agent")
		if err != nil {
			return c, err
		}
		local, err := net.InterfaceAddrs()
		if err != nil {
			return c, err
		}
		name, _ := os.Hostname()
		if c.ListenHost, err = directory.Address(subnet, name, local, lookup); err != nil {
			return c, err
		}
	}
	if c.BindHost == "" {
		c.BindHost = c.ListenHost
	}
	if c.AdvertisedHost == "" {
		c.AdvertisedHost = c.BindHost
	}
	mount, err := setting("volumes/_mount")
	if err != nil {
		return c, err
	}
	if mount != "" {
		if info, err := os.Stat(mount); err != nil || !info.IsDir() {
			return c, backendai.Errorf(backendai.InvalidConfig, "volumes/_mount = %s is no folder on this machine", mount)
		}
	}
	c.Account = sandbox.Account{UID: os.Getuid(), GID: os.Getgid()}
	if os.Getuid() == 0 {
		c.Account = sandbox.Account{UID: s.KernelUID, GID: s.KernelGID}
		if dir != nil {
			if c.Account.UID < 0 {
				c.Account.UID = dir.Number(ctx, "config/container/kernel-uid", -1)
			}
			if c.Account.GID < 0 {
				c.Account.GID = dir.Number(ctx, "config/container/kernel-gid", -1)
			}
		}
		if c.Account.UID <= 0 { // code of users never runs as root
			c.Account.UID = nobodys
		}
		if c.Account.GID <= 0 {
			c.Account.GID = c.Account.UID
		}
	}
	if err := os.MkdirAll(s.ScratchRoot, 0o711); err != nil {
		return c, err
	}
	c.Isolation = sandbox.Probe(ctx, s.ScratchRoot, c.Account, s.Isolation, log)
	if s.Isolation != "" && c.Isolation != s.Isolation {
		return c, backendai.Errorf(backendai.InvalidConfig, "container.isolation = %s does not work on this machine", s.Isolation)
	}
	if c.Isolation == sandbox.Process {
		log.Warn("sessions are separated from each other by little more than their processes: this machine permits no mount namespaces to the agent")
	}
	c.Cgroups = sandbox.FindCgroups(s.ID)
	// In a root of their own, kernels reach interpreters in places that are closed to their account outside.
	c.Images = images.Detect(ctx, os.Getuid() == 0 && !c.Isolation.HasMounts())
	if len(c.Images) == 0 {
		log.Warn("this machine has neither python3 nor bash: there is nothing that sessions could run")
	}
	c.Pool, err = resources.Detect(s.ReservedCPU, s.ReservedMem)
	if err == nil && s.CPUs > 0 {
		c.Pool.Announce(s.CPUs)
	}
	return c, err
}
