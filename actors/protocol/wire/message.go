package wire

import (
	"errors"
	"fmt"
	"reflect"
)

// message writes a message within another, or the outermost: nil, raw bytes, or a pointer to a registered struct, with its name.
func (e *encoder) message(msg any) error {
	switch b := msg.(type) {
	case nil:
		return e.EncodeNil()
	case []byte:
		if err := e.named(bytesName); err != nil {
			return err
		}
		return octets.enc(e, reflect.ValueOf(b))
	}
	v := reflect.ValueOf(msg)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("%T is no message", msg)
	}
	k := byType[v.Type().Elem()]
	if k == nil {
		return fmt.Errorf("%T is not registered", msg)
	}
	if e.within++; e.within > maxWithin {
		return errNested
	}
	defer func() { e.within-- }()
	if err := e.named(k.name); err != nil {
		return err
	}
	if err := k.codec.enc(e, v.Elem()); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	return nil
}

func (e *encoder) named(name string) error {
	if err := e.EncodeArrayLen(2); err != nil {
		return err
	}
	return e.EncodeString(name)
}

// message reads what message has written into a variable of type any.
func (d *decoder) message(into reflect.Value) error {
	n, err := d.DecodeArrayLen()
	switch {
	case err != nil || n < 0: // nil
		return err
	case n != 2:
		return errors.New("a message has a name and a content")
	}
	name, err := d.DecodeString()
	if err != nil {
		return err
	}
	if name == bytesName {
		b, err := d.octets()
		into.Set(reflect.ValueOf(b))
		return err
	}
	k := byName[name]
	if k == nil {
		return fmt.Errorf("there is no message %q", name)
	}
	if d.within++; d.within > maxWithin {
		return errNested
	}
	defer func() { d.within-- }()
	if err := d.spend(1, k.typ.Size()); err != nil {
		return err
	}
	v := reflect.New(k.typ)
	if err := k.codec.dec(d, v.Elem()); err != nil {
		return fmt.Errorf("%s: %w", k.name, err)
	}
	into.Set(v)
	return nil
}
