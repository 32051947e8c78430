package mgr

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	backendai "backend.ai/manager"
	"backend.ai/manager/cmd/backend.ai/console"
	"backend.ai/manager/persistence/postgres/images"
)

// imageGroup is image: the images that sessions may use (spec/config-cli-ops §4.4).
func imageGroup(o *options) *cobra.Command {
	group := console.Group("image", "Manage the images that sessions may use")
	group.AddCommand(imageCommands(o, false)...)
	return group
}

// olderImageCommands are the spellings below etcd, from when images lived there; the architecture may be left out (§4.12).
func olderImageCommands(o *options) []*cobra.Command {
	names := map[string]string{"list": "list-images", "inspect": "inspect-image", "forget": "forget-image", "set-resource-limit": "set-image-resource-limit"}
	list := imageCommands(o, true)
	for _, c := range list {
		name := c.Name()
		older := name
		if n, ok := names[name]; ok {
			older = n
		}
		c.Use = older + strings.TrimPrefix(c.Use, name)
		c.Hidden = true
		do := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			fmt.Fprintf(cmd.ErrOrStderr(), "etcd %s command is deprecated, use image %s instead\n", older, name)
			return do(cmd, args)
		}
	}
	return list
}

// imageCommands makes the commands; older ones let the architecture, always the last argument, default to this machine's.
func imageCommands(o *options, older bool) []*cobra.Command {
	args := func(n int) cobra.PositionalArgs {
		if older {
			return cobra.RangeArgs(n-1, n)
		}
		return cobra.ExactArgs(n)
	}
	architecture := func(args []string, at int) string {
		if len(args) > at {
			return args[at]
		}
		return backendai.NormalizeArchitecture(runtime.GOARCH)
	}
	// on is a command about one image, whose architecture is argument number at.
	on := func(use, short string, n, image, at int, do func(context.Context, *tools, *cobra.Command, []string, images.Image) error) *cobra.Command {
		return o.with(&cobra.Command{Use: use, Short: short, Args: args(n), RunE: o.run(func(ctx context.Context, t *tools, cmd *cobra.Command, args []string) error {
			pool, err := t.database(ctx)
			if err != nil {
				return err
			}
			i, err := images.Find(ctx, pool, args[image], architecture(args, at))
			if err != nil {
				return err
			}
			return do(ctx, t, cmd, args, i)
		})})
	}
	return []*cobra.Command{
		imageList(o),
		on("inspect CANONICAL_OR_ALIAS ARCHITECTURE", "Show an image", 2, 0, 1, func(_ context.Context, _ *tools, cmd *cobra.Command, _ []string, i images.Image) error {
			return console.WriteJSON(cmd.OutOrStdout(), inspected(i))
		}),
		on("forget CANONICAL_OR_ALIAS ARCHITECTURE", "Remove an image and its aliases", 2, 0, 1, func(ctx context.Context, t *tools, _ *cobra.Command, _ []string, i images.Image) error {
			pool, err := t.database(ctx)
			if err != nil {
				return err
			}
			return images.Forget(ctx, pool, i.ID)
		}),
		on("set-resource-limit CANONICAL_OR_ALIAS SLOT_TYPE MIN:MAX ARCHITECTURE", "Set how much of a resource sessions need and may have; either bound may be empty", 4, 0, 3, setLimit),
		on("alias ALIAS TARGET ARCHITECTURE", "Let a name stand for an image", 3, 1, 2, func(ctx context.Context, t *tools, _ *cobra.Command, args []string, i images.Image) error {
			pool, err := t.database(ctx)
			if err != nil {
				return err
			}
			return images.Alias(ctx, pool, args[0], i)
		}),
		o.with(&cobra.Command{Use: "dealias ALIAS", Short: "Remove an alias", Args: cobra.ExactArgs(1), RunE: o.run(func(ctx context.Context, t *tools, _ *cobra.Command, args []string) error {
			pool, err := t.database(ctx)
			if err != nil {
				return err
			}
			return images.Dealias(ctx, pool, args[0])
		})}),
	}
}

