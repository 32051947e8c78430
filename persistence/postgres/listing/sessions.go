package listing

import (
	"maps"

	backendai "backend.ai/manager"
)

// names are enum names that are stored as they are.
func names[T ~string](list ...T) map[string]string {
	m := make(map[string]string, len(list))
	for _, v := range list {
		m[string(v)] = string(v)
	}
	return m
}

var (
	kernelStatuses = names(backendai.KernelStatuses[:]...)
	sessionTypes   = names("INTERACTIVE", "BATCH")
	results        = names("UNDEFINED", "SUCCESS", "FAILURE")
	clusterModes   = map[string]string{"SINGLE_NODE": "single-node", "MULTI_NODE": "multi-node"}
)

// mounts are names; rows of old versions hold lists, which are shown as the original shows them (spec/database §3.4).
const mounts = `CASE WHEN array_ndims(k.mounts) > 1 THEN ARRAY(SELECT '[''' || array_to_string(k.mounts[i:i], ''', ''') || ''']'
 FROM generate_subscripts(k.mounts, 1) i) ELSE k.mounts END`

// lastChange: newest first, by what happened last to a kernel; the id keeps pages apart when that is equal.
const lastChange = `greatest(k.created_at, k.terminated_at, k.status_changed) DESC, k.id`

// Sessions are main kernels (spec/graphql §3.3).
var Sessions = &Relation{
	from: "public.kernels k",
	key:  "k.id",
	joins: map[string]string{
		"usr": "JOIN public.users usr ON usr.uuid = k.user_uuid",
		"grp": "JOIN public.groups grp ON grp.id = k.group_id",
		"dep": "JOIN public.session_dependencies dep ON dep.depends_on = k.session_id",
	},
	fields: map[string]string{
		"id": "k.id::text", "tag": "k.tag", "name": "k.session_name", "type": "k.session_type::text", "session_id": "k.session_id::text",
		"image": "k.image", "architecture": "k.architecture", "registry": "k.registry", "cluster_mode": "k.cluster_mode",
		"cluster_size": "k.cluster_size", "domain_name": "k.domain_name", "group_name": "grp.name", "group_id": "k.group_id::text",
		"user_email": "usr.email", "user_id": "k.user_uuid::text", "access_key": "k.access_key", "status": "k.status::text",
		"status_changed": "k.status_changed", "status_info": "k.status_info", "status_data": "nullif(k.status_data::text, 'null')", "created_at": "k.created_at",
		"terminated_at": "k.terminated_at", "starts_at": "k.starts_at", "startup_command": "k.startup_command", "result": "k.result::text",
		"resource_opts": "nullif(k.resource_opts::text, 'null')", "scaling_group": "k.scaling_group", "service_ports": "nullif(k.service_ports::text, 'null')", "mounts": mounts,
		"occupied_slots": "k.occupied_slots::text", "num_queries": "coalesce(k.num_queries, 0)",
		"agent": "k.agent", "container_id": "k.container_id", "role": "k.cluster_role", "last_stat": "nullif(k.last_stat::text, 'null')",
		"occupied_shares": "k.occupied_shares::text", "depended_by": "dep.session_id::text",
		// As conditions.
		"kernel": "k.id", "session": "k.session_id", "cluster_role": "k.cluster_role", "of_status": "k.status", "of_group": "k.group_id",
		"of_dependent": "dep.session_id",
	},
	filters: map[string]operand{
		"type": {sql: "k.session_type", kind: enumValue, enum: sessionTypes}, "name": {sql: "k.session_name"}, "image": {sql: "k.image"},
		"architecture": {sql: "k.architecture"}, "domain_name": {sql: "k.domain_name"}, "group_name": {sql: "grp.name"}, "user_email": {sql: "usr.email"},
		"access_key": {sql: "k.access_key"}, "scaling_group": {sql: "k.scaling_group"}, "cluster_mode": {sql: "k.cluster_mode", kind: enumValue, enum: clusterModes},
		"cluster_template": {sql: "NULL::text"}, "cluster_size": {sql: "k.cluster_size", kind: numberValue},
		"status": {sql: "k.status", kind: enumValue, enum: kernelStatuses}, "status_info": {sql: "k.status_info"},
		"status_changed": {sql: "k.status_changed", kind: timeValue}, "result": {sql: "k.result", kind: enumValue, enum: results},
		"created_at": {sql: "k.created_at", kind: timeValue}, "terminated_at": {sql: "k.terminated_at", kind: timeValue},
		"starts_at": {sql: "k.starts_at", kind: timeValue}, "startup_command": {sql: "k.startup_command"}, "agent": {sql: "k.agent"}, "agents": {sql: "k.agent"},
	},
	orders: map[string]string{
		"id": "k.id", "type": "k.session_type", "name": "k.session_name", "image": "k.image", "architecture": "k.architecture", "domain_name": "k.domain_name",
		"group_name": "grp.name", "user_email": "usr.email", "access_key": "k.access_key", "scaling_group": "k.scaling_group", "cluster_mode": "k.cluster_mode",
		"cluster_template": "NULL::text", "cluster_size": "k.cluster_size", "status": "k.status", "status_info": "k.status_info",
		"status_changed": "k.status_changed", "result": "k.result", "created_at": "k.created_at", "terminated_at": "k.terminated_at", "starts_at": "k.starts_at",
	},
	order: lastChange,
}

