package dbtest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"backend.ai/manager/persistence/postgres"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/persistence/postgres/schema"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// TestNew: every test has its own rows, in the same tables.
func TestNew(t *testing.T) {
	for _, name := range []string{"one", "another"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			if _, err := pool.Exec(t.Context(), `INSERT INTO resource_presets (name, resource_slots) VALUES ('x', '{}')`); err != nil {
				t.Fatal(err)
			}
			state, err := schema.Status(t.Context(), pool)
			if err != nil || !state.Ready() {
				t.Errorf("%+v, %v", state, err)
			}
		})
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	var name string
	t.Run("inner", func(t *testing.T) {
		pool := dbtest.New(t)
		name = pool.Config().ConnConfig.Database
		// A connection that the test forgot does not keep the database.
		if _, err := pgx.ConnectConfig(context.Background(), pool.Config().ConnConfig); err != nil {
			t.Fatal(err)
		}
	})
	var exists bool
	if err := dbtest.Empty(t).QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil || exists {
		t.Errorf("%s: still there: %v, %v", name, exists, err)
	}
}

func TestConfig(t *testing.T) {
	pool, err := postgres.Connect(t.Context(), dbtest.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
}
