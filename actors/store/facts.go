package store

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/enqueue"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/changes"
	"backend.ai/manager/persistence/postgres/live"
	"backend.ai/manager/persistence/postgres/sessions"
)

// Facts gathers what enqueue.Plan needs. What every request reads is cached for at most a second and dropped when it changes.
type Facts struct {
	pool     *pgxpool.Pool
	settings Settings
	accounts *accounts.Accounts
	store    *Store

	images   *changes.Cache[string, []live.ImageRow]
	quotas   *changes.Cache[protocol.Owner, *live.Quota]
	personal *changes.Cache[protocol.Owner, *live.Personal]

	policies *changes.Cache[string, protocol.Policy]
	// good are the options of scaling groups that were understood last: schedulers go on with those, too.
	good sync.Map // by name, protocol.Policy

	dotFolders *changes.Cache[folderReader, []enqueue.Folder]
}

// Bounds of the caches: keys come from requests.
const (
	mostImages = 2_000
	mostOwners = 10_000
	mostGroups = 1_000
)

// NewFacts makes the reader and subscribes its caches.
func NewFacts(pool *pgxpool.Pool, settings Settings, a *accounts.Accounts, s *Store, l *changes.Listener) *Facts {
	f := &Facts{pool: pool, settings: settings, accounts: a, store: s}
	f.images = changes.NewCache(mostImages, func(ctx context.Context, ref string) ([]live.ImageRow, error) {
		canonical := ref
		if parsed, err := backendai.ParseImageRef(ref, backendai.AnyRegistry, ""); err == nil {
			canonical = parsed.Canonical()
		}
		return live.ImagesByRef(ctx, pool, canonical, ref)
	})
	f.quotas = changes.NewCache(mostOwners, func(ctx context.Context, o protocol.Owner) (*live.Quota, error) {
		return live.ReadQuota(ctx, pool, o.AccessKey, o.GroupID, o.DomainName)
	})
	f.personal = changes.NewCache(mostOwners, func(ctx context.Context, o protocol.Owner) (*live.Personal, error) {
		return live.ReadPersonal(ctx, pool, o.AccessKey, o.GroupID, o.DomainName)
	})
	f.policies = changes.NewCache(mostGroups, f.readPolicy)
	l.Subscribe(f.policies.Drop, "scaling_groups")
	l.Subscribe(f.images.Drop, "images", "image_aliases")
	l.Subscribe(f.quotas.Drop, "keypairs", "keypair_resource_policies", "groups", "domains", "scaling_groups", "sgroups_for_domains", "sgroups_for_groups", "sgroups_for_keypairs")
	l.Subscribe(f.personal.Drop, "keypairs", "groups", "domains")
	f.cacheFolders(l)
	return f
}

// HostArchitecture is the architecture of images when a request names none: the manager's own.
func HostArchitecture() string { return backendai.NormalizeArchitecture(runtime.GOARCH) }

// Read gathers the facts for a request of an owner. It returns no refusals: what is missing is left empty for the plan to judge.
func (f *Facts) Read(ctx context.Context, r *enqueue.Request, owner enqueue.Owner) (*enqueue.Facts, error) {
	facts := &enqueue.Facts{Now: time.Now(), Known: f.settings.KnownSlots(), Owner: owner,
		AutoPull: f.settings.AutoPull(), OverlayMTU: f.settings.OverlayMTU()}
	rows, err := f.images.Get(ctx, r.Image)
	if err != nil {
		return nil, err
	}
	for _, im := range rows {
		facts.Images = append(facts.Images, enqueue.Image{Name: im.Name, Registry: im.Registry, Architecture: im.Architecture,
			Labels: im.Labels, Resources: im.Resources, Launch: f.store.LaunchImage(im.Image)})
	}
	domainName := r.Domain
	if domainName == "" {
		domainName = owner.Domain
	}
	domain, err := f.accounts.Domain(ctx, domainName)
	if err != nil {
		return nil, err
	}
	if domain == nil {
		return facts, nil
	}
	facts.Domain = &enqueue.Domain{Active: domain.IsActive, Registries: domain.AllowedDockerRegistries}
	group, err := f.group(ctx, domainName, r.Group, owner.UserID)
	if err != nil || group == nil {
		return facts, err
	}
	facts.Group = group
	return facts, f.ownerFacts(ctx, facts, r, protocol.Owner{AccessKey: owner.AccessKey, GroupID: group.ID, DomainName: domainName})
}

