package graphql_test

import "testing"

// fill adds running sessions of the user, the oldest first: one kernel each, but for every tenth, which has two.
func fill(t testing.TB, s served, n int) {
	t.Helper()
	s.exec(t, `INSERT INTO kernels (id, session_id, session_creation_id, session_name, session_type, cluster_mode, cluster_size, cluster_role, cluster_idx, cluster_hostname,
 scaling_group, agent, agent_addr, domain_name, group_id, user_uuid, access_key, image, architecture, registry, container_id, occupied_slots, occupied_shares, environ, mounts,
 resource_opts, repl_in_port, repl_out_port, stdin_port, stdout_port, service_ports, created_at, status, status_changed, status_info, status_data, num_queries)
SELECT md5('k' || i || role)::uuid, md5('k' || i || 'main')::uuid, 'c' || i, 's' || i, 'INTERACTIVE', 'single-node', size, role, CASE role WHEN 'main' THEN 1 ELSE 2 END, role || '1',
 'default', NULL, 'tcp://127.0.0.1:6001', 'default', '2de2b969-1d04-48a6-af16-0bc8adb3c831', 'dfa9da54-4b28-432f-be29-c0d680c7a412', 'AKIANABBDUSEREXAMPLE',
 '127.0.0.1:5000/stable/python:3.11-debian12', 'x86_64', '127.0.0.1:5000', 'c34cb98ee3738ce4cae6799a06b0ef4c187f39766228e05c46de2dcfc995f80c',
 '{"cpu": "1", "mem": "268435456"}', '{}', '{}', '{}', '{"shmem": 67108864}', 0, 0, 0, 0,
 '[{"name": "jupyter", "protocol": "http", "host_ports": [30003], "container_ports": [8081]}, {"name": "web", "protocol": "http", "host_ports": [30004], "container_ports": [8090]}, {"name": "sshd", "protocol": "tcp", "host_ports": [30005], "container_ports": [2200]}, {"name": "ttyd", "protocol": "http", "host_ports": [30006], "container_ports": [7681]}]',
 now() + i * interval '1 ms', 'RUNNING', now() + i * interval '1 ms', '', '{}', 0
FROM generate_series(1, $1::int) i, LATERAL (SELECT CASE WHEN i % 10 = 0 THEN 2 ELSE 1 END size) z, LATERAL unnest(CASE size WHEN 2 THEN ARRAY['main', 'sub'] ELSE ARRAY['main'] END) role`, n)
}
