package listing

var (
	userStatuses = map[string]string{"ACTIVE": "active", "INACTIVE": "inactive", "DELETED": "deleted", "BEFORE_VERIFICATION": "before-verification"}
	userRoles    = map[string]string{"SUPERADMIN": "superadmin", "ADMIN": "admin", "USER": "user", "MONITOR": "monitor"}
)

// Keypairs with their owners.
var Keypairs = &Relation{
	from:  `public.keypairs k`,
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