// Containers are kernels of all roles.
var Containers = &Relation{
	from: "public.kernels k",
	key:  "k.id",
	fields: map[string]string{
		"id": "k.id::text", "idx": "k.cluster_idx", "role": "k.cluster_role", "hostname": "k.cluster_hostname", "cluster_idx": "k.cluster_idx",
		"cluster_role": "k.cluster_role", "cluster_hostname": "k.cluster_hostname", "session_id": "k.session_id::text", "image": "k.image",
		"architecture": "k.architecture", "registry": "k.registry", "status": "k.status::text", "status_changed": "k.status_changed",
		"status_info": "k.status_info", "status_data": "nullif(k.status_data::text, 'null')", "created_at": "k.created_at", "terminated_at": "k.terminated_at",
		"starts_at": "k.starts_at", "agent": "k.agent", "container_id": "k.container_id", "resource_opts": "nullif(k.resource_opts::text, 'null')",
		"occupied_slots": "k.occupied_slots::text", "last_stat": "nullif(k.last_stat::text, 'null')",
		// As conditions.
		"kernel": "k.id", "session": "k.session_id", "of_status": "k.status", "domain_name": "k.domain_name", "access_key": "k.access_key", "of_agent": "k.agent", "on_agent": "k.agent",
	},
	filters: map[string]operand{
		"image": {sql: "k.image"}, "architecture": {sql: "k.architecture"}, "agent": {sql: "k.agent"}, "cluster_idx": {sql: "k.cluster_idx", kind: numberValue},
		"cluster_role": {sql: "k.cluster_role"}, "cluster_hostname": {sql: "k.cluster_hostname"}, "status": {sql: "k.status", kind: enumValue, enum: kernelStatuses},
		"status_info": {sql: "k.status_info"}, "created_at": {sql: "k.created_at", kind: timeValue}, "status_changed": {sql: "k.status_changed", kind: timeValue},
		"terminated_at": {sql: "k.terminated_at", kind: timeValue},
	},
	orders: map[string]string{
		"image": "k.image", "architecture": "k.architecture", "agent": "k.agent", "cluster_idx": "k.cluster_idx", "cluster_role": "k.cluster_role",
		"cluster_hostname": "k.cluster_hostname", "status": "k.status", "status_info": "k.status_info", "status_changed": "k.status_changed",
		"created_at": "k.created_at", "terminated_at": "k.terminated_at",
	},
	order: lastChange,
}

// LegacySessions are Sessions under the names of the deprecated queries; any column can order them.
var LegacySessions = legacySessions()

func legacySessions() *Relation {
	r := *Sessions
	r.fields = maps.Clone(Sessions.fields)
	for name, sql := range map[string]string{
		"sess_id": "k.session_name", "sess_type": "k.session_type::text", "session_name": "k.session_name", "session_type": "k.session_type::text",
		"lang": "k.image", "user_uuid": "k.user_uuid::text", "mounts": "NULL::text[]",
	} {
		r.fields[name] = sql
	}
	r.filters = nil
	r.orders = map[string]string{}
	for _, column := range []string{"id", "session_id", "session_creation_id", "session_name", "session_type", "cluster_mode", "cluster_size", "cluster_role",
		"cluster_idx", "cluster_hostname", "scaling_group", "agent", "agent_addr", "domain_name", "group_id", "user_uuid", "access_key", "image", "architecture",
		"registry", "tag", "container_id", "occupied_slots", "occupied_shares", "environ", "mounts", "mount_map", "vfolder_mounts", "attached_devices",
		"resource_opts", "bootstrap_script", "kernel_host", "repl_in_port", "repl_out_port", "stdin_port", "stdout_port", "service_ports", "preopen_ports",
		"created_at", "terminated_at", "starts_at", "status", "status_changed", "status_info", "status_data", "callback_url", "startup_command", "result",
		"internal_data", "container_log", "num_queries", "last_stat"} {
		r.orders[column] = "k." + column
	}
	return &r
}
