package graphql

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/listing"
)

// image is a container image that sessions can use.
type image struct {
	ID                    *UUID
	Name                  *string // the repository
	HumanizedName         *string
	Tag                   *string
	Registry              *string
	Architecture          *string
	Digest                *string
	Labels                *[]*pair
	Aliases               *[]*string
	SizeBytes             *BigInt
	ResourceLimits        *[]*resourceLimit
	SupportedAccelerators *[]*string
	Installed             *bool
	InstalledAgents       *[]*string
	Hash                  *string

	Canonical, RawLabels, RawLimits, Accelerators *string
}

type pair struct{ Key, Value *string }

type resourceLimit struct{ Key, Min, Max *string }

var imageNeeds = map[string][]string{
	"labels": {"raw_labels"}, "resource_limits": {"raw_limits"}, "supported_accelerators": {"accelerators"}, "aliases": {"id"},
	"installed": {"canonical"}, "installed_agents": {"canonical"},
}

// imageRegistries are those whose images a requester may see; nil = of all. Errors: UnknownRole.
func (s *Resource) imageRegistries(ctx context.Context) ([]string, error) {
	me := who(ctx)
	switch me.User.Role {
	case backendai.RoleSuperadmin:
		return nil, nil
	case backendai.RoleAdmin, backendai.RoleUser:
	default:
		return nil, errUnknownRole
	}
	d, err := listing.One[domain](ctx, s.pool, listing.Domains, listing.Query{Where: []listing.Condition{listing.Is("name", me.User.Domain)}}, []string{"allowed_docker_registries"})
	list := []string{}
	if d != nil && d.AllowedDockerRegistries != nil {
		for _, r := range *d.AllowedDockerRegistries {
			list = append(list, *r)
		}
	}
	return list, err
}

// Images is images. is_operation means what it says; false and nothing are all (spec/graphql §9, 4).
func (q *queries) Images(ctx context.Context, args struct{ IsInstalled, IsOperation *bool }) (*[]*image, error) {
	registries, err := q.imageRegistries(ctx)
	if err != nil {
		return nil, err
	}
	var where []listing.Condition
	if registries != nil {
		where = append(where, listing.In("registry", registries))
	}
	f := selected(ctx)
	wanted := f
	if args.IsInstalled != nil {
		wanted = append(wanted, "installed")
	}
	if args.IsOperation != nil {
		wanted = append(wanted, "labels")
	}
	list, err := q.images(ctx, where, wanted)
	if err != nil {
		return nil, err
	}
	if args.IsInstalled != nil {
		list = slices.DeleteFunc(list, func(i *image) bool { return *i.Installed != *args.IsInstalled })
	}
	if args.IsOperation != nil && *args.IsOperation {
		list = slices.DeleteFunc(list, func(i *image) bool { return !i.operates() })
	}
	return &list, nil
}

// operates tells whether an image is for the system's own jobs.
func (i *image) operates() bool {
	return slices.ContainsFunc(*i.Labels, func(p *pair) bool {
		return *p.Key == "ai.backend.features" && slices.Contains(strings.Fields(*p.Value), "operation")
	})
}

// Image is image.
func (q *queries) Image(ctx context.Context, args struct {
	Reference    string
	Architecture string
}) (*image, error) {
	registries, err := q.imageRegistries(ctx)
	if err != nil {
		return nil, err
	}
	id, err := q.imageID(ctx, args.Reference, args.Architecture)
	if err != nil {
		return nil, err
	}
	f := selected(ctx)
	list, err := q.images(ctx, []listing.Condition{listing.Is("image", id)}, append(f, "registry"))
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || registries != nil && !slices.Contains(registries, *list[0].Registry) {
		return nil, backendai.NewError(backendai.ImageNotFound)
	}
	return list[0], nil
}

// imageID finds an image by its canonical name, else by alias. Errors: ImageNotFound.
func (s *Resource) imageID(ctx context.Context, reference, arch string) (string, error) {
	// The first part of a reference may be a registry; which there are, the images tell.
	shown, candidates := reference, []string{reference}
	for _, known := range [][]string{{"*"}, nil} {
		if ref, err := backendai.ParseImageRef(reference, known, arch); err == nil {
			shown, candidates = ref.Canonical(), append(candidates, ref.Canonical())
			arch = ref.Architecture
		}
	}
	found, err := listing.Read[image](ctx, s.pool, listing.Images, listing.Query{Where: []listing.Condition{listing.In("canonical", candidates), listing.Is("architecture", arch)}}, []string{"id", "canonical"})
	if err != nil {
		return "", err
	}
	for _, c := range candidates {
		for _, i := range found {
			if *i.Canonical == c {
				return string(*i.ID), nil
			}
		}
	}
	type aliased struct{ ID *UUID }
	alias, err := listing.One[aliased](ctx, s.pool, listing.ImageAliases, listing.Query{Where: []listing.Condition{listing.Is("alias", reference)}}, []string{"id"})
	if err != nil {
		return "", err
	}
	if alias == nil { // the original's spelling
		return "", backendai.Errorf(backendai.ImageNotFound, "Unkown image references: ref:%s, alias:%s", backendai.Repr(shown), backendai.Repr(reference))
	}
	return string(*alias.ID), nil
}

