package journal

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestPlansOfAnEmptyTable: a plan that a connection makes while there are hardly any sessions, and keeps, finds rows by their keys.
func TestPlansOfAnEmptyTable(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	entry := &Entry{Guard: w.guard(0), Sure: true}
	if err := begin(ctx, conn, []*Entry{entry}, map[*Entry]error{}); err != nil {
		t.Fatal(err)
	}
	for name, sql := range map[string]string{"kernels": updateKernels, "agents": updateAgents} {
		for _, s := range []string{`SET LOCAL plan_cache_mode = force_generic_plan`, `PREPARE ` + name + ` AS ` + sql} {
			if _, err := conn.Exec(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
		rows, err := conn.Query(ctx, `EXPLAIN EXECUTE `+name+`('[]', '{}')`, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if plan := strings.Join(lines, "\n"); !strings.Contains(plan, "Index Scan") && !strings.Contains(plan, "Bitmap Heap Scan") || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s:\n%s", name, plan)
		}
	}
	if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	var after string
	if err := conn.QueryRow(ctx, `SHOW enable_seqscan`).Scan(&after); err != nil || after != "on" {
		t.Error("the setting has outlived its transaction:", after, err)
	}
}
