package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres"
)

// Image is a row with its aliases.
type Image struct {
	ID           uuid.UUID
	Canonical    string // registry/name:tag
	Registry     string
	Name         string // repository path, without the registry
	Tag          string
	Architecture string
	Digest       string // "sha256:…", without the padding of the column
	SizeBytes    int64
	CreatedAt    *time.Time
	Accelerators []string
	Labels       map[string]string
	Resources    backendai.ImageResources
	Aliases      []string // sorted
}

// Ref is the image's reference.
func (i Image) Ref() backendai.ImageRef {
	return backendai.ImageRef{Registry: i.Registry, Name: i.Name, Tag: i.Tag, Architecture: i.Architecture}
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// The migrated and the fresh schema differ in the type of labels, hence the cast; both take the text back.
const columns = `SELECT i.id, i.name, i.registry, i.image, coalesce(i.tag, ''), i.architecture, i.config_digest::text, i.size_bytes, i.created_at,
 coalesce(i.accelerators, ''), i.labels::jsonb, i.resources::jsonb,
 ARRAY(SELECT a.alias::text FROM public.image_aliases a WHERE a.image = i.id AND a.alias IS NOT NULL ORDER BY a.alias) FROM public.images i`

func read(ctx context.Context, db querier, rest string, args ...any) ([]Image, error) {
	rows, err := db.Query(ctx, columns+" "+rest, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (i Image, err error) {
		var accelerators string
		err = row.Scan(&i.ID, &i.Canonical, &i.Registry, &i.Name, &i.Tag, &i.Architecture, &i.Digest, &i.SizeBytes, &i.CreatedAt,
			&accelerators, &i.Labels, &i.Resources, &i.Aliases)
		i.Digest = strings.TrimSpace(i.Digest) // char(72) for a text of 71
		for name := range strings.SplitSeq(accelerators, ",") {
			if name = strings.TrimSpace(name); name != "" {
				i.Accelerators = append(i.Accelerators, name)
			}
		}
		return i, err
	})
}

// List reads all images, ordered by name and architecture.
func List(ctx context.Context, pool *pgxpool.Pool) ([]Image, error) {
	list, err := read(ctx, pool, "ORDER BY i.name, i.architecture, i.created_at")
	return list, postgres.AsError(err)
}

// Find resolves a canonical reference or an alias. An empty architecture accepts the only image of a reference, whatever its
// architecture. Errors: ImageNotFound, InvalidArgument when several architectures are there to choose from.
func Find(ctx context.Context, pool *pgxpool.Pool, text, architecture string) (Image, error) {
	i, err := find(ctx, pool, text, architecture)
	return i, coded(err)
}

// coded keeps the errors that have a code.
func coded(err error) error {
	var e *backendai.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return postgres.AsError(err)
}

func find(ctx context.Context, db querier, text, architecture string) (Image, error) {
	var list []Image
	ref, err := backendai.ParseImageRef(text, backendai.AnyRegistry, architecture)
	if err == nil { // else it can still be an alias
		if list, err = read(ctx, db, "WHERE i.name = $1 ORDER BY i.architecture, i.created_at", ref.Canonical()); err != nil {
			return Image{}, postgres.AsError(err)
		}
	}
	if len(list) == 0 {
		if list, err = read(ctx, db, "WHERE i.id IN (SELECT a.image FROM public.image_aliases a WHERE a.alias = $1)", text); err != nil {
			return Image{}, postgres.AsError(err)
		}
	}
	if len(list) == 0 {
		return Image{}, backendai.Errorf(backendai.ImageNotFound, "Unknown image reference: %s", text)
	}
	var have []string
	for _, i := range list {
		if architecture == "" && len(list) == 1 || i.Architecture == backendai.NormalizeArchitecture(architecture) {
			return i, nil
		}
		have = append(have, i.Architecture)
	}
	if architecture == "" {
		return Image{}, backendai.Errorf(backendai.InvalidArgument, "%s exists for %s: say which", text, strings.Join(have, ", "))
	}
	return Image{}, backendai.Errorf(backendai.ImageNotFound, "%s does not exist for %s, only for %s", text, architecture, strings.Join(slices.Compact(have), ", "))
}

// Put inserts an image, or updates the one of the same reference and architecture; its aliases stay.
func Put(ctx context.Context, pool *pgxpool.Pool, i Image) error {
	if i.Labels == nil {
		i.Labels = map[string]string{}
	}
	if i.Resources == nil {
		i.Resources = backendai.ImageResources{}
	}
	return coded(postgres.InTx(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		args := []any{i.Canonical, i.Architecture, i.Registry, i.Name, i.Tag, i.Digest, i.SizeBytes, nullable(strings.Join(i.Accelerators, ",")), i.Labels, i.Resources}
		tag, err := tx.Exec(ctx, `UPDATE public.images SET registry = $3, image = $4, tag = $5, config_digest = $6, size_bytes = $7, accelerators = $8, labels = $9, resources = $10
 WHERE name = $1 AND architecture = $2`, args...)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO public.images (id, created_at, type, name, architecture, registry, image, tag, config_digest, size_bytes, accelerators, labels, resources)
 VALUES ($11, now(), 'COMPUTE', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, append(args, uuid.New())...)
		return err
	}))
}

