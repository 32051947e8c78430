package store

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/protocol"
	"backend.ai/manager/actors/services"
	"backend.ai/manager/cluster"
	"backend.ai/manager/persistence/postgres/live"
	"backend.ai/manager/persistence/postgres/record"
)

// Settings are the shared settings that actors need.
type Settings interface {
	// KnownSlots are the slot types of the cluster.
	KnownSlots() *backendai.KnownSlots
	// AddSlotTypes declares slot types that an agent has reported.
	AddSlotTypes(ctx context.Context, slots []backendai.KnownSlot) error
	// AutoPull is config/docker/image/auto_pull, "digest" if unset.
	AutoPull() string
	// OverlayMTU is config/network/overlay/mtu, "" if unset.
	OverlayMTU() string
	// Registry is a configured container registry; ok is false for one that is not.
	Registry(name string) (url, username, password string, ok bool)
	// ShowsGroups is config/api/resources/group_resource_visibility.
	ShowsGroups() bool
	// SchedulerOptions are the options of a policy under config/plugins/scheduler/{policy}.
	SchedulerOptions(policy string) map[string]any
}

// forgottenAfter is after how many half-lives nothing of an owner's use is left that could count: 2⁻²⁰.
const forgottenAfter = 20

// Store is services.Store.
type Store struct {
	pool     *pgxpool.Pool
	settings Settings
	log      *slog.Logger
}

var _ services.Store = (*Store)(nil)

// New makes a store.
func New(pool *pgxpool.Pool, settings Settings, log *slog.Logger) *Store {
	return &Store{pool: pool, settings: settings, log: log}
}

