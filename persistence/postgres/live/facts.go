package live

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// ImageRow is an image as a request for a session needs it.
type ImageRow struct {
	Image
	Resources backendai.ImageResources
}

// ImagesByRef reads the images of a canonical name, or, if there are none, those that an alias stands for.
func ImagesByRef(ctx context.Context, pool *pgxpool.Pool, canonical, alias string) ([]ImageRow, error) {
	rows, _ := pool.Query(ctx, `SELECT name, architecture, registry, config_digest, labels, resources FROM public.images WHERE name = $1
 UNION ALL SELECT i.name, i.architecture, i.registry, i.config_digest, i.labels::json, i.resources FROM public.image_aliases a JOIN public.images i ON i.id = a.image WHERE a.alias = $2
 AND NOT EXISTS (SELECT 1 FROM public.images WHERE name = $1)`, canonical, alias)
	return postgres.Collect("live: images of a reference", rows, func(row pgx.CollectableRow) (r ImageRow, err error) {
		err = row.Scan(&r.Name, &r.Architecture, &r.Registry, &r.Digest, &r.Labels, &r.Resources)
		return r, err
	})
}

// Personal is what a keypair, its project and its domain put into sessions. The dotfiles are MessagePack as stored.
type Personal struct {
	BootstrapScript string
	SSHPublicKey    string
	SSHPrivateKey   string
	Dotfiles        [3][]byte // domain, group, keypair: the lowest priority first
}

// ReadPersonal reads it.
func ReadPersonal(ctx context.Context, pool *pgxpool.Pool, accessKey string, group uuid.UUID, domain string) (*Personal, error) {
	p := &Personal{}
	err := pool.QueryRow(ctx, `SELECT coalesce(k.bootstrap_script, ''), coalesce(k.ssh_public_key, ''), coalesce(k.ssh_private_key, ''),
 (SELECT dotfiles FROM public.domains WHERE name = $3), (SELECT dotfiles FROM public.groups WHERE id = $2), k.dotfiles
 FROM public.keypairs k WHERE k.access_key = $1`, accessKey, group, domain).
		Scan(&p.BootstrapScript, &p.SSHPublicKey, &p.SSHPrivateKey, &p.Dotfiles[0], &p.Dotfiles[1], &p.Dotfiles[2])
	if err == pgx.ErrNoRows {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("live: personal settings: %w", postgres.AsError(err))
	}
	return p, nil
}

// AgentsOf says which of the ids are agents.
func AgentsOf(ctx context.Context, pool *pgxpool.Pool, ids []string) (map[string]bool, error) {
	rows, err := pool.Query(ctx, `SELECT id FROM public.agents WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("live: agents: %w", postgres.AsError(err))
	}
	found := make(map[string]bool)
	var id string
	if _, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		found[id] = true
		return nil
	}); err != nil {
		return nil, fmt.Errorf("live: agents: %w", postgres.AsError(err))
	}
	return found, nil
}
