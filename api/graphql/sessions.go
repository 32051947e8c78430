package graphql

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/signing"
	"backend.ai/manager/persistence/postgres/accounts"
	"backend.ai/manager/persistence/postgres/listing"
)

// queries are the root fields.
type queries struct{ *Resource }

// pageArgs are those of every paginated list.
type pageArgs struct {
	Limit, Offset int32
	Filter, Order *string
}

// query of a page within some conditions.
func (a pageArgs) query(where ...listing.Condition) listing.Query {
	limit, offset := int(a.Limit), int(a.Offset)
	return listing.Query{Where: where, Filter: a.Filter, Order: a.Order, Limit: &limit, Offset: &offset, ParseTime: parseTime}
}

// parseTime reads a date of a filter. One without a zone is in that of this machine (spec/graphql §5.1).
func parseTime(text string) (time.Time, bool) {
	now := time.Now()
	t, ok := signing.ParseDate(text, now)
	if ok && t.Location() == time.UTC && !namesUTC(strings.ToUpper(text)) {
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.Local)
	}
	return t, ok
}

// namesUTC tells whether a date that was read as UTC says so itself.
func namesUTC(upper string) bool {
	return strings.ContainsAny(upper, "Z+") || strings.HasSuffix(upper, "-00:00") || strings.Contains(upper, "GMT") || strings.Contains(upper, "UTC")
}

// page is what a paginated list answers.
type page[T any] struct {
	Items      []*T
	TotalCount int32
}

// readPage reads what is selected of a page: its items with some columns, its count, or both.
func readPage[T any](ctx context.Context, s *Resource, r *listing.Relation, q listing.Query, below fields, needs map[string][]string) (*page[T], error) {
	items, n, err := listing.Page[T](ctx, s.pool, r, q, below.below("items").own(needs), below.has("items"), below.has("total_count"))
	if err != nil {
		return nil, err
	}
	return &page[T]{Items: items, TotalCount: int32(n)}, nil
}

// computeSession is a session: its main kernel.
type computeSession struct {
	ID               *ID
	Tag              *string
	Name             *string
	Type             *string
	SessionID        *UUID
	Image            *string
	Architecture     *string
	Registry         *string
	ClusterTemplate  *string // never known
	ClusterMode      *string
	ClusterSize      *int32
	DomainName       *string
	GroupName        *string
	GroupID          *UUID
	UserEmail        *string
	UserID           *UUID
	AccessKey        *string
	CreatedUserEmail *string // never known
	CreatedUserID    *UUID   // never known
	Status           *string
	StatusChanged    *DateTime
	StatusInfo       *string
	StatusData       *JSONString
	CreatedAt        *DateTime
	TerminatedAt     *DateTime
	StartsAt         *DateTime
	StartupCommand   *string
	Result           *string
	ResourceOpts     *JSONString
	ScalingGroup     *string
	ServicePorts     *JSONString
	Mounts           *[]*string
	OccupiedSlots    *SlotString
	NumQueries       *BigInt
	Containers       *[]*computeContainer
	Dependencies     *[]*computeSession

	DependedBy *UUID // while dependencies are read

	asker *Resource // for Why
}

var sessionNeeds = map[string][]string{
	"containers": {"session_id"}, "dependencies": {"session_id"}, "occupied_slots": {"occupied_slots", "cluster_size", "session_id"},
	"why": {"session_id", "status", "scaling_group"}, "cluster_template": {}, "created_user_email": {}, "created_user_id": {},
}

type sessionScope struct {
	DomainName, GroupID, AccessKey, Status *string
}

// conditions of what a requester may see. Errors: those of scope, and of texts that mean nothing.
func (a sessionScope) conditions(who *accounts.Credential) ([]listing.Condition, error) {
	domain, key, err := scope(who, a.DomainName, string(who.Keypair.AccessKey), a.AccessKey, false)
	if err != nil {
		return nil, err
	}
	where := optional("access_key", key, optional("domain_name", domain, nil))
	if a.GroupID != nil {
		group, err := uuidArg(*a.GroupID).parse()
		if err != nil {
			return nil, err
		}
		where = append(where, listing.Is("of_group", group))
	}
	if a.Status != nil {
		statuses, err := statusNames(*a.Status)
		if err != nil {
			return nil, err
		}
		where = append(where, listing.In("of_status", statuses))
	}
	return where, nil
}

func optional[T any](field string, value *T, where []listing.Condition) []listing.Condition {
	if value == nil {
		return where
	}
	return append(where, listing.Is(field, *value))
}

// statusNames reads names of statuses with commas between them. Error: the first unknown one in quotes.
func statusNames(text string) ([]string, error) {
	var list []string
	for name := range strings.SplitSeq(text, ",") {
		if _, err := backendai.ParseKernelStatus(name); err != nil {
			return nil, backendai.Errorf(backendai.InvalidArgument, "%s", backendai.Repr(name))
		}
		list = append(list, name)
	}
	return list, nil
}