func (s *Resource) images(ctx context.Context, where []listing.Condition, f fields) ([]*image, error) {
	list, err := listing.Read[image](ctx, s.pool, listing.Images, listing.Query{Where: where}, f.own(imageNeeds))
	if err != nil || len(list) == 0 {
		return list, err
	}
	for _, i := range list {
		if err := errors.Join(i.readLabels(), i.readLimits()); err != nil {
			return nil, backendai.Internal(err)
		}
		if i.Accelerators != nil {
			accelerators := []*string{}
			for a := range strings.SplitSeq(*i.Accelerators, ",") {
				accelerators = append(accelerators, &a)
			}
			i.SupportedAccelerators = &accelerators
		}
	}
	if f.has("aliases") {
		if err := s.imageAliases(ctx, list); err != nil {
			return nil, err
		}
	}
	if f.has("installed", "installed_agents") {
		s.imageAgents(ctx, list)
	}
	return list, nil
}

func (i *image) readLabels() error {
	if i.RawLabels == nil {
		return nil
	}
	labels := []*pair{}
	err := eachMember(*i.RawLabels, func(key string, value json.RawMessage) error {
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		labels = append(labels, &pair{&key, &text})
		return nil
	})
	i.Labels = &labels
	return err
}

func (i *image) readLimits() error {
	if i.RawLimits == nil {
		return nil
	}
	limits := []*resourceLimit{}
	err := eachMember(*i.RawLimits, func(key string, value json.RawMessage) error {
		zero := "0"
		l := &resourceLimit{Key: &key, Min: &zero}
		var bounds struct{ Min, Max json.RawMessage }
		if err := json.Unmarshal(value, &bounds); err != nil {
			return err
		}
		for _, b := range []struct {
			raw  json.RawMessage
			into **string
		}{{bounds.Min, &l.Min}, {bounds.Max, &l.Max}} {
			if len(b.raw) == 0 || string(b.raw) == "null" {
				continue
			}
			text := string(b.raw)
			_ = json.Unmarshal(b.raw, &text) // a number stays as it is
			*b.into = &text
		}
		limits = append(limits, l)
		return nil
	})
	i.ResourceLimits = &limits
	return err
}

// eachMember walks a JSON object in its order.
func eachMember(text string, do func(string, json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return err // null, or no object at all: nothing to walk
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if err := do(key.(string), value); err != nil {
			return err
		}
	}
	return nil
}

func (s *Resource) imageAliases(ctx context.Context, list []*image) error {
	ids := make([]string, len(list))
	for n, i := range list {
		ids[n] = string(*i.ID)
	}
	type row struct {
		Alias *string
		ID    *UUID
	}
	rows, err := listing.Read[row](ctx, s.pool, listing.ImageAliases, listing.Query{Where: []listing.Condition{listing.In("image", ids)}}, []string{"alias", "id"})
	of := map[UUID][]*string{}
	for _, r := range rows {
		of[*r.ID] = append(of[*r.ID], r.Alias)
	}
	for _, i := range list {
		aliases := append([]*string{}, of[*i.ID]...)
		i.Aliases = &aliases
	}
	return err
}

// imageAgents tells where images are installed. Which agents, others than superadmins may be kept from knowing.
func (s *Resource) imageAgents(ctx context.Context, list []*image) {
	names := make([]string, len(list))
	for n, i := range list {
		names[n] = *i.Canonical
	}
	var agents map[string][]backendai.AgentID
	if s.deps.Live != nil {
		var err error
		agents, err = s.deps.Live.ImageAgents(ctx, names)
		away("where images are installed", err)
	}
	hidden := s.hidesAgents(ctx)
	for _, i := range list {
		ids := []*string{}
		for _, a := range agents[*i.Canonical] {
			id := string(a)
			ids = append(ids, &id)
		}
		installed := len(ids) > 0
		i.Installed = &installed
		if !hidden {
			i.InstalledAgents = &ids
		}
	}
}
