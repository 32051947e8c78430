package dbtest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/schema"
)

// Env names a shared server: "host=… port=… user=… password=… dbname=postgres".
const Env = "BACKENDAI_TEST_PG"

// limit of one step: generous, because a machine under test may be busy.
const limit = 2 * time.Minute

// New returns a pool on a fresh database with the whole schema and no rows. The
// pool is closed and the database dropped when the test ends.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, create(tb, true))
}

// Empty is New without the schema.
func Empty(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, create(tb, false))
}

// Config is for tests that start programs which connect by themselves: how to
// reach a fresh database with the schema, which is dropped when the test ends. On
// a private server the address is one of TCP, as manager.toml wants it.
func Config(tb testing.TB) postgres.Config {
	tb.Helper()
	return configOf(create(tb, true))
}

func configOf(pc *pgxpool.Config) postgres.Config {
	cc := pc.ConnConfig
	c := postgres.Config{Addr: net.JoinHostPort(cc.Host, fmt.Sprint(cc.Port)), Name: cc.Database, User: cc.User, Password: cc.Password}
	switch {
	case private.server != nil:
		c.Addr, c.Password = private.server.TCPAddr(), private.password
	case strings.HasPrefix(cc.Host, "/"):
		c.Addr = fmt.Sprintf("%s:%d", cc.Host, cc.Port)
	}
	return c
}

func open(tb testing.TB, pc *pgxpool.Config) *pgxpool.Pool {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	pool, err := postgres.Open(ctx, pc, 0)
	if err != nil {
		tb.Fatalf("dbtest: %v", err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// create makes a database and has it dropped at the end of the test. Cleanups run
// last first, so pools opened later are closed before; others are cut off.
func create(tb testing.TB, withSchema bool) *pgxpool.Config {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	dsn, err := server(ctx)
	if err != nil {
		tb.Fatalf("dbtest: %v", err)
	}
	from := "template0"
	if withSchema {
		if from, err = template(ctx, dsn); err != nil {
			tb.Fatalf("dbtest: make the template: %v", err)
		}
	}
	name := databaseName(tb.Name())
	if err := execute(ctx, dsn, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", pgx.Identifier{name}.Sanitize(), from)); err != nil {
		tb.Fatalf("dbtest: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := drop(ctx, dsn, name); err != nil {
			tb.Errorf("dbtest: drop the database: %v", err)
		}
	})
	return database(dsn, name)
}

var unusual = regexp.MustCompile(`[^a-z0-9]+`)

// databaseName tells whose it is to a person who looks at a server in use.
func databaseName(test string) string {
	slug := strings.Trim(unusual.ReplaceAllString(strings.ToLower(test), "_"), "_")
	return fmt.Sprintf("t_%.40s_%s", slug, strings.ToLower(unusual.ReplaceAllString(backendai.RandomToken(9), "x")))
}

// database is the configuration of a small pool on one database of the server.
func database(dsn, name string) *pgxpool.Config {
	pc, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		panic("dbtest: checked before: " + name)
	}
	pc.ConnConfig.Database = name
	postgres.Config{AppName: "dbtest", MaxConns: 8, MinIdleConns: 1}.Tune(pc)
	return pc
}

func execute(ctx context.Context, dsn, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// drop removes a database, ending whoever is still in it (WITH (FORCE) is newer
// than the oldest server supported).
func drop(ctx context.Context, dsn, name string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	quoted := pgx.Identifier{name}.Sanitize()
	for {
		if _, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quoted)
		if err == nil || ctx.Err() != nil || !inUse(err) {
			return err
		}
	}
}

var templates struct {
	sync.Mutex
	made map[string]string // by server
}

// template makes sure that the server has the template, and returns its name.
func template(ctx context.Context, dsn string) (string, error) {
	templates.Lock()
	defer templates.Unlock()
	if name, ok := templates.made[dsn]; ok {
		return name, nil
	}
	hash := fnv.New64a()
	if err := schema.WriteSource(hash); err != nil {
		return "", err
	}
	name := fmt.Sprintf("backendai_template_%016x", hash.Sum64())

	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	// Other processes may be about to do the same. The lock ends with the connection.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtext('backendai dbtest'))`); err != nil {
		return "", err
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil {
		return "", err
	}
	if !exists {
		if err := makeTemplate(ctx, dsn, name); err != nil {
			return "", err
		}
	}
	if templates.made == nil {
		templates.made = map[string]string{}
	}
	templates.made[dsn] = name
	return name, nil
}

// makeTemplate works under another name, so that the template is there whole or not at all.
func makeTemplate(ctx context.Context, dsn, name string) error {
	draft := name + "_draft"
	if err := drop(ctx, dsn, draft); err != nil {
		return err
	}
	if err := execute(ctx, dsn, "CREATE DATABASE "+draft+" TEMPLATE template0"); err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, database(dsn, draft), 0)
	if err != nil {
		return err
	}
	_, err = schema.Oneshot(ctx, pool, nil)
	pool.Close()
	if err != nil {
		return err
	}
	return settled(ctx, dsn, fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", draft, name))
}

// settled repeats a statement until the connections that pool.Close ended are gone from the server too.
func settled(ctx context.Context, dsn, sql string) error {
	for {
		err := execute(ctx, dsn, sql)
		if err == nil || ctx.Err() != nil || !inUse(err) {
			return err
		}
	}
}

// fromEnv reads and checks the shared server's connection string.
func fromEnv() (string, bool, error) {
	dsn := os.Getenv(Env)
	if dsn == "" {
		return "", false, nil
	}
	if _, err := pgxpool.ParseConfig(dsn); err != nil {
		return "", true, errors.New(Env + " is no connection string")
	}
	return dsn, true, nil
}
