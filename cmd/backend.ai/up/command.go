package up

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"backend.ai/manager/cmd/backend.ai/client"
	"backend.ai/manager/cmd/backend.ai/console"
)

// stopTime bounds an orderly stop; agents give the processes of kernels ten seconds to end by themselves.
const stopTime = 60 * time.Second

// Command is up.
func Command() *cobra.Command {
	o := Options{}
	c := &cobra.Command{
		Use: "up", Short: "Start a whole cluster on this machine", Args: cobra.NoArgs,
		Long: `Start a whole cluster on this machine and keep serving until ^C: etcd, PostgreSQL, Redis, a manager and agents whose sessions
run with the interpreters of this machine. Everything is kept in one data directory and survives restarts.

Each store can be a real server instead. Passwords may stand in the environment: PGPASSWORD, REDISCLI_AUTH, and
BACKEND_ETCD_USER with BACKEND_ETCD_PASSWORD.`,
		Example: `  backend.ai up
  backend.ai up --data ./cluster --addr 127.0.0.1:9000 --agents 3
  backend.ai up --postgres postgresql://backend@db.example.com/backend`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Agents < 1 || o.Agents > 64 {
				return console.Usagef("Invalid value for '--agents': %d is not in the range from 1 to 64.", o.Agents)
			}
			return run(cmd, o)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.Dir, "data", client.DataDir(), "data directory; made when missing")
	f.StringVar(&o.Addr, "addr", "127.0.0.1:8091", "address to serve the API at; port 0 takes a free one and keeps it")
	f.IntVar(&o.Agents, "agents", 1, "how many agents to run")
	f.StringVar(&o.Postgres, "postgres", "", "URL of a PostgreSQL database to use, postgresql://user:password@host:port/name")
	f.StringVar(&o.Redis, "redis", "", "a Redis to use, host:port or redis://:password@host:port")
	f.StringVar(&o.Etcd, "etcd", "", "an etcd to use, host:port, or several with commas")
	f.StringVar(&o.Namespace, "namespace", "local", "name of the cluster in etcd")
	f.BoolVar(&o.Check, "check", false, "when ready, run a session that prints a line from real Python code, then keep serving")
	f.BoolVar(&o.KeepSessions, "keep-sessions", false, "leave sessions running when stopped; the next start finds them again")
	f.BoolVar(&o.Debug, "debug", false, "log everything")
	return c
}

// run is up from start to end.
func run(cmd *cobra.Command, o Options) error {
	p := newProgress(cmd.ErrOrStderr())
	c := New(o, p)
	ctx := cmd.Context()
	began := time.Now()
	err := c.Start(ctx)
	if err == nil && o.Check {
		p.Say("Running a first session")
		err = c.check(ctx, cmd.OutOrStdout(), p)
	}
	p.Close()
	if err != nil && ctx.Err() != nil { // whatever it broke on, that is why
		err = ctx.Err()
	}
	if err != nil {
		return stopped(c, err)
	}
	panel(cmd.OutOrStdout(), c, time.Since(began))
	select {
	case <-ctx.Done():
		p = newProgress(cmd.ErrOrStderr())
		c.progress = p
		defer p.Close()
		return stopped(c, nil)
	case err := <-c.failed:
		return stopped(c, err)
	}
}

// stopped stops the cluster and gives the error that counts: why it had to be stopped, or what went wrong with that.
func stopped(c *Cluster, why error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := c.Stop(ctx)
	if why != nil {
		return why
	}
	return err
}

// check runs one session and shows what it printed.
func (c *Cluster) check(ctx context.Context, out interface{ Write([]byte) (int, error) }, p *progress) error {
	if c.account == nil {
		return fmt.Errorf("there are no keys for a first session: the database has accounts of its own")
	}
	api, err := client.New(client.Config{Endpoint: c.Endpoint(), AccessKey: c.account.AccessKey, SecretKey: c.account.SecretKey})
	if err != nil {
		return err
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	made, err := api.Start(ctx, client.NewSession{Name: client.NewName(), Image: pythonAlias})
	if err != nil {
		return err
	}
	const code = "import platform\nprint(f'Hello from Python {platform.python_version()}: the first {len(squares := [n * n for n in range(10)])} squares are {squares}')"
	p.Pause()
	exit, err := api.Execute(ctx, made.ID, code, client.Talk{Write: func(o client.Output) { fmt.Fprint(out, o.Text) }})
	if err == nil && exit != 0 {
		err = fmt.Errorf("the first session ended with code %d", exit)
	}
	ending, done := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer done()
	if _, e := api.Destroy(ending, made.ID, err != nil); e != nil && err == nil {
		err = e
	}
	return err
}