// ComputeSessionList is compute_session_list.
func (q *queries) ComputeSessionList(ctx context.Context, args struct {
	pageArgs
	sessionScope
}) (*page[computeSession], error) {
	where, err := args.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	f := selected(ctx)
	p, err := readPage[computeSession](ctx, q.Resource, listing.Sessions, args.query(append(where, listing.Is("cluster_role", "main"))...), f, sessionNeeds)
	if err != nil {
		return nil, err
	}
	return p, q.completeSessions(ctx, p.Items, f.below("items"))
}

// ComputeSession is compute_session.
func (q *queries) ComputeSession(ctx context.Context, args struct{ ID uuidArg }) (*computeSession, error) {
	where, err := sessionScope{}.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	id, err := args.ID.parse()
	if err != nil {
		return nil, err
	}
	list, err := q.sessions(ctx, append(where, listing.Is("kernel", id)), selected(ctx))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

// sessions reads whole sessions.
func (s *Resource) sessions(ctx context.Context, where []listing.Condition, f fields) ([]*computeSession, error) {
	q := listing.Query{Where: append(where, listing.Is("cluster_role", "main"))}
	list, err := listing.Read[computeSession](ctx, s.pool, listing.Sessions, q, f.own(sessionNeeds))
	if err != nil {
		return nil, err
	}
	return list, s.completeSessions(ctx, list, f)
}

// completeSessions reads what belongs to some sessions, each kind at once.
func (s *Resource) completeSessions(ctx context.Context, list []*computeSession, f fields) error {
	if len(list) == 0 {
		return nil
	}
	if f.has("why") {
		for _, c := range list {
			c.asker = s
		}
	}
	ids := make([]string, 0, len(list))
	if f.has("containers", "dependencies", "occupied_slots") {
		for _, c := range list {
			ids = append(ids, string(*c.SessionID))
		}
	}
	if f.has("containers") {
		of, err := s.containersOf(ctx, "session", ids, f.below("containers"), func(c *computeContainer) string { return string(*c.SessionID) })
		if err != nil {
			return err
		}
		for _, c := range list {
			all := of[string(*c.SessionID)]
			c.Containers = &all
		}
	}
	if f.has("occupied_slots") {
		if err := s.sumSlots(ctx, list); err != nil {
			return err
		}
	}
	if f.has("dependencies") {
		return s.dependencies(ctx, list, ids, f.below("dependencies"))
	}
	return nil
}

// sumSlots replaces the main kernel's slots by those of all kernels, where there are more.
func (s *Resource) sumSlots(ctx context.Context, list []*computeSession) error {
	var clusters []string
	for _, c := range list {
		if c.ClusterSize != nil && *c.ClusterSize > 1 {
			clusters = append(clusters, string(*c.SessionID))
		}
	}
	if clusters == nil {
		return nil
	}
	kernels, err := listing.Read[computeContainer](ctx, s.pool, listing.Containers, listing.Query{Where: []listing.Condition{listing.In("session", clusters)}}, []string{"session_id", "occupied_slots"})
	if err != nil {
		return err
	}
	sums := map[UUID]backendai.ResourceSlots{}
	for _, k := range kernels {
		slots, err := k.OccupiedSlots.slots()
		if err != nil {
			return err
		}
		sums[*k.SessionID] = sums[*k.SessionID].Add(slots)
	}
	for _, c := range list {
		if sum, ok := sums[*c.SessionID]; ok && c.OccupiedSlots != nil {
			if err := c.OccupiedSlots.set(sum); err != nil {
				return err
			}
		}
	}
	return nil
}

// dependencies are the sessions that others depend on, whosever they are.
func (s *Resource) dependencies(ctx context.Context, list []*computeSession, ids []string, f fields) error {
	found, err := s.sessions(ctx, []listing.Condition{listing.In("of_dependent", ids)}, append(f, "depended_by"))
	if err != nil {
		return err
	}
	of := map[UUID][]*computeSession{}
	for _, d := range found {
		of[*d.DependedBy] = append(of[*d.DependedBy], d)
	}
	for _, c := range list {
		all := of[*c.SessionID]
		if all == nil {
			all = []*computeSession{}
		}
		c.Dependencies = &all
	}
	return nil
}

// Why is why: why a pending session waits, as GET /session/{session}/why tells it; null for others. It is this manager's own. It is asked of
// the scheduler for each session, and thinking of what would start one takes long: lists do well to leave the changes out.
func (c *computeSession) Why(ctx context.Context, args struct{ Changes bool }) (*JSONString, error) {
	if c.asker == nil || c.asker.deps.Why == nil || c.Status == nil || *c.Status != string(backendai.Pending) {
		return nil, nil
	}
	id, err := uuid.Parse(string(*c.SessionID))
	if err != nil {
		return nil, err
	}
	doc, err := c.asker.deps.Why(ctx, id, who(ctx).IsSuperadmin(), !args.Changes)
	if err != nil || doc == nil {
		return nil, err
	}
	text := JSONString(ascii(string(doc)))
	return &text, nil
}
