package up

import (
	"context"

	"backend.ai/manager/config/shared"
)

// localFolders is the host name of the virtual folders below the data directory.
const localFolders = "local"

// wantedSettings is a minimal tree (spec/config-cli-ops §3.7) for what is on this machine.
func wantedSettings(folders string) []shared.Pair {
	registry := shared.Join("config/docker/registry", shared.Quote(imageRegistry))
	return []shared.Pair{
		{Key: registry, Value: "https://" + imageRegistry},
		{Key: registry + "/type", Value: "harbor2"},
		{Key: registry + "/project", Value: "stable,community"},
		{Key: "volumes/_mount", Value: folders},
		{Key: "volumes/_default_host", Value: localFolders},
		{Key: "volumes/_types/user", Value: ""},
		{Key: "volumes/_types/group", Value: ""},
	}
}

// redisSettings say where Redis is. Without a password the key must be gone: an old one would be used.
func writeRedis(ctx context.Context, c *shared.Client, addr, password string) error {
	if err := writeIfDifferent(ctx, c, "config/redis/addr", addr); err != nil {
		return err
	}
	if password == "" {
		_, err := c.Delete(ctx, "config/redis/password", shared.Global)
		return err
	}
	return writeIfDifferent(ctx, c, "config/redis/password", password)
}

func writeIfDifferent(ctx context.Context, c *shared.Client, key, value string) error {
	now, ok, err := c.Get(ctx, key, shared.Global)
	if err != nil || ok && now == value {
		return err
	}
	_, err = c.Put(ctx, key, value, shared.Global)
	return err
}

// writeMissing writes the keys that are not there: what somebody has set stays.
func writeMissing(ctx context.Context, c *shared.Client, pairs []shared.Pair) error {
	var missing []shared.Pair
	for _, p := range pairs {
		_, ok, err := c.Get(ctx, p.Key, shared.Global)
		if err != nil {
			return err
		}
		if !ok {
			missing = append(missing, p)
		}
	}
	_, err := c.PutAll(ctx, missing, shared.Global)
	return err
}
