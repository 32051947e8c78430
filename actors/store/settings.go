package store

import (
	"context"
	"encoding/json"
	"strconv"

	backendai "backend.ai/manager"
	"backend.ai/manager/config/shared"
)

// Shared reads the shared settings in etcd, as they are now.
type Shared struct{ settings *shared.Settings }

// NewShared makes Settings of the watched tree.
func NewShared(s *shared.Settings) Shared { return Shared{s} }

var _ Settings = Shared{}

// KnownSlots are the slot types of the cluster.
func (s Shared) KnownSlots() *backendai.KnownSlots { return s.settings.Current().Slots }

// AddSlotTypes declares slot types that an agent has reported; nothing ever takes one away (spec/scheduling-lifecycle §2.1).
func (s Shared) AddSlotTypes(ctx context.Context, slots []backendai.KnownSlot) error {
	for _, slot := range slots {
		if err := s.settings.Put(ctx, shared.Join("config", "resource_slots", string(slot.Name)), string(slot.Type)); err != nil {
			return err
		}
	}
	return nil
}

// AutoPull is config/docker/image/auto_pull.
func (s Shared) AutoPull() string { return string(s.settings.Current().AutoPull) }

// OverlayMTU is config/network/overlay/mtu.
func (s Shared) OverlayMTU() string {
	if mtu := s.settings.Current().Network.OverlayMTU; mtu > 0 {
		return strconv.Itoa(mtu)
	}
	return ""
}

// ShowsGroups is config/api/resources/group_resource_visibility.
func (s Shared) ShowsGroups() bool { return s.settings.Current().GroupResourceVisibility }

// Registry is a configured container registry.
func (s Shared) Registry(name string) (url, username, password string, ok bool) {
	r, ok := s.settings.Current().Registries[name]
	return r.URL, r.Username, r.Password.Reveal(), ok
}

// Registries are the names of the configured registries.
func (s Shared) Registries() []string {
	all := s.settings.Current().Registries
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	return names
}

// SchedulerOptions are the options of a policy under config/plugins/scheduler/{policy}.
func (s Shared) SchedulerOptions(policy string) map[string]any {
	tree := s.settings.Current().Plugin("scheduler", policy)
	if tree.Empty() {
		return nil
	}
	doc, err := tree.MarshalJSON()
	if err != nil {
		return nil
	}
	var options map[string]any
	if json.Unmarshal(doc, &options) != nil {
		return nil
	}
	return options
}
