package event

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/google/uuid"
	"github.com/vmihailenco/msgpack/v5"

	backendai "backend.ai/manager"
)

// Encode gives the fields "name" and "args" of a stream entry. Errors: InvalidArgument, for a type that is not of this package or a
// value in an Object that MessagePack has no form for.
func Encode(e Event) (name string, args []byte, err error) {
	if name = Name(e); name == "" {
		return "", nil, backendai.Errorf(backendai.InvalidArgument, "%T is no event", e)
	}
	var b bytes.Buffer
	enc := newEncoder(&b)
	v := reflect.ValueOf(e)
	err = enc.EncodeArrayLen(v.NumField())
	for i := 0; err == nil && i < v.NumField(); i++ {
		err = encodeField(enc, v.Field(i).Interface())
	}
	if err != nil {
		return "", nil, backendai.Errorf(backendai.InvalidArgument, "%s can't be encoded: %v", name, err)
	}
	return name, b.Bytes(), nil
}

// newEncoder keeps the profile of spec/agent-protocol §2.7: shortest integers, 64-bit floats, text and bytes apart.
func newEncoder(b *bytes.Buffer) *msgpack.Encoder {
	enc := msgpack.NewEncoder(b)
	enc.UseCompactInts(true)
	return enc
}

func encodeField(enc *msgpack.Encoder, field any) error {
	switch v := field.(type) {
	case string:
		return enc.EncodeString(v)
	case *string:
		if v == nil {
			return enc.EncodeNil()
		}
		return enc.EncodeString(*v)
	case int:
		return enc.EncodeInt(int64(v))
	case float64:
		return enc.EncodeFloat64(v)
	case Number:
		return v.encode(enc)
	case backendai.SessionID:
		return enc.EncodeString(v.String())
	case backendai.KernelID:
		return enc.EncodeString(v.String())
	case backendai.CreationID:
		return enc.EncodeString(string(v))
	case []backendai.KernelID:
		if err := enc.EncodeArrayLen(len(v)); err != nil {
			return err
		}
		for _, id := range v {
			if err := enc.EncodeString(id.String()); err != nil {
				return err
			}
		}
		return nil
	case Heartbeat:
		return v.encode(enc)
	}
	return encodeAny(enc, field)
}

// Decode makes the event of a stream entry. Errors: ObjectNotFound for a name that is not in the catalogue (a newer peer's; ignore it),
// InvalidArgument for args that don't fit the name. It accepts whatever input and allocates no more than a small multiple of its size.
func Decode(name string, args []byte) (Event, error) {
	t, ok := typeOf[name]
	if !ok {
		return nil, backendai.NoSuch("event " + backendai.Repr(name))
	}
	in := bytes.NewReader(args)
	dec := msgpack.NewDecoder(in)
	bad := func(err error) (Event, error) {
		return nil, backendai.Errorf(backendai.InvalidArgument, "%s: args don't fit: %v", name, err)
	}
	n, err := dec.DecodeArrayLen()
	if err != nil {
		return bad(err)
	}
	if n < t.NumField() {
		return bad(fmt.Errorf("%d of %d elements", n, t.NumField()))
	}
	v := reflect.New(t).Elem()
	for i := range t.NumField() {
		if err := decodeField(dec, v.Field(i).Addr().Interface(), len(args)); err != nil {
			return bad(fmt.Errorf("element %d: %w", i, err))
		}
	}
	return v.Interface().(Event), nil
}

// decodeField reads one element into what target points to; limit is how many elements an array can have at most.
func decodeField(dec *msgpack.Decoder, target any, limit int) (err error) {
	switch p := target.(type) {
	case *string:
		*p, err = text(dec)
	case **string:
		var v any
		if v, err = decodeAny(dec, limit, 0); err == nil && v != nil {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("%T is no text", v)
			}
			*p = &s
		}
	case *int:
		var n Number
		err = n.decode(dec, limit)
		*p = int(n.Float())
	case *float64:
		var n Number
		err = n.decode(dec, limit)
		*p = n.Float()
	case *Number:
		err = p.decode(dec, limit)
	case *backendai.SessionID:
		p.UUID, err = id(dec)
	case *backendai.KernelID:
		p.UUID, err = id(dec)
	case *backendai.CreationID:
		var s string
		s, err = text(dec)
		*p = backendai.CreationID(s)
	case *[]backendai.KernelID:
		var n int
		if n, err = dec.DecodeArrayLen(); err == nil && n > limit {
			err = fmt.Errorf("array of %d", n)
		}
		*p = []backendai.KernelID{}
		for i := 0; err == nil && i < n; i++ {
			var u uuid.UUID
			u, err = id(dec)
			*p = append(*p, backendai.KernelID{UUID: u})
		}
	case *Object:
		var v any
		if v, err = decodeAny(dec, limit, 0); err == nil && v != nil {
			var ok bool
			if *p, ok = v.(Object); !ok {
				err = fmt.Errorf("%T is no map", v)
			}
		}
	case *Heartbeat:
		var v any
		if v, err = decodeAny(dec, limit, 0); err == nil {
			o, ok := v.(Object)
			if !ok {
				return fmt.Errorf("%T is no map", v)
			}
			*p, err = heartbeatOf(o)
		}
	default:
		err = fmt.Errorf("no decoder for %T", target)
	}
	return err
}

// text takes a string; nil counts as empty, because peers send it for "nothing to say".
func text(dec *msgpack.Decoder) (string, error) {
	v, err := decodeAny(dec, 0, 0)
	if err != nil || v == nil {
		return "", err
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	return "", fmt.Errorf("%T is no text", v)
}

func id(dec *msgpack.Decoder) (uuid.UUID, error) {
	s, err := text(dec)
	if err != nil {
		return uuid.Nil, err
	}
	return uuid.Parse(s)
}
