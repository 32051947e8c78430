package graphql_test

import (
	"strings"
	"syscall"
	"testing"

	"backend.ai/manager/api/graphql"
)

// BenchmarkSessions asks for 100 of 1000 sessions, over HTTP and signed: with what `ps` asks for, what the web UI's lists ask for, and all
// there is.
func BenchmarkSessions(b *testing.B) {
	s := serve(b, graphql.Deps{})
	fill(b, s, 1000)
	s.exec(b, "ANALYZE")
	for name, f := range map[string]string{
		"ps":   "name session_id group_name id image type status status_info status_changed result",
		"wide": "id name type session_id image architecture status status_changed created_at terminated_at occupied_slots service_ports access_key user_email group_name scaling_group containers { id agent status live_stat }",
		"all": "id tag name type session_id image architecture registry cluster_template cluster_mode cluster_size domain_name group_name group_id user_email user_id access_key " +
			"created_user_email created_user_id status status_changed status_info status_data created_at terminated_at starts_at startup_command result resource_opts scaling_group " +
			"service_ports mounts occupied_slots num_queries containers { id idx role hostname status container_id agent resource_opts occupied_slots live_stat } dependencies { id name }",
	} {
		b.Run(name, func(b *testing.B) {
			query := "query($limit:Int!, $offset:Int!, $status: String, $filter: String) { compute_session_list(limit:$limit, offset:$offset, status: $status, filter: $filter) { items { " + f + " } total_count } }"
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			for b.Loop() {
				body := s.ask(b, "user", query, map[string]any{"limit": 100, "offset": 0, "status": "PENDING,SCHEDULED,PREPARING,PULLING,RUNNING,RESTARTING,TERMINATING,RESIZING,SUSPENDED,ERROR", "filter": nil})
				if strings.Contains(body, "errors") || strings.Count(body, `"name"`) < 100 {
					b.Fatal(body[:min(500, len(body))])
				}
			}
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/1e6/float64(b.N), "cpu-ms/op") // with the client's share
		})
	}
}
