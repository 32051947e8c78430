package enqueue

import (
	"encoding/json"
	"fmt"
	"strconv"

	backendai "backend.ai/manager"
)

// resolveResources settles what each kernel asks for and its options (spec/scheduling-lifecycle §4.1).
func resolveResources(r *Request, f *Facts, image *Image) (backendai.ResourceSlots, json.RawMessage, error) {
	var none backendai.ResourceSlots
	if _, err := image.Labels.ServicePorts(); err != nil {
		return none, nil, refuse("The image's label %s is malformed; ask its maintainer to mend it.", backendai.LabelServicePorts)
	}
	shmem, opts, err := sharedMemory(r, image)
	if err != nil {
		return none, nil, err
	}
	low, high, err := image.Resources.Ranges(f.Known)
	if err != nil {
		return none, nil, backendai.Internal(fmt.Errorf("resource ranges of image %s: %w", image.Name, err))
	}
	// The container's memory limit must also cover /dev/shm.
	low = low.With(backendai.Mem, low.Get(backendai.Mem).Add(backendai.DecimalOf(int64(shmem))))
	need, err := requested(r, f, low)
	if err != nil {
		return none, nil, err
	}
	// A partial order: refused only if the minimum is at least the request in every slot and more in one. Kept as it is:
	// a strict check would refuse what existing clients are granted (documented defect).
	if low.Greater(need) {
		return none, nil, refuse("Your resource request is smaller than the minimum required by the image. (%s)", low.Humanized(f.Known))
	}
	if !need.LessEq(high) {
		return none, nil, refuse("Your resource request is larger than the maximum allowed by the image. (%s)", high.Humanized(f.Known))
	}
	if mem := need.Get(backendai.Mem); mem.LessEq(backendai.DecimalOf(int64(shmem))) {
		n, _ := mem.Int64()
		return none, nil, refuse("Shared memory should be less than the main memory. (s:%s, m:%s)", shmem.Long(), backendai.BinarySize(n).Long())
	}
	doc, err := json.Marshal(opts)
	if err != nil {
		return none, nil, backendai.Internal(err)
	}
	return need, doc, nil
}

// sharedMemory is the option, else the image's preference, else 64m; the options get it as a number of bytes.
func sharedMemory(r *Request, image *Image) (backendai.BinarySize, map[string]any, error) {
	opts := make(map[string]any, len(r.Config.ResourceOpts)+1)
	for k, v := range r.Config.ResourceOpts {
		opts[k] = v
	}
	var size backendai.BinarySize
	var err error
	if given := opts["shmem"]; given != nil {
		if size, err = backendai.ParseBytes(textOf(given)); err != nil {
			return 0, nil, refuse("The size of the shared memory (resource_opts.shmem) is not understood: %s; write a size such as 64m.", backendai.Repr(textOf(given)))
		}
	} else if size, err = image.Labels.PreferredShmem(); err != nil {
		return 0, nil, refuse("The image's label %s is no size; ask its maintainer to mend it, or give resource_opts.shmem.", backendai.LabelPreferredShmem)
	}
	if size < 0 {
		return 0, nil, refuse("The size of the shared memory (resource_opts.shmem) must not be negative.")
	}
	opts["shmem"] = int64(size)
	return size, opts, nil
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func requested(r *Request, f *Facts, low backendai.ResourceSlots) (need backendai.ResourceSlots, err error) {
	if r.Config.Resources == nil && (r.Config.InstanceCores != nil || r.Config.InstanceMemory != nil || r.Config.InstanceGPUs || r.Config.InstanceTPUs) {
		return legacy(r, f, low)
	}
	raw := r.Config.Resources
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage(`{}`)
	}
	var names map[string]json.RawMessage
	if err := json.Unmarshal(raw, &names); err != nil {
		return need, refuse("resources must be an object of slot names and amounts.")
	}
	need, err = backendai.SlotsFromUser(raw, f.Known)
	if err != nil {
		for name := range names {
			if _, ok := f.Known.Type(backendai.SlotName(name)); !ok {
				return need, refuse("Unknown requested resource slot: %s", name)
			}
		}
		return need, refuse("Your resource request has resource type(s) not supported by the image.")
	}
	for name, amount := range need.All() {
		if amount.Sign() < 0 {
			return need, refuse("The amount of %s must not be negative.", name)
		}
	}
	for _, name := range []backendai.SlotName{backendai.CPU, backendai.Mem} {
		if need.Get(name).IsZero() {
			need = need.With(name, low.Get(name))
		}
	}
	return need, nil
}

// legacy reads the members of API version 2.
func legacy(r *Request, f *Facts, low backendai.ResourceSlots) (need backendai.ResourceSlots, err error) {
	switch {
	case r.Config.InstanceGPUs:
		return need, refuse("Client upgrade required to use GPUs (v19.03+).")
	case r.Config.InstanceTPUs:
		return need, refuse("Client upgrade required to use TPUs (v19.03+).")
	}
	need = need.With(backendai.CPU, low.Get(backendai.CPU)).With(backendai.Mem, low.Get(backendai.Mem))
	if n := r.Config.InstanceCores; n != nil {
		need = need.With(backendai.CPU, backendai.DecimalOf(int64(*n)))
	}
	if m := r.Config.InstanceMemory; m != nil {
		d, err := backendai.ParseSlotAmount(*m+"g", backendai.SlotBytes)
		if err != nil {
			return need, refuse("instanceMemory is not understood: %s", backendai.Repr(*m))
		}
		need = need.With(backendai.Mem, d)
	}
	return need.Normalize(f.Known), nil
}
