package listing

var (
	userStatuses = map[string]string{"ACTIVE": "active", "INACTIVE": "inactive", "DELETED": "deleted", "BEFORE_VERIFICATION": "before-verification"}
	userRoles    = map[string]string{"SUPERADMIN": "superadmin", "ADMIN": "admin", "USER": "user", "MONITOR": "monitor"}
)

// Keypairs with their owners.
var Keypairs = &Relation{
	from:  `public.keypairs k`,
	key:   "k.access_key",
	joins: map[string]string{"usr": `JOIN public.users usr ON usr.uuid = k."user"`},
	fields: map[string]string{
		"id": "k.access_key", "user_id": "usr.email", "full_name": "usr.full_name", "access_key": "k.access_key", "secret_key": "k.secret_key",
		"is_active": "k.is_active", "is_admin": "k.is_admin", "resource_policy": "k.resource_policy", "created_at": "k.created_at",
		"last_used": "k.last_used", "rate_limit": "k.rate_limit", "user": `k."user"::text`, "ssh_public_key": "k.ssh_public_key",
		"owner_email": "usr.email", "owner_name": "usr.full_name", "owner_role": "usr.role::text",
		// As conditions.
		"domain_name": "usr.domain_name", "email": "usr.email", "owner": `k."user"`,
	},
	filters: map[string]operand{
		"access_key": {sql: "k.access_key"}, "user_id": {sql: "usr.uuid", kind: uuidValue}, "email": {sql: "usr.email"}, "full_name": {sql: "usr.full_name"},
		"is_active": {sql: "k.is_active", kind: boolValue}, "is_admin": {sql: "k.is_admin", kind: boolValue}, "resource_policy": {sql: "k.resource_policy"},
		"created_at": {sql: "k.created_at", kind: timeValue}, "last_used": {sql: "k.last_used", kind: timeValue},
		"rate_limit": {sql: "k.rate_limit", kind: numberValue}, "num_queries": {sql: "k.num_queries", kind: numberValue}, "ssh_public_key": {sql: "k.ssh_public_key"},
	},
	orders: map[string]string{
		"access_key": "k.access_key", "email": "usr.email", "full_name": "usr.full_name", "is_active": "k.is_active", "is_admin": "k.is_admin",
		"resource_policy": "k.resource_policy", "created_at": "k.created_at", "last_used": "k.last_used", "rate_limit": "k.rate_limit", "num_queries": "k.num_queries",
	},
	order: "k.created_at DESC, k.access_key",
}

// Users of all statuses.
var Users = &Relation{
	from:  "public.users u",
	key:   "u.uuid",
	joins: map[string]string{"mbr": "JOIN public.association_groups_users mbr ON mbr.user_id = u.uuid"},
	fields: map[string]string{
		"id": "u.uuid::text", "uuid": "u.uuid::text", "username": "u.username", "email": "u.email", "need_password_change": "u.need_password_change",
		"full_name": "u.full_name", "description": "u.description", "is_active": "u.status = 'active'", "status": "u.status::text", "status_info": "u.status_info",
		"created_at": "u.created_at", "modified_at": "u.modified_at", "domain_name": "u.domain_name", "role": "u.role::text",
		// As conditions.
		"user": "u.uuid", "of_status": "u.status", "of_group": "mbr.group_id",
	},
	filters: map[string]operand{
		"uuid": {sql: "u.uuid", kind: uuidValue}, "username": {sql: "u.username"}, "email": {sql: "u.email"}, "need_password_change": {sql: "u.need_password_change", kind: boolValue},
		"full_name": {sql: "u.full_name"}, "description": {sql: "u.description"}, "is_active": {sql: "(u.status = 'active')", kind: boolValue},
		"status": {sql: "u.status", kind: enumValue, enum: userStatuses}, "status_info": {sql: "u.status_info"}, "created_at": {sql: "u.created_at", kind: timeValue},
		"modified_at": {sql: "u.modified_at", kind: timeValue}, "domain_name": {sql: "u.domain_name"}, "role": {sql: "u.role", kind: enumValue, enum: userRoles},
	},
	orders: map[string]string{
		"uuid": "u.uuid", "username": "u.username", "email": "u.email", "need_password_change": "u.need_password_change", "full_name": "u.full_name",
		"is_active": "(u.status = 'active')", "status": "u.status", "status_info": "u.status_info", "created_at": "u.created_at", "modified_at": "u.modified_at",
		"domain_name": "u.domain_name", "role": "u.role",
	},
	order: "u.created_at DESC, u.uuid",
}

// Memberships are the groups of users.
var Memberships = &Relation{
	from:   "public.association_groups_users mbr JOIN public.groups g ON g.id = mbr.group_id",
	fields: map[string]string{"user": "mbr.user_id::text", "id": "g.id::text", "name": "g.name", "of_user": "mbr.user_id"},
	order:  "g.name, g.id",
}

