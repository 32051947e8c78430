package schema

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

const (
	// Head is the revision of every 22.03 release (spec/database §1).
	Head = "81c264528f20"
	// Channel is where changes of cached tables are announced.
	Channel = "backendai_changed"
	// Ours is the schema with the tables that the original does not have.
	Ours = "backendai_actors"

	versionTable = Ours + ".migrations"
	// lockID keeps schema changes apart. The original's advisory locks are small
	// numbers (spec/config-cli-ops §8); this is "bai-ddl" as bytes.
	lockID = 0x6261692d64646c
)

var (
	//go:embed public/fresh.sql
	fresh string
	//go:embed public/tail.sql
	tail string
	//go:embed migrations/*.sql
	files embed.FS
)

// tailRevisions are those that tail.sql starts from: the heads of 21.03.31 to
// 21.09 and everything after them up to the head, merges included (spec/database
// §6). Its statements skip what is there already, so one script serves them all.
var tailRevisions = []string{
	"8679d0a7e22b", "60a1effa77d2", "015d84d5a5ef", "911023380bc9", "7dd1d81c3204",
	"a7ca9f175d5f", "0f7a4b643940", "11146ba02235", "d59ff89e7514", "d727b5da20e6",
}

// Found is what Oneshot met.
type Found string

const (
	Empty   Found = "empty"   // no tables: the fresh shape was created
	Current Found = "current" // a 22.03 database: adopted as it is
	Older   Found = "older"   // a 21.09 database or 22.03 pre-release: brought to the head
)

// Result is what Oneshot did.
type Result struct {
	Found    Found
	Revision string  // before; empty for an empty database
	Applied  []int64 // versions of ours that were applied now
}

// State is what a database has, for "schema show" and for the start of a manager.
type State struct {
	Revision string // of alembic_version; empty = none
	Head     string // what Revision has to be
	Version  int64  // of ours; 0 = none
	Latest   int64  // what Version has to be
}

// Ready tells whether a manager can work on the database.
func (s State) Ready() bool { return s.Revision == s.Head && s.Version >= s.Latest }

// Check explains what is missing unless the database is ready.
// Errors: ServerMisconfigured.
func (s State) Check() error {
	switch {
	case s.Ready():
		return nil
	case s.Revision == "":
		return backendai.Errorf(backendai.ServerMisconfigured, "the database has no tables yet; run `schema oneshot` first")
	case s.Revision != s.Head && !slices.Contains(tailRevisions, s.Revision):
		return unknown(s.Revision)
	default:
		return backendai.Errorf(backendai.ServerMisconfigured, "the database has to be upgraded; run `schema oneshot` with all managers stopped")
	}
}

func unknown(revision string) error {
	return backendai.Errorf(backendai.ServerMisconfigured,
		"the database is at revision %s, which is neither of 22.03 (%s) nor of a version it can be upgraded from; it was left untouched", revision, Head)
}

// Status reads the state of the database; it changes nothing.
func Status(ctx context.Context, pool *pgxpool.Pool) (State, error) {
	state := State{Head: Head}
	var err error
	if state.Latest, err = latest(); err != nil {
		return State{}, err
	}
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		if state.Revision, err = revision(ctx, conn.Conn()); err != nil {
			return err
		}
		state.Version, err = version(ctx, conn.Conn())
		return err
	})
	return state, postgres.AsError(err)
}

// Oneshot makes the database what a manager needs, from nothing or from an
// existing installation; see the package's comment for the cases. Running it
// again changes nothing. progress is told what happens and may be nil.
//
// Errors: ServerMisconfigured for a database it refuses, which it leaves
// untouched; what postgres.AsError gives.
func Oneshot(ctx context.Context, pool *pgxpool.Pool, progress func(string)) (Result, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if pool.Config().MaxConns < 2 {
		return Result{}, backendai.Errorf(backendai.InvalidConfig, "changing the schema takes a pool of at least two connections: one holds the lock")
	}
	var result Result
	err := pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		// Session-level, because ours takes several transactions; a lost connection releases it.
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockID); err != nil {
			return err
		}
		defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, lockID) }()
		if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			result, err = settle(ctx, tx.Conn(), progress)
			return err
		}); err != nil {
			return err
		}
		var err error
		result.Applied, err = migrate(ctx, pool, progress)
		return err
	})
	if err != nil {
		return Result{}, postgres.AsError(err)
	}
	pool.Reset() // connections learn the enum types when they are made
	return result, nil
}

// settle brings schema public to the head, inside the caller's transaction.
func settle(ctx context.Context, conn *pgx.Conn, progress func(string)) (Result, error) {
	rev, err := revision(ctx, conn)
	if err != nil {
		return Result{}, err
	}
	result := Result{Revision: rev}
	script := ""
	switch {
	case rev == Head:
		progress("Detected an existing database.")
		result.Found = Current
		return result, nil
	case rev == "":
		var tables int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'`).Scan(&tables); err != nil {
			return Result{}, err
		}
		if tables > 0 {
			return Result{}, backendai.Errorf(backendai.ServerMisconfigured, "the database has %d tables but no alembic_version to tell what they are; it was left untouched", tables)
		}
		progress("Detected a fresh new database.")
		progress("Creating tables...")
		result.Found, script = Empty, fresh
	case slices.Contains(tailRevisions, rev):
		progress("Detected an existing database.")
		progress("Performing schema upgrade to head...")
		result.Found, script = Older, tail
	default:
		return Result{}, unknown(rev)
	}
	if _, err := conn.Exec(ctx, "SET LOCAL search_path = public; SET LOCAL client_min_messages = warning;\n"+script, pgx.QueryExecModeSimpleProtocol); err != nil {
		return Result{}, fmt.Errorf("schema public: %w", err)
	}
	if _, err := conn.Exec(ctx, `DELETE FROM public.alembic_version`); err != nil {
		return Result{}, err
	}
	if _, err := conn.Exec(ctx, `INSERT INTO public.alembic_version (version_num) VALUES ($1)`, Head); err != nil {
		return Result{}, err
	}
	return result, nil
}

// revision reads the original's books; empty when there are none. More than one
// row is a half-done merge, which nobody can continue from.
func revision(ctx context.Context, conn *pgx.Conn) (string, error) {
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('public.alembic_version') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return "", err
	}
	rows, err := conn.Query(ctx, `SELECT version_num FROM public.alembic_version`)
	if err != nil {
		return "", err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	switch len(list) {
	case 0:
		return "", nil
	case 1:
		return list[0], nil
	default:
		return "", backendai.Errorf(backendai.ServerMisconfigured, "alembic_version has %d rows (%q), so a migration of the original was not finished", len(list), list)
	}
}

// version reads our books; 0 when there are none.
func version(ctx context.Context, conn *pgx.Conn) (int64, error) {
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, versionTable).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var v int64
	err := conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&v)
	return v, err
}

// latest is the highest version of ours that this program knows.
func latest() (int64, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		highest = max(highest, v)
	}
	return highest, nil
}

// WriteSource writes all that makes the schema to w: what tests hash to know
// whether a database made earlier still has today's schema.
func WriteSource(w io.Writer) error {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, Head+fresh); err != nil {
		return err
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// migrate brings ours up to date.
func migrate(ctx context.Context, pool *pgxpool.Pool, progress func(string)) (applied []int64, err error) {
	if _, err := pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+Ours); err != nil {
		return nil, err
	}
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, sub, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", Ours, err)
	}
	for _, r := range results {
		progress(fmt.Sprintf("Applied version %d of schema %s.", r.Source.Version, Ours))
		applied = append(applied, r.Source.Version)
	}
	return applied, nil
}
