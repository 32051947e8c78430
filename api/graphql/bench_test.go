package graphql_test

import (
	"bytes"
	"context"
	"syscall"
	"testing"

	"backend.ai/manager/api/graphql"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/dbtest"
	"backend.ai/manager/test/golden"
)

// BenchmarkSessions asks for 100 sessions out of 100 and of 1000: with what `ps` asks for, what lists with statistics ask for, and all
// there is. cpu-ms/op is this process's share, without the database's.
func BenchmarkSessions(b *testing.B) {
	pool := dbtest.New(b)
	golden.Cluster(b, pool)
	who, err := accounts.New(pool, changes.NewListener(pool)).Credential(context.Background(), golden.Keys["user"].Access)
	if err != nil {
		b.Fatal(err)
	}
	r := graphql.New(pool, graphql.Deps{})
	for _, rows := range []struct {
		name string
		n    int
	}{{"of 100", 100}, {"of 1000", 1000}} {
		s := served{pool: pool}
		s.exec(b, "DELETE FROM kernels")
		fill(b, s, rows.n)
		s.exec(b, "ANALYZE")
		for _, f := range []struct{ name, fields string }{
			{"ps", "name session_id group_name id image type status status_info status_changed result"},
			{"wide", "id name type session_id image architecture status status_changed created_at terminated_at occupied_slots service_ports access_key user_email group_name " +
				"scaling_group containers { id agent status live_stat }"},
			{"all", "id tag name type session_id image architecture registry cluster_template cluster_mode cluster_size domain_name group_name group_id user_email user_id access_key " +
				"created_user_email created_user_id status status_changed status_info status_data created_at terminated_at starts_at startup_command result resource_opts scaling_group " +
				"service_ports mounts occupied_slots num_queries containers { id idx role hostname status container_id agent resource_opts occupied_slots live_stat } dependencies { id name }"},
		} {
			b.Run(f.name+" "+rows.name, func(b *testing.B) {
				query := "query($l:Int!, $o:Int!, $s: String) { compute_session_list(limit:$l, offset:$o, status: $s) { items { " + f.fields + " } total_count } }"
				var before, after syscall.Rusage
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
				for b.Loop() {
					body := r.Answer(context.Background(), who, query, map[string]any{"l": 100.0, "o": 0.0, "s": "PENDING,SCHEDULED,PREPARING,PULLING,RUNNING,RESTARTING,TERMINATING,ERROR"})
					if bytes.Count(body, []byte(`"name"`)) < 100 {
						b.Fatal(string(body[:min(500, len(body))]))
					}
				}
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
				b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/1e6/float64(b.N), "cpu-ms/op")
			})
		}
	}
}