// Domains by name.
var Domains = &Relation{
	from: "public.domains d",
	fields: map[string]string{
		"name": "d.name", "description": "d.description", "is_active": "d.is_active", "created_at": "d.created_at", "modified_at": "d.modified_at",
		"total_resource_slots": "coalesce(nullif(d.total_resource_slots::text, 'null'), '{}')", "allowed_vfolder_hosts": "d.allowed_vfolder_hosts",
		"allowed_docker_registries": "d.allowed_docker_registries", "integration_id": "d.integration_id",
	},
	order: "d.name",
}

// Groups (projects) by name.
var Groups = &Relation{
	from:  "public.groups g",
	joins: map[string]string{"mbr": "JOIN public.association_groups_users mbr ON mbr.group_id = g.id"},
	fields: map[string]string{
		"id": "g.id::text", "name": "g.name", "description": "g.description", "is_active": "g.is_active", "created_at": "g.created_at", "modified_at": "g.modified_at",
		"domain_name": "g.domain_name", "total_resource_slots": "coalesce(nullif(g.total_resource_slots::text, 'null'), '{}')",
		"allowed_vfolder_hosts": "g.allowed_vfolder_hosts", "integration_id": "g.integration_id",
		// As conditions.
		"group": "g.id", "of_member": "mbr.user_id",
	},
	order: "g.name, g.id",
}

// KeypairPolicies are resource policies of keypairs.
var KeypairPolicies = &Relation{
	from: "public.keypair_resource_policies p",
	fields: map[string]string{
		"name": "p.name", "created_at": "p.created_at", "default_for_unspecified": "p.default_for_unspecified::text", "total_resource_slots": "p.total_resource_slots::text",
		"max_session_lifetime": "p.max_session_lifetime", "max_concurrent_sessions": "p.max_concurrent_sessions", "max_containers_per_session": "p.max_containers_per_session",
		"idle_timeout": "p.idle_timeout", "max_vfolder_count": "p.max_vfolder_count", "max_vfolder_size": "p.max_vfolder_size", "allowed_vfolder_hosts": "p.allowed_vfolder_hosts",
	},
	order: "p.name",
}

var (
	usageModes  = map[string]string{"GENERAL": "general", "MODEL": "model", "DATA": "data"}
	permissions = map[string]string{"READ_ONLY": "ro", "READ_WRITE": "rw", "RW_DELETE": "wd", "OWNER_PERM": "wd"}
	ownerships  = map[string]string{"USER": "user", "GROUP": "group"}
)

// VirtualFolders with their owners: a user or a group.
var VirtualFolders = &Relation{
	from: "public.vfolders v",
	key:  "v.id",
	joins: map[string]string{
		"usr": `LEFT JOIN public.users usr ON usr.uuid = v."user"`,
		"grp": `LEFT JOIN public.groups grp ON grp.id = v."group"`,
	},
	fields: map[string]string{
		"id": "v.id::text", "host": "v.host", "name": "v.name", "user": `v."user"::text`, "user_email": "usr.email", "group": `v."group"::text`, "group_name": "grp.name",
		"creator": "v.creator", "unmanaged_path": "v.unmanaged_path", "usage_mode": "v.usage_mode::text", "permission": "v.permission::text",
		"ownership_type": "v.ownership_type::text", "max_files": "v.max_files", "max_size": "v.max_size::bigint", "created_at": "v.created_at", "last_used": "v.last_used",
		"cloneable": "v.cloneable",
		// As conditions.
		"owner": `v."user"`, "of_group": `v."group"`, "domain_name": "usr.domain_name",
	},
	filters: map[string]operand{
		"id": {sql: "v.id", kind: uuidValue}, "host": {sql: "v.host"}, "name": {sql: "v.name"}, "group": {sql: `v."group"`, kind: uuidValue}, "group_name": {sql: "grp.name"},
		"user": {sql: `v."user"`, kind: uuidValue}, "user_email": {sql: "usr.email"}, "creator": {sql: "v.creator"}, "unmanaged_path": {sql: "v.unmanaged_path"},
		"usage_mode": {sql: "v.usage_mode", kind: enumValue, enum: usageModes}, "permission": {sql: "v.permission", kind: enumValue, enum: permissions},
		"ownership_type": {sql: "v.ownership_type", kind: enumValue, enum: ownerships}, "max_files": {sql: "v.max_files", kind: numberValue},
		"max_size": {sql: "v.max_size", kind: numberValue}, "created_at": {sql: "v.created_at", kind: timeValue}, "last_used": {sql: "v.last_used", kind: timeValue},
		"cloneable": {sql: "v.cloneable", kind: boolValue},
	},
	orders: map[string]string{
		"id": "v.id", "host": "v.host", "name": "v.name", "group": `v."group"`, "group_name": "grp.name", "user": `v."user"`, "user_email": "usr.email",
		"usage_mode": "v.usage_mode", "permission": "v.permission", "ownership_type": "v.ownership_type", "max_files": "v.max_files", "max_size": "v.max_size",
		"created_at": "v.created_at", "last_used": "v.last_used", "cloneable": "v.cloneable",
	},
	order: "v.created_at DESC, v.id",
}