// Shard reads what shards start from.
func (s *Store) Shard(ctx context.Context, shards []int32, n int) (*services.ShardRows, error) {
	shardOf := func(id string) string { return cluster.ShardSQL(id, n) }
	sessions, err := live.Sessions(ctx, s.pool, shardOf, shards)
	if err != nil {
		return nil, err
	}
	agents, err := live.Agents(ctx, s.pool, shardOf, shards)
	if err != nil {
		return nil, err
	}
	groups, err := live.Groups(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	remnants, err := live.Remnants(ctx, s.pool, shardOf, shards)
	if err != nil {
		return nil, err
	}
	rows := &services.ShardRows{
		Sessions: make(map[int32][][]record.Kernel), Agents: make(map[int32][]record.Agent), ScalingGroups: make(map[int32][]string),
	}
	for _, r := range remnants {
		rows.Remnants = append(rows.Remnants, services.Remnant{KernelID: r.ID, Agent: r.Agent})
	}
	for _, rowsOf := range sessions {
		shard := cluster.ShardOf(cluster.Session(rowsOf[0].SessionID), n)
		rows.Sessions[shard] = append(rows.Sessions[shard], rowsOf)
	}
	for _, a := range agents {
		shard := cluster.ShardOf(cluster.Agent(a.ID), n)
		rows.Agents[shard] = append(rows.Agents[shard], a)
	}
	for _, g := range groups {
		shard := cluster.ShardOf(cluster.Scheduler(g), n)
		rows.ScalingGroups[shard] = append(rows.ScalingGroups[shard], g)
	}
	return rows, nil
}

// Session reads the rows of one session, main first.
func (s *Store) Session(ctx context.Context, id uuid.UUID) ([]record.Kernel, error) {
	return live.Session(ctx, s.pool, id)
}

// SessionOfKernel finds the session of a kernel.
func (s *Store) SessionOfKernel(ctx context.Context, kernel uuid.UUID) (uuid.UUID, bool, error) {
	return live.SessionOfKernel(ctx, s.pool, kernel)
}

// SessionsOn lists the live sessions with a kernel on an agent.
func (s *Store) SessionsOn(ctx context.Context, agent string) ([]uuid.UUID, error) {
	return live.SessionsOn(ctx, s.pool, agent)
}

// ScalingGroups lists the scaling groups.
func (s *Store) ScalingGroups(ctx context.Context) ([]string, error) { return live.Groups(ctx, s.pool) }

// KnownSlots are the cluster's slot types.
func (s *Store) KnownSlots(context.Context) (*backendai.KnownSlots, error) {
	return s.settings.KnownSlots(), nil
}

// SlotTypes declares an agent's slot types that the cluster does not know yet, or knows otherwise.
func (s *Store) SlotTypes(ctx context.Context, slots []protocol.AgentSlot) error {
	known := s.settings.KnownSlots()
	var news []backendai.KnownSlot
	for _, slot := range slots {
		name := backendai.SlotName(slot.Name)
		if t, ok := known.Type(name); !ok || t != slot.Type {
			news = append(news, backendai.KnownSlot{Name: name, Type: slot.Type})
		}
	}
	if len(news) == 0 {
		return nil
	}
	return s.settings.AddSlotTypes(ctx, news)
}

// Scheduler reads what a scaling group's scheduler starts from.
func (s *Store) Scheduler(ctx context.Context, scalingGroup string) (*protocol.SchedulerLoaded, error) {
	policy, err := s.Policy(ctx, scalingGroup)
	if err != nil {
		return nil, err
	}
	loaded := &protocol.SchedulerLoaded{Policy: policy.Policy, Problem: policy.Problem, Known: s.settings.KnownSlots()}
	agents, err := live.GroupAgents(ctx, s.pool, scalingGroup)
	if err != nil {
		return nil, err
	}
	for _, a := range agents {
		loaded.Agents = append(loaded.Agents, protocol.AgentState{
			ID: a.ID, Addr: a.Addr, ScalingGroup: a.ScalingGroup, Architecture: a.Architecture,
			Alive: a.Status == backendai.AgentAlive, Schedulable: a.Schedulable, Available: a.AvailableSlots,
		})
	}
	kernels, err := live.Allocations(ctx, s.pool, scalingGroup)
	if err != nil {
		return nil, err
	}
	for _, k := range kernels {
		a := &protocol.Allocation{
			SessionID: k.SessionID, KernelID: k.ID, Agent: *k.Agent, Slots: k.OccupiedSlots, Main: k.IsMain(),
			AccessKey: k.AccessKey, GroupID: k.GroupID, DomainName: k.DomainName, CountsForUser: k.Status.OccupiesUser(),
		}
		a.Wishes, _ = protocol.WishesOf(k.ResourceOpts)
		if k.StatusChanged != nil {
			switch k.Status {
			case backendai.Running, backendai.Restarting:
				a.Since = *k.StatusChanged
			case backendai.Scheduled, backendai.Preparing, backendai.Pulling:
				a.Placed = *k.StatusChanged
			}
		}
		loaded.Allocations = append(loaded.Allocations, a)
	}
	h := policy.Policy.Options.FairShareHalfLife
	if policy.Problem != "" { // the scheduler may go on with other options, which are not known here
		h = longest
	}
	if h > 0 {
		uses, err := live.PastUses(ctx, s.pool, scalingGroup, time.Now().Add(-forgottenAfter*min(h, longest)))
		if err != nil {
			return nil, err
		}
		for _, u := range uses {
			loaded.Uses = append(loaded.Uses, protocol.PastUse{AccessKey: u.AccessKey, SlotSeconds: u.SlotSeconds, At: u.At})
		}
		loaded.UsesRead = true
	}
	queue, err := live.Queue(ctx, s.pool, scalingGroup)
	if err != nil {
		return nil, err
	}
	limits := make(map[protocol.Owner]protocol.Limits)
	for _, rows := range queue {
		owner := protocol.Owner{AccessKey: rows[0].AccessKey, GroupID: rows[0].GroupID, DomainName: rows[0].DomainName}
		if _, ok := limits[owner]; !ok {
			if limits[owner], err = s.Limits(ctx, owner); err != nil {
				return nil, err
			}
		}
		depends, err := s.Dependencies(ctx, rows[0].SessionID)
		if err != nil {
			return nil, err
		}
		loaded.Pending = append(loaded.Pending, pendingOf(rows, limits[owner], depends))
	}
	return loaded, nil
}

func pendingOf(rows []record.Kernel, limits protocol.Limits, depends []protocol.Dependency) protocol.PendingSession {
	list := make([]*record.Kernel, len(rows))
	for i := range rows {
		list[i] = &rows[i]
	}
	p := protocol.PendingOf(list, limits, depends)
	var data struct {
		Scheduler struct {
			Retries int `json:"retries"`
		} `json:"scheduler"`
	}
	if json.Unmarshal(rows[0].StatusData, &data) == nil {
		p.Retries = data.Scheduler.Retries
	}
	return p
}

// Limits reads the quotas and rights of an owner.
func (s *Store) Limits(ctx context.Context, o protocol.Owner) (protocol.Limits, error) {
	q, err := live.ReadQuota(ctx, s.pool, o.AccessKey, o.GroupID, o.DomainName)
	if err != nil {
		return protocol.Limits{}, err
	}
	return LimitsOf(q, s.settings.KnownSlots())
}

// LimitsOf fills an owner's quotas for all slot types: what is not named is nothing or everything, as the policy says;
// in projects and domains it is everything (spec/scheduling-lifecycle §8).
func LimitsOf(q *live.Quota, known *backendai.KnownSlots) (l protocol.Limits, err error) {
	l.MaxConcurrentSessions = q.MaxConcurrentSessions
	if l.Keypair, err = backendai.SlotsFromPolicy(q.Keypair, q.Unspecified, known); err != nil {
		return l, err
	}
	if l.Group, err = backendai.SlotsFromPolicy(q.Group, backendai.Unlimited, known); err != nil {
		return l, err
	}
	if l.Domain, err = backendai.SlotsFromPolicy(q.Domain, backendai.Unlimited, known); err != nil {
		return l, err
	}
	l.ScalingGroups = make(map[string][]backendai.SessionType, len(q.Allowed))
	for name, opts := range q.Allowed {
		l.ScalingGroups[name] = allowedTypes(opts)
	}
	return l, nil
}

// allowedTypes are the session types a scaling group accepts; both when it does not say, or says nonsense.
func allowedTypes(opts json.RawMessage) []backendai.SessionType {
	var o struct {
		Types []string `json:"allowed_session_types"`
	}
	_ = json.Unmarshal(opts, &o)
	var types []backendai.SessionType
	for _, t := range o.Types {
		if parsed, err := backendai.ParseSessionType(t); err == nil {
			types = append(types, parsed)
		}
	}
	if len(types) == 0 {
		return backendai.SessionTypes
	}
	return types
}

// Dependencies reads what a session waits for.
func (s *Store) Dependencies(ctx context.Context, session uuid.UUID) ([]protocol.Dependency, error) {
	rows, err := live.Dependencies(ctx, s.pool, session)
	if err != nil {
		return nil, err
	}
	list := make([]protocol.Dependency, len(rows))
	for i, d := range rows {
		list[i] = protocol.Dependency(d)
	}
	return list, nil
}

// Policy reads how a scaling group schedules: the options of the policy under etcd, overlaid by the group's own.
func (s *Store) Policy(ctx context.Context, scalingGroup string) (*protocol.PolicyChanged, error) {
	g, err := live.Group(ctx, s.pool, scalingGroup)
	if err != nil {
		return nil, err
	}
	if g == nil {
		return nil, fmt.Errorf("there is no scaling group %q", scalingGroup)
	}
	policy, problems := policyOf(g.Scheduler, g.SchedulerOpts, s.settings.SchedulerOptions(g.Scheduler))
	return &protocol.PolicyChanged{Policy: policy, Problem: told(problems)}, nil
}

// Launch reads images and policy of a session that starts.
func (s *Store) Launch(ctx context.Context, rows []record.Kernel) (*protocol.Launch, error) {
	m := &rows[0]
	q, err := live.ReadQuota(ctx, s.pool, m.AccessKey, m.GroupID, m.DomainName)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(rows))
	arch := make(map[string]string)
	for _, k := range rows {
		names = append(names, k.Image)
		arch[k.Image] = k.Architecture
	}
	images, err := live.Images(ctx, s.pool, names)
	if err != nil {
		return nil, err
	}
	launch := &protocol.Launch{IdleTimeout: q.IdleTimeout, AutoPull: s.settings.AutoPull(), OverlayMTU: s.settings.OverlayMTU(), Images: make(map[string]protocol.LaunchImage)}
	for _, im := range images {
		if _, ok := launch.Images[im.Name]; ok && im.Architecture != arch[im.Name] {
			continue
		}
		launch.Images[im.Name] = s.LaunchImage(im)
	}
	for _, n := range names {
		if _, ok := launch.Images[n]; !ok {
			return nil, backendai.Errorf(backendai.ImageNotFound, "The image %s is no longer registered; rescan its registry.", n)
		}
	}
	return launch, nil
}

// LaunchImage joins an image's row with its registry's settings. Each image has its own registry (spec/scheduling-lifecycle §11.2, FIX).
func (s *Store) LaunchImage(im live.Image) protocol.LaunchImage {
	li := protocol.LaunchImage{RegistryName: im.Registry, Digest: im.Digest, Labels: im.Labels}
	if url, user, password, ok := s.settings.Registry(im.Registry); ok {
		li.RegistryURL, li.Username, li.Password = url, user, protocol.Secret(password)
	}
	return li
}
