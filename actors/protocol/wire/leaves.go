package wire

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// The leaves: types that are not taken apart by their fields. A variable's value and not an init, because it must be there before the
// registry's init, whose file comes later or earlier.
var _ = func() bool {
	leaf(func(e *encoder, t time.Time) error {
		b, err := t.Round(0).MarshalBinary() // instant and zone; what the monotonic clock said means nothing elsewhere
		if err != nil {
			return err
		}
		return e.EncodeBytes(b)
	}, func(d *decoder) (t time.Time, err error) {
		b, err := d.passing()
		if err == nil {
			err = t.UnmarshalBinary(b)
		}
		return t, err
	})
	leaf(func(e *encoder, id uuid.UUID) error {
		e.scratch = append(e.scratch[:0], id[:]...)
		return e.EncodeBytes(e.scratch)
	}, func(d *decoder) (uuid.UUID, error) {
		b, err := d.passing()
		if err != nil {
			return uuid.UUID{}, err
		}
		return uuid.FromBytes(b)
	})
	leaf((*encoder).decimal, (*decoder).decimal)
	leaf(encodeSlots, decodeSlots)
	leaf(encodeCall, decodeCall)
	leaf(encodeError, decodeError)
	codecs[reflect.TypeFor[any]()] = &codec{
		enc: func(e *encoder, v reflect.Value) error { return e.message(v.Interface()) },
		dec: (*decoder).message,
	}
	return true
}()

func leaf[T any](enc func(*encoder, T) error, dec func(*decoder) (T, error)) {
	codecs[reflect.TypeFor[T]()] = &codec{
		enc: func(e *encoder, v reflect.Value) error {
			if v.CanAddr() { // without a copy on the heap
				return enc(e, *v.Addr().Interface().(*T))
			}
			x, _ := v.Interface().(T) // a nil interface is its zero value
			return enc(e, x)
		},
		dec: func(d *decoder, v reflect.Value) error {
			x, err := dec(d)
			*v.Addr().Interface().(*T) = x
			return err
		},
	}
}

// decimal writes an amount as text.
func (e *encoder) decimal(n backendai.Decimal) (err error) {
	if e.scratch, err = n.AppendText(e.scratch[:0]); err != nil {
		return err
	}
	if len(e.scratch) >= 32 {
		return e.EncodeString(string(e.scratch))
	}
	e.buf.WriteByte(msgpcode.FixedStrLow | byte(len(e.scratch)))
	e.buf.Write(e.scratch)
	return nil
}

func (d *decoder) decimal() (backendai.Decimal, error) {
	text, err := d.passing()
	if err != nil {
		return backendai.Decimal{}, err
	}
	return backendai.ParseDecimal(string(text))
}

// maxSlots bounds the kinds of slots in one amount; a cluster has a handful.
const maxSlots = 1024

// encodeSlots writes names and amounts in their order, which renderings show.
func encodeSlots(e *encoder, r backendai.ResourceSlots) error {
	if err := e.EncodeMapLen(r.Len()); err != nil {
		return err
	}
	for name, amount := range r.All() {
		if err := e.text(string(name)); err != nil {
			return err
		}
		if err := e.decimal(amount); err != nil {
			return err
		}
	}
	return nil
}

func decodeSlots(d *decoder) (r backendai.ResourceSlots, err error) {
	n, err := d.DecodeMapLen()
	switch {
	case err != nil:
		return r, err
	case n > maxSlots:
		return r, fmt.Errorf("%d kinds of slots are too many", n)
	}
	r = backendai.CollectSlots(max(n, 0), func(yield func(backendai.SlotName, backendai.Decimal) bool) {
		for range n {
			var name backendai.SlotName
			var amount backendai.Decimal
			if name, err = d.slotName(); err != nil {
				return
			}
			if amount, err = d.decimal(); err != nil || !yield(name, amount) {
				return
			}
		}
	})
	return r, err
}

// slotName reads a name; the intrinsic ones, which are everywhere, take no memory.
func (d *decoder) slotName() (backendai.SlotName, error) {
	name, err := d.passing()
	switch string(name) {
	case string(backendai.CPU):
		return backendai.CPU, err
	case string(backendai.Mem):
		return backendai.Mem, err
	}
	return backendai.SlotName(name), err
}

// encodeCall writes a call of an agent as the agent will get it: its arguments are any of a dozen structs, which callosum writes in the
// form that the agents' protocol demands. They stay in that form until they are sent on.
func encodeCall(e *encoder, c callosum.Call) error {
	payload, err := c.Payload()
	if err != nil {
		return err
	}
	if err := e.EncodeArrayLen(2); err != nil {
		return err
	}
	if err := e.text(c.Method); err != nil {
		return err
	}
	return e.EncodeBytes(payload)
}

func decodeCall(d *decoder) (c callosum.Call, err error) {
	n, err := d.DecodeArrayLen()
	switch {
	case err != nil:
		return c, err
	case n != 2:
		return c, errors.New("a call has a method and a payload")
	}
	method, err := d.DecodeString()
	if err != nil {
		return c, err
	}
	payload, err := d.octets()
	if err != nil {
		return c, err
	}
	return callosum.EncodedCall(method, payload)
}