func setLimit(ctx context.Context, t *tools, _ *cobra.Command, args []string, i images.Image) error {
	low, high, ok := strings.Cut(args[2], ":")
	if !ok {
		return console.Usagef("'%s' is no range: write MIN:MAX, MIN: or :MAX.", args[2])
	}
	bound := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	pool, err := t.database(ctx)
	if err != nil {
		return err
	}
	return images.SetLimit(ctx, pool, i.ID, backendai.SlotName(args[1]), bound(low), bound(high))
}

func imageList(o *options) *cobra.Command {
	var short, installed bool
	c := o.with(&cobra.Command{Use: "list", Short: "List the images", Args: cobra.NoArgs, RunE: o.run(func(ctx context.Context, t *tools, cmd *cobra.Command, _ []string) error {
		pool, err := t.database(ctx)
		if err != nil {
			return err
		}
		list, err := images.List(ctx, pool)
		if err != nil {
			return err
		}
		if installed {
			if list, err = onlyInstalled(ctx, t, list); err != nil {
				return err
			}
		}
		shown := make([]inspection, len(list))
		for n, i := range list {
			shown[n] = inspected(i)
		}
		return console.Show(cmd, shown, func(out io.Writer) error {
			if short {
				rows := make([][]string, len(list))
				for n, i := range list {
					rows[n] = []string{i.Canonical, i.Digest}
				}
				return console.WriteTable(out, nil, rows)
			}
			for _, i := range list {
				if _, err := fmt.Fprintf(out, "%s (%s)\n", i.Canonical, i.Architecture); err != nil {
					return err
				}
			}
			return nil
		})
	})})
	c.Flags().BoolVarP(&short, "short", "s", false, "list names and digests")
	c.Flags().BoolVarP(&installed, "installed", "i", false, "list only those that an agent has")
	return c
}

// onlyInstalled keeps the images that the last heartbeats told of (spec/config-cli-ops §5.7).
func onlyInstalled(ctx context.Context, t *tools, list []images.Image) ([]images.Image, error) {
	set, err := t.redis(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for n, i := range list {
		names[n] = i.Canonical
	}
	agents, err := set.ImageAgents(ctx, names)
	if err != nil {
		return nil, err
	}
	var kept []images.Image
	for _, i := range list {
		if len(agents[i.Canonical]) > 0 {
			kept = append(kept, i)
		}
	}
	return kept, nil
}

// inspection is what inspect shows, in alphabetical order like the original's.
type inspection struct {
	Architecture  string            `json:"architecture"`
	Canonical     string            `json:"canonical_ref"`
	Digest        string            `json:"digest"`
	HumanizedName string            `json:"humanized_name"`
	Labels        map[string]string `json:"labels"`
	Name          string            `json:"name"`
	Registry      string            `json:"registry"`
	Limits        []limit           `json:"resource_limits"`
	Aliases       []string          `json:"reverse_aliases"`
	SizeBytes     int64             `json:"size_bytes"`
	Accelerators  []string          `json:"supported_accelerators"`
	Tag           string            `json:"tag"`
}

type limit struct {
	Key string `json:"key"`
	Max string `json:"max"`
	Min string `json:"min"`
}

func inspected(i images.Image) inspection {
	shown := inspection{
		Architecture: i.Architecture, Canonical: i.Canonical, Digest: i.Digest, HumanizedName: i.Name, Labels: i.Labels, Name: i.Name, Registry: i.Registry,
		Limits: []limit{}, Aliases: append([]string{}, i.Aliases...), SizeBytes: i.SizeBytes, Accelerators: append([]string{}, i.Accelerators...), Tag: i.Tag,
	}
	for _, name := range i.Resources.Names() {
		r := i.Resources[name]
		l := limit{Key: string(name), Min: r.Min, Max: "Infinity"}
		if l.Min == "" {
			l.Min = "0"
		}
		if r.Max != nil && *r.Max != "" {
			l.Max = *r.Max
		}
		shown.Limits = append(shown.Limits, l)
	}
	return shown
}
