package mgr

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/redis/rueidis"
	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/config"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/history"
)

func clearHistory(o *options) *cobra.Command {
	var retention string
	vacuumFull := boolText(false)
	c := o.with(&cobra.Command{
		Use: "clear-history", Short: "Remove what is known of sessions that ended long ago", Args: cobra.NoArgs,
		Long: "Remove the statistics and the rows of kernels that ended before the retention. Meant for a daily cron job.",
		RunE: o.run(func(ctx context.Context, t *tools, cmd *cobra.Command, _ []string) error {
			keep, err := config.ParseSpan(retention)
			if err != nil {
				return console.Usagef("Invalid value for '--retention': %s", console.Describe(err))
			}
			return clear(ctx, t, cmd, keep.Before(time.Now()), bool(vacuumFull))
		}),
	})
	c.Flags().StringVarP(&retention, "retention", "r", "1yr", "how long ended sessions are kept, e.g. 90d, 6mo, 1yr")
	c.Flags().VarP(&vacuumFull, "vacuum-full", "v", "hand the space back to the file system, which locks the tables meanwhile (true or false)")
	return c
}

// boolText is a flag with a value of its own: -v true.
type boolText bool

func (b *boolText) String() string { return strconv.FormatBool(bool(*b)) }
func (b *boolText) Type() string   { return "BOOL" }

func (b *boolText) Set(text string) error {
	v, err := config.ParseBool(text)
	if err != nil {
		return fmt.Errorf("'%s' is neither true nor false", text)
	}
	*b = boolText(v)
	return nil
}

// clear removes statistics first: when Redis can't be reached the rows still go, with a warning (spec/config-cli-ops §4.10).
func clear(ctx context.Context, t *tools, cmd *cobra.Command, before time.Time, full bool) error {
	// Vacuuming may wait long for locks.
	c := databaseOf(t.cfg.DB)
	c.LockTimeout = time.Hour
	pool, err := t.connect(ctx, c)
	if err != nil {
		return err
	}
	ended, err := history.Ended(ctx, pool, before)
	if err != nil {
		return err
	}
	day := before.Format(time.DateOnly)
	if err := clearStatistics(ctx, t, ended); err != nil {
		t.log.Warn("the statistics in Redis were not removed", "error", err)
	} else {
		t.log.Info(fmt.Sprintf("Cleaned up %s redis statistics records older than %s.", humanize.Comma(int64(len(ended))), day))
	}
	deleted, err := history.Delete(ctx, pool, before)
	if err != nil {
		return err
	}
	if err := history.Vacuum(ctx, pool, full); err != nil {
		return err
	}
	left, err := history.Count(ctx, pool)
	if err != nil {
		return err
	}
	t.log.Info(fmt.Sprintf("Cleaned up %s database records older than %s.", humanize.Comma(deleted), day), "left", left)
	return console.Show(cmd, struct {
		Before  time.Time `json:"before"`
		Deleted int64     `json:"deleted"`
		Left    int64     `json:"left"`
	}{before, deleted, left}, func(io.Writer) error { return nil })
}

func clearStatistics(ctx context.Context, t *tools, ended []backendai.KernelID) error {
	set, err := t.redis(ctx)
	if err != nil {
		return err
	}
	if err := set.DropKernelStats(ctx, ended); err != nil {
		return err
	}
	return compactRedis(ctx, t)
}

// compactRedis has Redis write its data anew, without what was removed.
func compactRedis(ctx context.Context, t *tools) error {
	c, err := t.redisConfig(ctx)
	if err != nil {
		return err
	}
	option := rueidis.ClientOption{InitAddress: []string{c.Addr}, ForceSingleClient: true, Password: c.Password.Reveal(), DisableCache: true}
	if len(c.Sentinels) > 0 {
		option.InitAddress, option.ForceSingleClient = c.Sentinels, false
		option.Sentinel = rueidis.SentinelOption{MasterSet: c.ServiceName}
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return err
	}
	defer client.Close()
	appendOnly, err := client.Do(ctx, client.B().ConfigGet().Parameter("appendonly").Build()).AsStrMap()
	if err != nil {
		return err
	}
	if appendOnly["appendonly"] == "yes" {
		t.log.Info("Issued BGREWRITEAOF to Redis.")
		return client.Do(ctx, client.B().Bgrewriteaof().Build()).Error()
	}
	t.log.Info("Issued BGSAVE SCHEDULE to Redis.")
	return client.Do(ctx, client.B().Bgsave().Schedule().Build()).Error()
}

// urlOf is how psql is told where the database is; the password goes another way.
func urlOf(c postgres.Config) string {
	return fmt.Sprintf("postgres://%s@%s/%s", c.User, c.Addr, c.Name)
}