func nullable(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Forget removes an image together with its aliases (the original fails when there are any).
func Forget(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID) error {
	return coded(postgres.InTx(ctx, pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM public.image_aliases WHERE image = $1`, id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM public.images WHERE id = $1`, id)
		return err
	}))
}

// Alias lets a name stand for an image. Errors: InvalidArgument when it stands for one already.
func Alias(ctx context.Context, pool *pgxpool.Pool, alias string, image Image) error {
	if strings.TrimSpace(alias) == "" {
		return backendai.Errorf(backendai.InvalidArgument, "an alias must not be empty")
	}
	return coded(postgres.InTx(ctx, pool, pgx.TxOptions{}, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO public.image_aliases (id, alias, image) VALUES ($3, $1, $2) ON CONFLICT DO NOTHING`, alias, image.ID, uuid.New())
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		there, err := read(ctx, tx, "WHERE i.id IN (SELECT a.image FROM public.image_aliases a WHERE a.alias = $1)", alias)
		if err != nil {
			return err
		}
		var name string
		if len(there) > 0 {
			name = fmt.Sprintf("%s (%s)", there[0].Canonical, there[0].Architecture)
		}
		return backendai.Errorf(backendai.InvalidArgument, "alias already created with (%s)", name)
	}))
}

// Dealias removes an alias. Errors: ObjectNotFound.
func Dealias(ctx context.Context, pool *pgxpool.Pool, alias string) error {
	tag, err := pool.Exec(ctx, `DELETE FROM public.image_aliases WHERE alias = $1`, alias)
	if err == nil && tag.RowsAffected() == 0 {
		return backendai.Errorf(backendai.ObjectNotFound, "Alias not found.")
	}
	return postgres.AsError(err)
}

// SetLimit sets how much of a slot a session of the image needs and may have, as texts; nil leaves a bound as it is. Errors:
// InvalidArgument for what is no amount, or a minimum above the maximum.
func SetLimit(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID, slot backendai.SlotName, low, high *string) error {
	return coded(postgres.InTx(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		list, err := read(ctx, tx, "WHERE i.id = $1", id)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return backendai.NewError(backendai.ImageNotFound)
		}
		resources := list[0].Resources
		if resources == nil {
			resources = backendai.ImageResources{}
		}
		entry := resources[slot]
		if low != nil {
			entry.Min = *low
		}
		if high != nil {
			entry.Max = high
		}
		if err := checkRange(slot, entry); err != nil {
			return err
		}
		resources[slot] = entry
		_, err = tx.Exec(ctx, `UPDATE public.images SET resources = $2 WHERE id = $1`, id, resources)
		return err
	}))
}

func checkRange(slot backendai.SlotName, r backendai.SlotRange) error {
	amount := func(text string) (backendai.Decimal, error) {
		d, err := backendai.ParseAllocation(text)
		if err != nil || d.IsNaN() {
			return d, backendai.Errorf(backendai.InvalidArgument, "%s: %q is no amount", slot, text)
		}
		return d, nil
	}
	low, high := backendai.Decimal{}, backendai.Infinity()
	var err error
	if r.Min != "" {
		if low, err = amount(r.Min); err != nil {
			return err
		}
	}
	if r.Max != nil && *r.Max != "" {
		if high, err = amount(*r.Max); err != nil {
			return err
		}
	}
	if order, ok := low.Cmp(high); ok && order > 0 {
		return backendai.Errorf(backendai.InvalidArgument, "%s: the minimum %s is above the maximum %s", slot, low.String(), high.String())
	}
	return nil
}
