package mgr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/cmd/backend.ai/server"
	"backend.ai/manager/config"
	"backend.ai/manager/config/logging"
)

// patience is how long a command tries to reach Redis.
const patience = 5 * time.Second

func startServer(o *options) *cobra.Command {
	return o.with(&cobra.Command{
		Use: "start-server", Short: "Run a manager in the foreground", Args: cobra.NoArgs,
		Long: `Run a manager in the foreground until SIGINT or SIGTERM. It then finishes the requests that are under way, hands its
work to the other managers of the cluster if there are any, and ends, within actors.drain-timeout of manager.toml. A second
signal ends it at once; nothing that was answered is lost by that.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			return serve(cmd, cfg)
		},
	})
}

// serve runs a manager until the command's context ends (spec/config-cli-ops §4.11, §7).
func serve(cmd *cobra.Command, cfg *config.Manager) error {
	who, err := accountOf(cfg.Service.User, cfg.Service.Group)
	if err != nil {
		return err
	}
	system, err := logging.Setup(cfg.Logging, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer func() { _ = system.Close() }()
	log := system.Logger
	slog.SetDefault(log) // libraries, and what has no logger of its own
	if cfg.Debug.Enabled {
		fmt.Fprintln(cmd.ErrOrStderr(), "== Manager configuration ==")
		if err := console.WriteJSON(cmd.ErrOrStderr(), cfg); err != nil {
			return err
		}
	}
	removePID, err := writePID(cfg.Service.PIDFile)
	if err != nil {
		return err
	}
	defer removePID()
	log.Info("Backend.AI Manager "+cmd.Root().Version, "config", cfg.Path)
	log.Info("runtime: "+runtime.Version(), "pid", os.Getpid(), "cpus", runtime.GOMAXPROCS(0))

	ctx := cmd.Context()
	paceCollector(ctx)
	s := server.New(cfg, log)
	if err := s.Start(ctx); err != nil {
		return err
	}
	if err := who.become(log); err != nil {
		return errors.Join(err, stop(s, cfg.Actors.DrainTimeout))
	}
	notify(log, daemon.SdNotifyReady)
	<-ctx.Done()
	notify(log, daemon.SdNotifyStopping)
	log.Info("stopping", "why", context.Cause(ctx), "at_most", cfg.Actors.DrainTimeout)
	err = stop(s, cfg.Actors.DrainTimeout)
	log.Info("terminated.")
	return err
}

func stop(s *server.Server, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return s.Stop(ctx)
}

// notify tells systemd, if it is there and asked to be told (Type=notify).
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "error", err)
	}
}

// writePID notes the process in a file, if one is named, and returns what removes it.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return nil, backendai.Errorf(backendai.InvalidConfig, "manager.pid-file: %v", err)
	}
	return func() {
		if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() {
			_ = os.Remove(path)
		}
	}, nil
}

// account is whom a manager that was started by root becomes once its port is bound. The zero value changes nothing.
type account struct {
	uid, gid int
	groups   []int
	drop     bool
}

// accountOf looks manager.user and manager.group up; both empty, or a process that is not root's, is the zero value.
func accountOf(userName, groupName string) (account, error) {
	if os.Geteuid() != 0 || userName == "" && groupName == "" {
		return account{}, nil
	}
	a := account{drop: true}
	if userName != "" {
		u, err := user.Lookup(userName)
		if _, numeric := strconv.Atoi(userName); err != nil && numeric == nil {
			u, err = user.LookupId(userName)
		}
		if err != nil {
			return account{}, backendai.Errorf(backendai.InvalidConfig, "manager.user: %v", err)
		}
		a.uid, _ = strconv.Atoi(u.Uid)
		a.gid, _ = strconv.Atoi(u.Gid)
		ids, err := u.GroupIds()
		if err != nil {
			return account{}, backendai.Errorf(backendai.InvalidConfig, "manager.user: %v", err)
		}
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				a.groups = append(a.groups, n)
			}
		}
	}
	if groupName != "" {
		g, err := user.LookupGroup(groupName)
		if _, numeric := strconv.Atoi(groupName); err != nil && numeric == nil {
			g, err = user.LookupGroupId(groupName)
		}
		if err != nil {
			return account{}, backendai.Errorf(backendai.InvalidConfig, "manager.group: %v", err)
		}
		a.gid, _ = strconv.Atoi(g.Gid)
	}
	return a, nil
}

// become gives up root's rights, in the only order that works.
func (a account) become(log *slog.Logger) error {
	if !a.drop {
		return nil
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"setgroups", func() error { return syscall.Setgroups(a.groups) }},
		{"setgid", func() error { return syscall.Setgid(a.gid) }},
		{"setuid", func() error { return syscall.Setuid(a.uid) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("become user %d, group %d: %s: %w", a.uid, a.gid, step.name, err)
		}
	}
	log.Info("changed user", "uid", a.uid, "gid", a.gid)
	return nil
}