func (f *Facts) group(ctx context.Context, domain, name string, user uuid.UUID) (*enqueue.Group, error) {
	g, err := f.accounts.GroupByName(ctx, domain, name)
	if err != nil || g == nil || !g.IsActive {
		return nil, err
	}
	member, err := f.accounts.GroupsOf(ctx, user)
	if err != nil {
		return nil, err
	}
	in := slices.ContainsFunc(member, func(m accounts.Group) bool { return m.ID == g.ID })
	return &enqueue.Group{ID: g.ID, Member: in}, nil
}

// ownerFacts reads what depends on owner, project and domain together.
func (f *Facts) ownerFacts(ctx context.Context, facts *enqueue.Facts, r *enqueue.Request, owner protocol.Owner) error {
	quota, err := f.quotas.Get(ctx, owner)
	if err != nil {
		return err
	}
	if facts.Limits, err = LimitsOf(quota, facts.Known); err != nil {
		return err
	}
	facts.Policy = enqueue.Policy{MaxContainers: quota.MaxContainers, IdleTimeout: quota.IdleTimeout}
	for name := range quota.Allowed {
		facts.ScalingGroups = append(facts.ScalingGroups, name)
	}
	slices.Sort(facts.ScalingGroups)
	if err := f.queueFacts(ctx, facts, r); err != nil {
		return err
	}
	personal, err := f.personal.Get(ctx, owner)
	if err != nil {
		return err
	}
	facts.BootstrapScript, facts.SSHPublicKey, facts.SSHPrivateKey = personal.BootstrapScript, personal.SSHPublicKey, protocol.Secret(personal.SSHPrivateKey)
	for _, packed := range personal.Dotfiles {
		var files []enqueue.Dotfile
		if len(packed) > 0 && callosum.Unmarshal(packed, &files) == nil {
			facts.Dotfiles = append(facts.Dotfiles, files...)
		}
	}
	if len(r.Config.AgentList) > 0 {
		if facts.Agents, err = live.AgentsOf(ctx, f.pool, r.Config.AgentList); err != nil {
			return err
		}
	}
	for _, ref := range r.Dependencies {
		d, err := f.dependency(ctx, ref, owner.AccessKey)
		if err != nil {
			return err
		}
		facts.Dependencies = append(facts.Dependencies, d)
	}
	return nil
}

// queueFacts reads what the scaling group's options say of requests, and how many wait there where that is bounded.
func (f *Facts) queueFacts(ctx context.Context, facts *enqueue.Facts, r *enqueue.Request) error {
	group, err := enqueue.ScalingGroupOf(r, facts)
	if err != nil {
		return nil // the plan refuses it
	}
	if facts.Options, err = f.Options(ctx, group); err != nil {
		return err
	}
	if facts.Options.MaxPending > 0 || facts.Options.MaxPendingPerKeypair > 0 {
		facts.Waiting.All, facts.Waiting.Own, err = live.Waiting(ctx, f.pool, group, facts.Owner.AccessKey)
	}
	return err
}

// Options are a scaling group's options as far as they bear on requests; the last good ones where those that were written are not
// understood, as its scheduler has it.
func (f *Facts) Options(ctx context.Context, scalingGroup string) (protocol.Options, error) {
	p, err := f.policies.Get(ctx, scalingGroup)
	return p.Options, err
}

func (f *Facts) readPolicy(ctx context.Context, scalingGroup string) (protocol.Policy, error) {
	read, err := f.store.Policy(ctx, scalingGroup)
	if err != nil {
		return protocol.Policy{}, err
	}
	if read.Problem == "" {
		f.good.Store(scalingGroup, read.Policy)
		return read.Policy, nil
	}
	if good, ok := f.good.Load(scalingGroup); ok {
		return good.(protocol.Policy), nil
	}
	return read.Policy, nil
}

// dependency resolves a reference among all sessions, dead or alive; the newest counts (spec/scheduling-lifecycle §4.3).
func (f *Facts) dependency(ctx context.Context, ref, accessKey string) (*protocol.Dependency, error) {
	list, err := sessions.Find(ctx, f.pool, ref, accessKey, true)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	success, never, err := live.Outcome(ctx, f.pool, list[0].ID)
	return &protocol.Dependency{ID: list[0].ID, Name: list[0].Name, Success: success, Failed: never}, err
}
