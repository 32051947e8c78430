package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Object is a MessagePack map in its order. Values are nil, bool, int64, uint64, float64, string, []byte, []any and Object.
type Object []Member

// Member is one entry of an Object.
type Member struct {
	Name  string
	Value any
}

// Get is the value of a name.
func (o Object) Get(name string) (any, bool) {
	for _, m := range o {
		if m.Name == name {
			return m.Value, true
		}
	}
	return nil, false
}

// Text is the text of a name; "" when there is none.
func (o Object) Text(name string) string {
	v, _ := o.Get(name)
	s, _ := v.(string)
	return s
}

// MarshalJSON keeps the order. Bytes become base64, numbers that JSON does not know become null.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.Name)
		if err != nil {
			return nil, err
		}
		value := m.Value
		if f, ok := value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			value = nil
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// DecodeObject reads one MessagePack map, such as an agent's statistics. Errors: plain ones, for input that is none.
func DecodeObject(data []byte) (Object, error) {
	v, err := decodeAny(msgpack.NewDecoder(bytes.NewReader(data)), len(data), 0)
	if err != nil {
		return nil, err
	}
	o, ok := v.(Object)
	if !ok {
		return nil, fmt.Errorf("%T is no map", v)
	}
	return o, nil
}

// EncodeObject is its inverse.
func EncodeObject(o Object) ([]byte, error) {
	var b bytes.Buffer
	err := encodeAny(newEncoder(&b), o)
	return b.Bytes(), err
}

// Number is an int64 or a float64, kept apart because clients see "1" or "1.0".
type Number struct {
	float   float64
	integer int64
	isFloat bool
}

// Int and Float make Numbers.
func Int(n int64) Number { return Number{integer: n} }

// FloatOf makes a Number of a float.
func FloatOf(f float64) Number { return Number{float: f, isFloat: true} }

// Float is the value.
func (n Number) Float() float64 {
	if n.isFloat {
		return n.float
	}
	return float64(n.integer)
}

// MarshalJSON writes an integer without a fraction and a float with one, as the original does.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.isFloat {
		return json.Marshal(n.integer)
	}
	text, err := json.Marshal(n.float)
	if err == nil && !bytes.ContainsAny(text, ".e") {
		text = append(text, ".0"...)
	}
	return text, err
}

func (n Number) encode(enc *msgpack.Encoder) error {
	if n.isFloat {
		return enc.EncodeFloat64(n.float)
	}
	return enc.EncodeInt(n.integer)
}

func (n *Number) decode(dec *msgpack.Decoder, limit int) error {
	v, err := decodeAny(dec, limit, 0)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case int64:
		*n = Int(v)
	case uint64:
		*n = FloatOf(float64(v))
	case float64:
		*n = FloatOf(v)
	case nil:
		*n = Int(0)
	default:
		return fmt.Errorf("%T is no number", v)
	}
	return nil
}

func encodeAny(enc *msgpack.Encoder, value any) error {
	switch v := value.(type) {
	case nil:
		return enc.EncodeNil()
	case bool:
		return enc.EncodeBool(v)
	case string:
		return enc.EncodeString(v)
	case []byte:
		return enc.EncodeBytes(v)
	case int:
		return enc.EncodeInt(int64(v))
	case int64:
		return enc.EncodeInt(v)
	case uint64:
		return enc.EncodeUint(v)
	case float64:
		return enc.EncodeFloat64(v)
	case []any:
		if err := enc.EncodeArrayLen(len(v)); err != nil {
			return err
		}
		for _, item := range v {
			if err := encodeAny(enc, item); err != nil {
				return err
			}
		}
		return nil
	case Object:
		if err := enc.EncodeMapLen(len(v)); err != nil {
			return err
		}
		for _, m := range v {
			if err := enc.EncodeString(m.Name); err != nil {
				return err
			}
			if err := encodeAny(enc, m.Value); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%T has no form in MessagePack", value)
}

const maxDepth = 32

var errTooDeep = errors.New("nested too deep or too large")

// decodeAny reads one value. limit is how many elements any array or map can have, at most the input's size: a length that a peer
// only claims must not allocate. 0 = no arrays and maps.
func decodeAny(dec *msgpack.Decoder, limit, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	code, err := dec.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16 || code == msgpcode.Array32:
		n, err := dec.DecodeArrayLen()
		if err != nil || n > limit {
			return nil, errors.Join(err, errTooDeep)
		}
		list := []any{}
		for range n {
			v, err := decodeAny(dec, limit, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32:
		n, err := dec.DecodeMapLen()
		if err != nil || n > limit {
			return nil, errors.Join(err, errTooDeep)
		}
		o := Object{}
		for range n {
			key, err := decodeAny(dec, limit, depth+1)
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if raw, isBytes := key.([]byte); isBytes {
				name, ok = string(raw), true
			}
			if !ok {
				return nil, fmt.Errorf("a map key is a %T", key)
			}
			v, err := decodeAny(dec, limit, depth+1)
			if err != nil {
				return nil, err
			}
			o = append(o, Member{name, v})
		}
		return o, nil
	case msgpcode.IsBin(code): // the loose decoding below would make a text of it
		return dec.DecodeBytes()
	case msgpcode.IsFixedExt(code) || code == msgpcode.Ext8 || code == msgpcode.Ext16 || code == msgpcode.Ext32:
		return nil, errors.New("extension types are not part of the protocol")
	}
	v, err := dec.DecodeInterfaceLoose()
	if u, ok := v.(uint64); ok && u <= math.MaxInt64 {
		return int64(u), err
	}
	return v, err
}
