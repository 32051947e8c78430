package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"backend.ai/manager/actors/agent/callosum"
)

// epochs remembers the highest epoch of every shard, also over restarts.
type epochs struct {
	path string
	mu   sync.Mutex
	high map[uint32]uint64
}

func openEpochs(path string) (*epochs, error) {
	e := &epochs{path: path, high: map[uint32]uint64{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &e.high)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

// admit refuses a command of a deposed owner with StaleEpoch. A command without a fence, as official managers send them, passes.
func (e *epochs) admit(f callosum.Fence) error {
	if f.IsZero() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	high := e.high[f.Shard]
	switch {
	case f.Epoch < high:
		return callosum.Exception("StaleEpoch", fmt.Sprintf("shard %d is in epoch %d, the command is of epoch %d", f.Shard, high, f.Epoch))
	case f.Epoch > high:
		e.high[f.Shard] = f.Epoch
		raw, err := json.Marshal(e.high)
		if err == nil {
			err = writeWhole(e.path, raw)
		}
		if err != nil { // admitted, but a restarted agent might admit its predecessor's too
			return callosum.Exception("OSError", "the epoch cannot be remembered: "+err.Error())
		}
	}
	return nil
}
