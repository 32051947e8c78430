package graphql

import (
	"context"
	"encoding/json"
	"math"
	"strconv"

	"github.com/google/uuid"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/listing"
)

// legacySession is a session as clients before v5 knew it.
type legacySession struct {
	ID               *ID
	Tag              *string
	SessID           *string
	SessType         *string
	SessionName      *string
	SessionType      *string
	Role             *string
	Image            *string
	Architecture     *string
	Registry         *string
	DomainName       *string
	GroupName        *string
	GroupID          *UUID
	ScalingGroup     *string
	UserUUID         *UUID
	AccessKey        *string
	Status           *string
	StatusChanged    *DateTime
	StatusInfo       *string
	CreatedAt        *DateTime
	TerminatedAt     *DateTime
	StartupCommand   *string
	Result           *string
	Agent            *string
	ContainerID      *string
	ServicePorts     *JSONString
	OccupiedSlots    *SlotString
	OccupiedShares   *JSONString
	Mounts           *[]*[]*string // never told
	ResourceOpts     *JSONString
	NumQueries       *BigInt
	LiveStat         *JSONString
	LastStat         *JSONString
	UserEmail        *string
	Lang             *string
	MemSlot          *int32 // MiB
	CPUSlot          *Float
	GPUSlot          *Float
	TPUSlot          *Float
	CPUUsed          *BigInt
	CPUUsing         *Float
	MemMaxBytes      *BigInt
	MemCurBytes      *BigInt
	NetRxBytes       *BigInt
	NetTxBytes       *BigInt
	IOReadBytes      *BigInt
	IOWriteBytes     *BigInt
	IOMaxScratchSize *BigInt
	IOCurScratchSize *BigInt
}

var legacyNeeds = map[string][]string{"mounts": {}, "live_stat": {"id", "last_stat"}, "last_stat": {"id", "last_stat"},
	"mem_slot": {"occupied_slots"}, "cpu_slot": {"occupied_slots"}, "gpu_slot": {"occupied_slots"}, "tpu_slot": {"occupied_slots"}}

// legacyMetrics are the fields that come out of statistics.
var legacyMetrics = []string{"cpu_used", "cpu_using", "mem_max_bytes", "mem_cur_bytes", "net_rx_bytes", "net_tx_bytes", "io_read_bytes", "io_write_bytes",
	"io_max_scratch_size", "io_cur_scratch_size"}

func init() {
	for _, m := range legacyMetrics {
		legacyNeeds[m] = []string{"id", "last_stat"}
	}
}

// LegacyComputeSessionList is legacy_compute_session_list.
func (q *queries) LegacyComputeSessionList(ctx context.Context, args struct {
	Limit, Offset int32
	OrderKey      *string
	OrderAsc      *bool
	sessionScope
}) (*page[legacySession], error) {
	where, err := args.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	a := pageArgs{Limit: args.Limit, Offset: args.Offset}
	if args.OrderKey != nil {
		order := *args.OrderKey
		if args.OrderAsc != nil && !*args.OrderAsc {
			order = "-" + order
		}
		a.Order = &order
	}
	f := selected(ctx)
	p, err := readPage[legacySession](ctx, q.Resource, listing.LegacySessions, a.query(append(where, listing.Is("cluster_role", "main"))...), f, legacyNeeds)
	if err != nil {
		return nil, err
	}
	return p, q.completeLegacy(ctx, p.Items, f.below("items"))
}

// LegacyComputeSession is legacy_compute_session: a running one by its name, or its id.
func (q *queries) LegacyComputeSession(ctx context.Context, args struct {
	SessID     string
	DomainName *string
	AccessKey  *string
}) (*legacySession, error) {
	running := string(backendai.Running)
	where, err := sessionScope{DomainName: args.DomainName, AccessKey: args.AccessKey, Status: &running}.conditions(who(ctx))
	if err != nil {
		return nil, err
	}
	where = append(where, listing.Is("cluster_role", "main"))
	f := selected(ctx)
	ways := []listing.Condition{listing.Is("name", args.SessID)}
	if id, err := uuid.Parse(args.SessID); err == nil {
		ways = append(ways, listing.Is("session", id.String()))
	}
	for _, by := range ways {
		list, err := listing.Read[legacySession](ctx, q.pool, listing.LegacySessions, listing.Query{Where: append(where, by)}, f.own(legacyNeeds))
		switch {
		case err != nil:
			return nil, err
		case len(list) > 1:
			return nil, backendai.NewError(backendai.TooManyKernelsFound)
		case len(list) == 1:
			return list[0], q.completeLegacy(ctx, list, f)
		}
	}
	return nil, nil
}

// completeLegacy adds statistics, numbers of slots, and hides agents.
func (s *Resource) completeLegacy(ctx context.Context, list []*legacySession, f fields) error {
	hides := s.hidesAgents(ctx)
	var stats map[string]JSONString
	wantsStats := f.has("live_stat", "last_stat") || f.has(legacyMetrics...)
	if wantsStats && len(list) > 0 {
		ids := make([]backendai.KernelID, 0, len(list))
		for _, l := range list {
			if id, err := backendai.ParseKernelID(string(*l.ID)); err == nil {
				ids = append(ids, id)
			}
		}
		stats = s.kernelStats(ctx, ids)
	}
	for _, l := range list {
		if hides {
			l.Agent, l.ContainerID = nil, nil
		}
		if wantsStats {
			l.LiveStat = l.LastStat
			if stat, ok := stats[string(*l.ID)]; ok {
				l.LiveStat, l.LastStat = &stat, &stat
			}
			l.measure()
		}
		if l.OccupiedSlots != nil {
			slots, err := l.OccupiedSlots.slots()
			if err != nil {
				return err
			}
			mib := int32(min(slotAmount(slots, backendai.Mem)/(1<<20), math.MaxInt32))
			cpu, gpu, tpu := Float(slotAmount(slots, "cpu")), Float(slotAmount(slots, "cuda.device")), Float(slotAmount(slots, "tpu.device"))
			l.MemSlot, l.CPUSlot, l.GPUSlot, l.TPUSlot = &mib, &cpu, &gpu, &tpu
		}
	}
	return nil
}

// slotAmount is an amount as a float.
func slotAmount(slots backendai.ResourceSlots, name backendai.SlotName) float64 {
	f, _ := strconv.ParseFloat(slots.Get(name).String(), 64) // a decimal always is one
	return f
}

// measure takes single metrics out of the statistics; what is missing is 0.
func (l *legacySession) measure() {
	var stat map[string]map[string]any
	if l.LiveStat != nil {
		_ = json.Unmarshal([]byte(*l.LiveStat), &stat) // statistics are for looking at
	}
	number := func(metric, key string) float64 {
		switch v := stat[metric][key].(type) {
		case float64:
			return v
		case string:
			f, err := strconv.ParseFloat(v, 64)
			if err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				return f
			}
		}
		return 0
	}
	whole := func(metric, key string) *BigInt { n := BigInt(number(metric, key)); return &n }
	using := Float(number("cpu_util", "pct"))
	l.CPUUsed, l.CPUUsing = whole("cpu_used", "current"), &using
	l.MemMaxBytes, l.MemCurBytes = whole("mem", "stats.max"), whole("mem", "current")
	l.NetRxBytes, l.NetTxBytes = whole("net_rx", "stats.rate"), whole("net_tx", "stats.rate")
	l.IOReadBytes, l.IOWriteBytes = whole("io_read", "current"), whole("io_write", "current")
	l.IOMaxScratchSize, l.IOCurScratchSize = whole("io_scratch_size", "stats.max"), whole("io_scratch_size", "current")
}
