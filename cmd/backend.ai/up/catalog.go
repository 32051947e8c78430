package up

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	agentimages "backend.ai/manager/cmd/agent/images"
	"backend.ai/manager/persistence/postgres/images"
)

const (
	imageRegistry = agentimages.Registry
	pythonAlias   = "python"
	shellAlias    = "bash"
	// ownTag is at the end of the tags of images that are interpreters of this machine.
	ownTag = "-process"
)

// fillCatalog makes the table of images say what the agents can run: offered are the images that they told of. Those of interpreters
// that are gone are forgotten, unless the database is shared with other machines.
func fillCatalog(ctx context.Context, pool *pgxpool.Pool, offered []agentimages.Image, shared bool) error {
	there, err := images.List(ctx, pool)
	if err != nil {
		return err
	}
	for _, i := range offered {
		row := rowOf(i)
		if err := images.Put(ctx, pool, row); err != nil {
			return err
		}
	}
	for _, i := range there {
		gone := i.Registry == imageRegistry && strings.HasSuffix(i.Tag, ownTag) && !slices.ContainsFunc(offered, func(o agentimages.Image) bool { return o.Canonical() == i.Canonical })
		if gone && !shared {
			if err := images.Forget(ctx, pool, i.ID); err != nil {
				return err
			}
		}
	}
	for alias, runtime := range map[string]string{pythonAlias: agentimages.RuntimePython, shellAlias: agentimages.RuntimeShell} {
		n := slices.IndexFunc(offered, func(i agentimages.Image) bool { return i.Runtime == runtime })
		if n < 0 {
			continue
		}
		if err := aliasUnlessThere(ctx, pool, alias, offered[n]); err != nil {
			return err
		}
	}
	return nil
}

// aliasUnlessThere leaves an alias alone that somebody has given to another image.
func aliasUnlessThere(ctx context.Context, pool *pgxpool.Pool, alias string, target agentimages.Image) error {
	list, err := images.List(ctx, pool)
	if err != nil {
		return err
	}
	for _, i := range list {
		if slices.Contains(i.Aliases, alias) {
			return nil
		}
	}
	n := slices.IndexFunc(list, func(i images.Image) bool {
		return i.Canonical == target.Canonical() && i.Architecture == target.Architecture
	})
	if n < 0 {
		return nil
	}
	if err := images.Alias(ctx, pool, alias, list[n]); err != nil && !errors.Is(err, backendai.InvalidArgument) { // somebody was quicker
		return err
	}
	return nil
}

func rowOf(i agentimages.Image) images.Image {
	labels := backendai.ImageLabels(i.Labels)
	return images.Image{
		Canonical: i.Canonical(), Registry: i.Registry, Name: i.Name, Tag: i.Tag, Architecture: i.Architecture, Digest: i.Digest, SizeBytes: i.SizeBytes,
		Accelerators: labels.Accelerators(), Labels: i.Labels, Resources: labels.MinResources(),
	}
}
