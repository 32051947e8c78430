package live

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// ScalingGroup is how a pool of agents schedules.
type ScalingGroup struct {
	Name          string
	Scheduler     string
	SchedulerOpts json.RawMessage
}

// Groups lists the scaling groups, by name.
func Groups(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	rows, _ := pool.Query(ctx, `SELECT name FROM public.scaling_groups ORDER BY name`)
	return postgres.Collect("live: scaling groups", rows, pgx.RowTo[string])
}

// Group reads one scaling group; nil if there is none of that name.
func Group(ctx context.Context, pool *pgxpool.Pool, name string) (*ScalingGroup, error) {
	g := ScalingGroup{}
	err := pool.QueryRow(ctx, `SELECT name, scheduler, scheduler_opts FROM public.scaling_groups WHERE name = $1`, name).Scan(&g.Name, &g.Scheduler, &g.SchedulerOpts)
	switch err {
	case nil:
		return &g, nil
	case pgx.ErrNoRows:
		return nil, nil
	}
	return nil, fmt.Errorf("live: scaling group: %w", postgres.AsError(err))
}

// Quota is what binds the sessions of an owner, as the rows have it.
type Quota struct {
	MaxConcurrentSessions int
	MaxContainers         int   // of one session
	IdleTimeout           int64 // seconds
	Keypair               backendai.ResourceSlots
	Unspecified           backendai.DefaultForUnspecified // of slots the keypair's policy does not name
	Group                 backendai.ResourceSlots
	Domain                backendai.ResourceSlots
	// Allowed are the scaling groups the owner may use, each with its scheduler_opts.
	Allowed map[string]json.RawMessage
}

// ReadQuota reads the quotas of an access key in a project and a domain. A missing row counts as no grant.
func ReadQuota(ctx context.Context, pool *pgxpool.Pool, accessKey string, group uuid.UUID, domain string) (*Quota, error) {
	q := &Quota{Unspecified: backendai.Limited, Allowed: make(map[string]json.RawMessage)}
	var unspecified *string
	err := pool.QueryRow(ctx, `SELECT coalesce(p.max_concurrent_sessions, 0), coalesce(p.max_containers_per_session, 1), coalesce(p.idle_timeout, 0), p.total_resource_slots, p.default_for_unspecified::text,
 (SELECT g.total_resource_slots FROM public.groups g WHERE g.id = $2), (SELECT d.total_resource_slots FROM public.domains d WHERE d.name = $3)
 FROM (SELECT 1) one LEFT JOIN public.keypairs k ON k.access_key = $1 LEFT JOIN public.keypair_resource_policies p ON p.name = k.resource_policy`,
		accessKey, group, domain).Scan(&q.MaxConcurrentSessions, &q.MaxContainers, &q.IdleTimeout, &q.Keypair, &unspecified, &q.Group, &q.Domain)
	if err != nil {
		return nil, fmt.Errorf("live: quota: %w", postgres.AsError(err))
	}
	if unspecified != nil {
		q.Unspecified = backendai.DefaultForUnspecified(*unspecified)
	}
	rows, err := pool.Query(ctx, `SELECT g.name, g.scheduler_opts FROM public.scaling_groups g WHERE g.is_active AND g.name IN (
 SELECT scaling_group FROM public.sgroups_for_domains WHERE domain = $3
 UNION SELECT scaling_group FROM public.sgroups_for_groups WHERE "group" = $2
 UNION SELECT scaling_group FROM public.sgroups_for_keypairs WHERE access_key = $1)`, accessKey, group, domain)
	if err != nil {
		return nil, fmt.Errorf("live: allowed scaling groups: %w", postgres.AsError(err))
	}
	var name string
	var opts json.RawMessage
	if _, err := pgx.ForEachRow(rows, []any{&name, &opts}, func() error {
		q.Allowed[name] = append(json.RawMessage(nil), opts...)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("live: allowed scaling groups: %w", postgres.AsError(err))
	}
	return q, nil
}

// Dependency is a session that another waits for.
type Dependency struct {
	ID      uuid.UUID
	Name    string
	Success bool
	Failed  bool // it will never be
}

// failed tells of a main kernel's row that its session can't end in success any more: only batch sessions have a result.
const failed = `(k.result = 'FAILURE' OR k.result <> 'SUCCESS' AND (k.status IN ('TERMINATED', 'CANCELLED') OR k.session_type <> 'BATCH'))`

// Dependencies reads what a session waits for. Only main rows count: their result is the session's (spec/scheduling-lifecycle §8, FIX).
func Dependencies(ctx context.Context, pool *pgxpool.Pool, session uuid.UUID) ([]Dependency, error) {
	rows, _ := pool.Query(ctx, `SELECT k.id, coalesce(k.session_name, ''), k.result = 'SUCCESS', `+failed+` FROM public.session_dependencies d
 JOIN public.kernels k ON k.id = d.depends_on WHERE d.session_id = $1 ORDER BY k.created_at, k.id`, session)
	return postgres.Collect("live: dependencies", rows, pgx.RowToStructByPos[Dependency])
}

// Image is what launching needs of an image's row.
type Image struct {
	Name         string // canonical
	Architecture string
	Registry     string
	Digest       string
	Labels       map[string]string
}

// Images reads the rows of images by canonical name, of every architecture.
func Images(ctx context.Context, pool *pgxpool.Pool, names []string) ([]Image, error) {
	rows, _ := pool.Query(ctx, `SELECT name, architecture, registry, config_digest, labels FROM public.images WHERE name = ANY($1) ORDER BY name, architecture`, names)
	return postgres.Collect("live: images", rows, pgx.RowToStructByPos[Image])
}

// Outcome says whether a session has ended in success, or never will.
func Outcome(ctx context.Context, pool *pgxpool.Pool, session uuid.UUID) (success, never bool, err error) {
	err = pool.QueryRow(ctx, `SELECT k.result = 'SUCCESS', `+failed+` FROM public.kernels k WHERE k.id = $1`, session).Scan(&success, &never)
	if err == pgx.ErrNoRows {
		return false, true, nil
	}
	return success, never, err
}
