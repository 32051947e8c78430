package listing

import backendai "backend.ai/manager"

var agentStatuses = names[backendai.AgentStatus]("ALIVE", "LOST", "RESTARTING", "TERMINATED")

// Agents of all statuses.
var Agents = &Relation{
	from: "public.agents a",
	key:  "a.id",
	fields: map[string]string{
		"id": "a.id", "status": "a.status::text", "status_changed": "a.status_changed", "region": "a.region", "scaling_group": "a.scaling_group",
		"schedulable": "a.schedulable", "available_slots": "a.available_slots::text", "occupied_slots": "a.occupied_slots::text", "addr": "a.addr",
		"architecture": "a.architecture", "first_contact": "a.first_contact", "lost_at": "a.lost_at", "version": "a.version",
		"compute_plugins": "nullif(a.compute_plugins::text, 'null')",
		// As conditions.
		"of_status": "a.status",
	},
	filters: map[string]operand{
		"id": {sql: "a.id"}, "status": {sql: "a.status", kind: enumValue, enum: agentStatuses}, "status_changed": {sql: "a.status_changed", kind: timeValue},
		"region": {sql: "a.region"}, "scaling_group": {sql: "a.scaling_group"}, "schedulable": {sql: "a.schedulable", kind: boolValue}, "addr": {sql: "a.addr"},
		"first_contact": {sql: "a.first_contact", kind: timeValue}, "lost_at": {sql: "a.lost_at", kind: timeValue}, "version": {sql: "a.version"},
	},
	orders: map[string]string{
		"id": "a.id", "status": "a.status", "status_changed": "a.status_changed", "region": "a.region", "scaling_group": "a.scaling_group", "schedulable": "a.schedulable",
		"first_contact": "a.first_contact", "lost_at": "a.lost_at", "version": "a.version", "available_slots": "a.available_slots", "occupied_slots": "a.occupied_slots",
	},
	order: "a.status, a.scaling_group, a.id",
}

// ScalingGroups by name.
var ScalingGroups = &Relation{
	from: "public.scaling_groups s",
	joins: map[string]string{
		"sgd": "JOIN public.sgroups_for_domains sgd ON sgd.scaling_group = s.name",
		"sgg": "JOIN public.sgroups_for_groups sgg ON sgg.scaling_group = s.name",
		"sgk": "JOIN public.sgroups_for_keypairs sgk ON sgk.scaling_group = s.name",
	},
	fields: map[string]string{
		"name": "s.name", "description": "s.description", "is_active": "s.is_active", "created_at": "s.created_at", "wsproxy_addr": "s.wsproxy_addr", "driver": "s.driver",
		"driver_opts": "nullif(s.driver_opts::text, 'null')", "scheduler": "s.scheduler", "scheduler_opts": "s.scheduler_opts::text",
		"domain": "sgd.domain", "group": `sgg."group"::text`,
		// As conditions.
		"of_domain": "sgd.domain", "of_group": `sgg."group"`, "of_keypair": "sgk.access_key",
	},
	order: "s.name",
}

// Images of all registries.
var Images = &Relation{
	from:  "public.images i",
	joins: map[string]string{"als": "JOIN public.image_aliases als ON als.image = i.id"},
	fields: map[string]string{
		"id": "i.id::text", "canonical": "i.name", "name": "i.image", "humanized_name": "i.image", "tag": "i.tag", "registry": "i.registry", "architecture": "i.architecture",
		"digest": "trim(trailing from i.config_digest)", "hash": "trim(trailing from i.config_digest)", "size_bytes": "i.size_bytes",
		"raw_labels": "i.labels::text", "raw_limits": "i.resources::text", "accelerators": "coalesce(i.accelerators, '')", "alias": "als.alias",
		// As conditions.
		"image": "i.id",
	},
	order: "i.name, i.architecture",
}

// ImageAliases by alias.
var ImageAliases = &Relation{
	from:   "public.image_aliases b",
	fields: map[string]string{"alias": "b.alias", "id": "b.image::text", "image": "b.image"},
	order:  "b.alias",
}

// ResourcePresets by name.
var ResourcePresets = &Relation{
	from:   "public.resource_presets r",
	fields: map[string]string{"name": "r.name", "resource_slots": "r.resource_slots::text", "shared_memory": "nullif(r.shared_memory, 0)"},
	order:  "r.name",
}
