package postgres_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/embedded"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// TestSession: what every connection of a pool is set to.
func TestSession(t *testing.T) {
	cfg := dbtest.Config(t)
	cfg.StatementTimeout = 7 * time.Second
	pool, err := postgres.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for setting, want := range map[string]string{
		"jit": "off", "lock_timeout": "1min", "idle_in_transaction_session_timeout": "1min", "statement_timeout": "7s",
		"timezone": "UTC", "application_name": "backend.ai-manager", "transaction_isolation": "read committed",
	} {
		var got string
		if err := pool.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", setting, got, err, want)
		}
	}
	var at time.Time
	var enums []string
	if err := pool.QueryRow(t.Context(), `SELECT now(), ARRAY['RUNNING', 'ERROR']::kernelstatus[]`).Scan(&at, &enums); err != nil || at.Location() != time.UTC || len(enums) != 2 {
		t.Errorf("%v, %v, %v", at, enums, err)
	}
	// Labels as a parameter, without naming the type.
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM kernels WHERE status = ANY ($1)`, []string{"RUNNING", "ERROR"}).Scan(&n); err != nil {
		t.Error(err)
	}
}

// TestCollect: a connection that breaks while rows are on their way is the database's absence, not a fault of the program.
func TestCollect(t *testing.T) {
	pool := dbtest.New(t)
	read := func(sql string) ([]int, error) {
		rows, err := pool.Query(t.Context(), sql)
		if err != nil {
			t.Fatal("it is not found out while rows are read:", err)
		}
		return postgres.Collect("numbers", rows, pgx.RowTo[int])
	}
	if list, err := read(`SELECT generate_series(1, 3)`); err != nil || len(list) != 3 {
		t.Error(list, err)
	}
	_, err := read(`SELECT CASE WHEN pg_terminate_backend(pg_backend_pid()) THEN 1 END`)
	if !postgres.IsUnavailable(err) || !strings.Contains(err.Error(), "numbers") {
		t.Error(err)
	}
}

// TestCollectTellsOfTheQuery: whoever collects need not look at the query's own error.
func TestCollectTellsOfTheQuery(t *testing.T) {
	pool := dbtest.New(t)
	rows, _ := pool.Query(t.Context(), `SELECT nothing FROM nowhere`)
	if _, err := postgres.Collect("numbers", rows, pgx.RowTo[int]); err == nil || !strings.Contains(err.Error(), "numbers") || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}

// TestInTxRetries: two transactions that can't both be true of one order; the
// server gives one up, and it runs again.
func TestInTxRetries(t *testing.T) {
	pool := dbtest.New(t)
	const preset = `INSERT INTO resource_presets (name, resource_slots, shared_memory) SELECT $1, '{}', count(*) FROM resource_presets`
	var wg sync.WaitGroup
	met := make(chan struct{}) // both have read before either writes
	var once sync.Once
	var mu sync.Mutex
	runs := 0
	for _, name := range []string{"a", "b"} {
		wg.Go(func() {
			err := postgres.InTx(t.Context(), pool, postgres.Serializable, func(tx pgx.Tx) error {
				var n int
				if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM resource_presets`).Scan(&n); err != nil {
					return err
				}
				mu.Lock()
				if runs++; runs == 2 {
					once.Do(func() { close(met) })
				}
				mu.Unlock()
				<-met
				_, err := tx.Exec(t.Context(), preset, name)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := pool.QueryRow(t.Context(), `SELECT sum(shared_memory) FROM resource_presets`).Scan(&sum); err != nil || sum != 1 || runs < 3 {
		t.Errorf("sum %d (as if one after the other: 1), %d runs, %v", sum, runs, err)
	}
}

func TestInTxGivesUp(t *testing.T) {
	pool := dbtest.New(t)
	runs := 0
	err := postgres.InTx(t.Context(), pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		runs++
		_, err := tx.Exec(t.Context(), `DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$`)
		return err
	})
	if !errors.Is(err, backendai.Conflict) || !postgres.Retryable(err) || runs != 10 {
		t.Errorf("%v after %d runs", err, runs)
	}

	ctx, cancel := context.WithCancel(t.Context())
	err = postgres.InTx(ctx, pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		cancel()
		return &pgconn.PgError{Code: "40001"}
	})
	if err == nil {
		t.Error("went on after the end of its context")
	}
}

