package postgres

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
)

// Config says which database to use and how hard. The first four are the keys
// db.addr, db.name, db.user and db.password (spec/config-cli-ops §1.3); zero
// values of the others take the defaults named at each.
type Config struct {
	// Addr is "host:port", or the absolute path of a directory that holds a
	// Unix socket, followed by ":port" unless that is 5432.
	Addr     string
	Name     string
	User     string
	Password string

	// AppName is what pg_stat_activity shows; default "backend.ai-manager".
	AppName string
	// MaxConns bounds the pool; default 32. The original took up to 72 per
	// process, which the usual limit of 100 of a server does not allow twice.
	MaxConns int32
	// MinIdleConns are kept open and unused; default 2.
	MinIdleConns int32
	// ConnectTimeout bounds one attempt to connect; default 5 s.
	ConnectTimeout time.Duration
	// Patience is how long Connect keeps trying while the server is
	// unavailable; 0 = one attempt.
	Patience time.Duration
	// LockTimeout and IdleTimeout end a statement that waits for a lock and a
	// transaction whose client says nothing; default 60 s each (spec/database §2).
	LockTimeout time.Duration
	IdleTimeout time.Duration
	// StatementTimeout ends a single statement; 0 = no limit.
	StatementTimeout time.Duration
	// Isolation is the default of transactions that name none; default read
	// committed. Units of work that look up before they insert ask for
	// Serializable, as the original did for everything.
	Isolation pgx.TxIsoLevel
}

func (c Config) withDefaults() Config {
	c.AppName = cmp.Or(c.AppName, "backend.ai-manager")
	c.MaxConns = cmp.Or(c.MaxConns, 32)
	c.MinIdleConns = min(cmp.Or(c.MinIdleConns, 2), c.MaxConns)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.LockTimeout = cmp.Or(c.LockTimeout, time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	c.Isolation = cmp.Or(c.Isolation, pgx.ReadCommitted)
	return c
}

// split parts the address. A path may stand without a port, a host may not.
func (c Config) split() (host, port string, err error) {
	if strings.HasPrefix(c.Addr, "/") {
		if i := strings.LastIndexByte(c.Addr, ':'); i > 0 {
			if _, err := strconv.ParseUint(c.Addr[i+1:], 10, 16); err == nil {
				return c.Addr[:i], c.Addr[i+1:], nil
			}
		}
		return c.Addr, "5432", nil
	}
	if host, port, err = net.SplitHostPort(c.Addr); err != nil {
		return "", "", backendai.Errorf(backendai.InvalidConfig, "db.addr: %v", err)
	}
	return host, port, nil
}

// dsn renders the keyword form; every value is quoted, so passwords may hold anything.
func (c Config) dsn(host, port string) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var b strings.Builder
	for _, kv := range [][2]string{{"host", host}, {"port", port}, {"dbname", c.Name}, {"user", c.User}, {"password", c.Password}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "%s='%s' ", kv[0], quote.Replace(kv[1]))
		}
	}
	return b.String()
}

// PoolConfig translates c for pgxpool; Connect is what most callers want.
// Errors: InvalidConfig. It never shows the password.
func (c Config) PoolConfig() (*pgxpool.Config, error) {
	host, port, err := c.split()
	if err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(c.dsn(host, port))
	if err != nil {
		// The parser's own text may quote the connection string.
		return nil, backendai.Errorf(backendai.InvalidConfig, "db: address %q, database %q or user %q can't be used", c.Addr, c.Name, c.User)
	}
	c.Tune(pc)
	return pc, nil
}

