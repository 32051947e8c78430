package wire

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

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
		b, err := d.octets()
		if err == nil {
			err = t.UnmarshalBinary(b)
		}
		return t, err
	})
	leaf(func(e *encoder, id uuid.UUID) error { return e.EncodeBytes(id[:]) }, func(d *decoder) (uuid.UUID, error) {
		b, err := d.octets()
		if err != nil {
			return uuid.UUID{}, err
		}
		return uuid.FromBytes(b)
	})
	leaf(func(e *encoder, n backendai.Decimal) error { return e.EncodeString(n.String()) }, (*decoder).decimal)
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
			x, _ := v.Interface().(T) // a nil interface is its zero value
			return enc(e, x)
		},
		dec: func(d *decoder, v reflect.Value) error {
			x, err := dec(d)
			v.Set(reflect.ValueOf(&x).Elem())
			return err
		},
	}
}

func (d *decoder) decimal() (backendai.Decimal, error) {
	text, err := d.DecodeString()
	if err != nil {
		return backendai.Decimal{}, err
	}
	return backendai.ParseDecimal(text)
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
		if err := e.EncodeString(amount.String()); err != nil {
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
	for range n {
		name, err := d.DecodeString()
		if err != nil {
			return r, err
		}
		amount, err := d.decimal()
		if err != nil {
			return r, err
		}
		r = r.With(backendai.SlotName(name), amount)
	}
	return r, nil
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