// TestInTxErrors: what a unit of work returns comes back, and nothing it did stays.
func TestInTxErrors(t *testing.T) {
	pool := dbtest.New(t)
	const insert = `INSERT INTO resource_presets (name, resource_slots) VALUES ('x', '{}')`
	own := backendai.Errorf(backendai.VFolderAlreadyExists, "mine")
	if err := postgres.InTx(t.Context(), pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), insert); err != nil {
			return err
		}
		return own
	}); err != error(own) {
		t.Errorf("own error: %v", err)
	}
	err := postgres.InTx(t.Context(), pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		for range 2 {
			if _, err := tx.Exec(t.Context(), insert); err != nil {
				return err
			}
		}
		return nil
	})
	if name, ok := postgres.UniqueViolation(err); !ok || name != "pk_resource_presets" || backendai.CodeOf(err) != backendai.InternalServerError {
		t.Errorf("unique violation: %q, %v, %v", name, ok, err)
	}
	_, err = pool.Exec(t.Context(), `INSERT INTO sgroups_for_domains VALUES ('no', 'no')`)
	if name, ok := postgres.ForeignKeyViolation(err); !ok || !strings.HasPrefix(name, "fk_sgroups_for_domains_") {
		t.Errorf("foreign key: %q, %v", name, err)
	}
	if err := postgres.InTx(t.Context(), pool, postgres.ReadOnly, func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), insert); return err }); err == nil {
		t.Error("wrote in a read-only transaction")
	}
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM resource_presets`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows stay, %v", n, err)
	}
}

func TestConnectErrors(t *testing.T) {
	port, err := embedded.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	stranger := dbtest.Config(t) // a server that trusts this machine does not look at passwords
	stranger.User, stranger.Password = "nobody-known", "not this, 'quoted' \\ one"
	closed := stranger
	closed.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	missing := dbtest.Config(t)
	missing.Name = "no-such-database"
	for name, c := range map[string]struct {
		cfg  postgres.Config
		code backendai.Code
	}{
		"nobody listens":  {closed, postgres.ErrUnavailable},
		"unknown user":    {stranger, backendai.ServerMisconfigured},
		"no database":     {missing, backendai.ServerMisconfigured},
		"no port":         {postgres.Config{Addr: "localhost", Name: "x", User: "y"}, backendai.InvalidConfig},
		"no socket there": {postgres.Config{Addr: t.TempDir(), Name: "x", User: "y"}, postgres.ErrUnavailable},
	} {
		_, err := postgres.Connect(t.Context(), c.cfg)
		if !errors.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		} else if c.cfg.Password != "" && strings.Contains(err.Error(), c.cfg.Password) {
			t.Errorf("%s: the error shows the password", name)
		}
	}
}

// TestPatience: Connect waits for a server that comes up later.
func TestPatience(t *testing.T) {
	good := dbtest.Config(t)
	port, err := embedded.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	cfg := good
	cfg.Addr, cfg.Patience = net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 30*time.Second
	connected := make(chan error, 1)
	go func() {
		pool, err := postgres.Connect(t.Context(), cfg)
		if err == nil {
			pool.Close()
		}
		connected <- err
	}()
	// From here on the port leads to the real server.
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			network, addr := "tcp", good.Addr
			if dir, port, _ := strings.Cut(addr, ":"); strings.HasPrefix(dir, "/") {
				network, addr = "unix", dir+"/.s.PGSQL."+port
			}
			out, err := net.Dial(network, addr)
			if err != nil {
				in.Close()
				return
			}
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
	if err := <-connected; err != nil {
		t.Error(err)
	}
}

func TestAsError(t *testing.T) {
	state := func(code string) error { return &pgconn.PgError{Code: code} }
	for _, c := range []struct {
		err  error
		code backendai.Code
	}{
		{state("57P03"), backendai.ServiceUnavailable}, {state("57P01"), backendai.ServiceUnavailable}, {state("53300"), backendai.ServiceUnavailable},
		{state("08006"), backendai.ServiceUnavailable}, {io.ErrUnexpectedEOF, backendai.ServiceUnavailable},
		{state("28P01"), backendai.ServerMisconfigured}, {state("3D000"), backendai.ServerMisconfigured}, {state("42P01"), backendai.ServerMisconfigured},
		{state("40001"), backendai.Conflict}, {state("55P03"), backendai.Conflict},
		{state("23505"), backendai.InternalServerError}, {errors.New("x"), backendai.InternalServerError},
		{context.DeadlineExceeded, backendai.DeadlineExceeded},
	} {
		if got := backendai.CodeOf(postgres.AsError(c.err)); got != c.code {
			t.Errorf("%v: %s, want %s", c.err, got, c.code)
		}
	}
	if postgres.AsError(nil) != nil || postgres.AsError(pgx.ErrNoRows) != pgx.ErrNoRows {
		t.Error("nil and ErrNoRows stay what they are")
	}
	if postgres.IsUnavailable(nil) {
		t.Error("nil is unavailable")
	}
}
