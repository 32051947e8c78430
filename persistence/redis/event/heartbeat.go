package event

import (
	"bytes"
	"fmt"

	"github.com/golang/snappy"
	"github.com/vmihailenco/msgpack/v5"
)

// Heartbeat is what an agent says of itself (spec/agent-protocol §10.2).
type Heartbeat struct {
	IP           string
	Region       string
	ScalingGroup string
	// Addr is "tcp://host:port" of the agent's RPC.
	Addr string
	// Slots are in the agent's order.
	Slots   []Slot
	Version string
	// ComputePlugins maps a plugin's key to its attributes (Objects), in the agent's order.
	ComputePlugins Object
	// Images are what the agent has locally; nil when that part of the heartbeat can't be read (ImagesErr says why), which is no statement
	// that there are none.
	Images    []Image
	ImagesErr error
	// Architecture is empty for agents that don't say.
	Architecture string
	// Features are abilities beyond the original's: of our agents, "idempotent-create" and "epoch". Original managers ignore the key.
	Features []string
}

// Slot is a resource of an agent.
type Slot struct {
	Name string
	// Unit is count, bytes or unique.
	Unit string
	// Amount is a decimal text.
	Amount string
}

// Image is a local image; ID is empty when the agent sends the tag only.
type Image struct{ Tag, ID string }

// maxImages bounds the unpacked list: a few hundred images need some dozen KiB.
const maxImages = 16 << 20

func (h Heartbeat) encode(enc *msgpack.Encoder) error {
	slots := make(Object, len(h.Slots))
	for i, s := range h.Slots {
		slots[i] = Member{s.Name, []any{s.Unit, s.Amount}}
	}
	images := make([]any, len(h.Images))
	for i, img := range h.Images {
		images[i] = []any{img.Tag, img.ID}
	}
	var b bytes.Buffer
	if err := encodeAny(newEncoder(&b), images); err != nil {
		return err
	}
	plugins := h.ComputePlugins
	if plugins == nil {
		plugins = Object{}
	}
	o := Object{
		{"ip", h.IP}, {"region", h.Region}, {"scaling_group", h.ScalingGroup}, {"addr", h.Addr}, {"resource_slots", slots}, {"version", h.Version},
		{"compute_plugins", plugins}, {"images", snappy.Encode(nil, b.Bytes())}, {"architecture", h.Architecture},
	}
	if len(h.Features) > 0 {
		features := make([]any, len(h.Features))
		for i, f := range h.Features {
			features[i] = f
		}
		o = append(o, Member{"features", features})
	}
	return encodeAny(enc, o)
}

// heartbeatOf reads the map. Slots of a form that nobody knows and images that can't be unpacked are left out singly: the rest of the
// heartbeat still says that the agent lives.
func heartbeatOf(o Object) (h Heartbeat, err error) {
	h = Heartbeat{
		IP: o.Text("ip"), Region: o.Text("region"), ScalingGroup: o.Text("scaling_group"), Addr: o.Text("addr"), Version: o.Text("version"), Architecture: o.Text("architecture"),
	}
	if h.Addr == "" {
		return h, fmt.Errorf("a heartbeat without addr")
	}
	slots, _ := o.Get("resource_slots")
	members, ok := slots.(Object)
	if !ok {
		return h, fmt.Errorf("a heartbeat without resource_slots")
	}
	for _, m := range members {
		pair, _ := m.Value.([]any)
		if len(pair) < 2 || pair[0] == nil || pair[1] == nil {
			continue
		}
		h.Slots = append(h.Slots, Slot{m.Name, fmt.Sprint(pair[0]), fmt.Sprint(pair[1])})
	}
	if v, ok := o.Get("compute_plugins"); ok {
		h.ComputePlugins, _ = v.(Object)
	}
	if v, ok := o.Get("features"); ok {
		list, _ := v.([]any)
		for _, item := range list {
			if f, ok := item.(string); ok {
				h.Features = append(h.Features, f)
			}
		}
	}
	packed, _ := o.Get("images")
	h.Images, h.ImagesErr = unpackImages(packed)
	return h, nil
}

func unpackImages(packed any) ([]Image, error) {
	data, ok := packed.([]byte)
	if !ok {
		return nil, fmt.Errorf("images: %T is no byte string", packed)
	}
	if n, err := snappy.DecodedLen(data); err != nil || n > maxImages {
		return nil, fmt.Errorf("images: no snappy block of a sensible size")
	}
	data, err := snappy.Decode(nil, data)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	v, err := decodeAny(msgpack.NewDecoder(bytes.NewReader(data)), len(data), 0)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("images: %T is no list", v)
	}
	images := []Image{}
	for _, item := range list {
		entry, _ := item.([]any)
		if len(entry) == 0 {
			continue
		}
		img := Image{}
		if img.Tag, ok = entry[0].(string); !ok {
			continue
		}
		if len(entry) > 1 {
			img.ID, _ = entry[1].(string)
		}
		images = append(images, img)
	}
	return images, nil
}