// Tune gives an existing pool configuration the settings of every connection of
// this project: time limits, isolation, UTC, application name, enum types.
func (c Config) Tune(pc *pgxpool.Config) {
	c = c.withDefaults()
	pc.MaxConns, pc.MinIdleConns = c.MaxConns, c.MinIdleConns
	pc.MaxConnLifetime, pc.MaxConnLifetimeJitter = time.Hour, 10*time.Minute
	pc.MaxConnIdleTime = 10 * time.Minute
	pc.HealthCheckPeriod = 15 * time.Second
	pc.ConnConfig.ConnectTimeout = c.ConnectTimeout
	pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	pc.ConnConfig.StatementCacheCapacity = 512

	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = c.AppName
	params["timezone"] = "UTC"
	params["default_transaction_isolation"] = string(c.Isolation)
	params["lock_timeout"] = milliseconds(c.LockTimeout)
	params["idle_in_transaction_session_timeout"] = milliseconds(c.IdleTimeout)
	if c.StatementTimeout > 0 {
		params["statement_timeout"] = milliseconds(c.StatementTimeout)
	}

	var enums enumTypes
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if serverMajor(conn) >= 11 {
			// Compiling costs more than it saves on statements as short as ours.
			if _, err := conn.Exec(ctx, "SET jit = off"); err != nil {
				return err
			}
		}
		inUTC(conn.TypeMap())
		return enums.register(ctx, conn)
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Connect opens a pool and makes sure that it works.
//
// Errors: InvalidConfig; ServerMisconfigured when the server refuses the user,
// the password or the database; ErrUnavailable when it can't be reached within
// cfg.Patience.
func Connect(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	pc, err := cfg.PoolConfig()
	if err != nil {
		return nil, err
	}
	return Open(ctx, pc, cfg.Patience)
}

// Open is Connect for a configuration made elsewhere.
func Open(ctx context.Context, pc *pgxpool.Config, patience time.Duration) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, AsError(err)
	}
	ping := func() (struct{}, error) {
		err := AsError(pool.Ping(ctx))
		if err != nil && !IsUnavailable(err) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	wait := &backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 1.6, RandomizationFactor: 0.2}
	options := []backoff.RetryOption{backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(patience)}
	if patience <= 0 {
		options = append(options, backoff.WithMaxTries(1))
	}
	if _, err := backoff.Retry(ctx, ping, options...); err != nil {
		pool.Close()
		return nil, AsError(err)
	}
	return pool, nil
}

// serverMajor reads "15.18 (Debian 15.18-0+deb12u1)", "9.6.24" and "17beta1" alike;
// 0 when it can't. (The original fails on the first form.)
func serverMajor(conn *pgx.Conn) int {
	version := conn.PgConn().ParameterStatus("server_version")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, _ := strconv.Atoi(version[:end])
	return n
}

// inUTC makes scanned times be in UTC, which is how clients get them.
func inUTC(types *pgtype.Map) {
	t := &pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}}
	types.RegisterType(t)
	types.RegisterType(&pgtype.Type{Name: "_timestamptz", OID: pgtype.TimestamptzArrayOID, Codec: &pgtype.ArrayCodec{ElementType: t}})
}

// enumTypes remembers the enum types of the pool's database: their OIDs are the
// same for every connection. An empty answer is not remembered, because the
// schema may yet be made; schema.Oneshot resets the pool it is given.
type enumTypes struct {
	mu    sync.Mutex
	known []enumType
}

type enumType struct {
	Name       string
	OID, Array uint32
}

func (e *enumTypes) register(ctx context.Context, conn *pgx.Conn) error {
	e.mu.Lock()
	known := e.known
	e.mu.Unlock()
	if known == nil {
		rows, err := conn.Query(ctx, `SELECT t.typname, t.oid, t.typarray FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e' AND n.nspname = 'public'`)
		if err != nil {
			return err
		}
		if known, err = pgx.CollectRows(rows, pgx.RowToStructByPos[enumType]); err != nil {
			return err
		}
		if len(known) > 0 {
			e.mu.Lock()
			e.known = known
			e.mu.Unlock()
		}
	}
	for _, k := range known {
		t := &pgtype.Type{Name: k.Name, OID: k.OID, Codec: &pgtype.EnumCodec{}}
		conn.TypeMap().RegisterType(t)
		if k.Array != 0 {
			conn.TypeMap().RegisterType(&pgtype.Type{Name: "_" + k.Name, OID: k.Array, Codec: &pgtype.ArrayCodec{ElementType: t}})
		}
	}
	return nil
}
