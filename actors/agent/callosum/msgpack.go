package callosum

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Map is a MessagePack map that keeps the order of its entries. It holds what the protocol leaves open (options, plug-in
// data): decoding and encoding it again gives the same bytes, and the order of what we send never depends on chance.
//
// Values are nil, bool, int64, uint64 (only above the range of int64), float64, string, []byte, []any and Map; on
// encoding also the structs of this package.
type Map []Entry

// Entry is one key of a Map with its value.
type Entry struct {
	Key   string
	Value any
}

// Get returns the value of key, and whether the map has it.
func (m Map) Get(key string) (any, bool) {
	for _, e := range m {
		if e.Key == key {
			return e.Value, true
		}
	}
	return nil, false
}

// orEmpty turns nil into the empty map: on this wire a missing map and nil are different things.
func (m Map) orEmpty() Map {
	if m == nil {
		return Map{}
	}
	return m
}

// EncodeMsgpack writes the entries in their order.
func (m Map) EncodeMsgpack(enc *msgpack.Encoder) error {
	if err := enc.EncodeMapLen(len(m)); err != nil {
		return err
	}
	for _, e := range m {
		if err := enc.EncodeString(e.Key); err != nil {
			return err
		}
		if err := enc.Encode(e.Value); err != nil {
			return err
		}
	}
	return nil
}

// DecodeMsgpack reads a map of any content; nil becomes a nil Map.
func (m *Map) DecodeMsgpack(dec *msgpack.Decoder) error {
	v, err := decodeAny(dec)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		*m = nil
	case Map:
		*m = v
	default:
		return fmt.Errorf("callosum: map expected, got %T", v)
	}
	return nil
}

// MarshalJSON writes the entries in their order.
func (m Map) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("null"), nil
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(e.Key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(e.Value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object. Numbers without fraction and exponent become int64, so that an integer that came from
// a database column is an integer on the wire too.
func (m *Map) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := jsonValue(dec)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		*m = nil
	case Map:
		*m = v
	default:
		return fmt.Errorf("callosum: JSON object expected, got %T", v)
	}
	return nil
}

func jsonValue(dec *json.Decoder) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Number:
		if n, err := tok.Int64(); err == nil {
			return n, nil
		}
		return tok.Float64()
	case json.Delim:
		if tok == '[' {
			list := []any{}
			for dec.More() {
				v, err := jsonValue(dec)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := dec.Token()
			return list, err
		}
		m := Map{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := jsonValue(dec)
			if err != nil {
				return nil, err
			}
			m = append(m, Entry{key.(string), v})
		}
		_, err := dec.Token()
		return m, err
	}
	return tok, nil
}

// Marshal encodes v under the MessagePack profile of the link (spec §2.7): shortest integers, 64-bit floats, str and bin
// kept apart, map keys sorted unless v is a Map. Structs use their json names. It fails on what a Python peer of 22.03
// could not decode: extension types (times), keys that are not text, invalid UTF-8.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(&buf)
	enc.SetCustomStructTag("json")
	enc.SetSortMapKeys(true)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("callosum: encode %T: %w", v, err)
	}
	if err := Check(buf.Bytes()); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return buf.Bytes(), nil
}

// Unmarshal decodes exactly one value into v, after Check. Unknown keys are ignored, nil leaves a value as it is.
func Unmarshal(data []byte, v any) error {
	if err := Check(data); err != nil {
		return err
	}
	return unmarshalChecked(data, v)
}

func unmarshalChecked(data []byte, v any) error {
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(data))
	dec.SetCustomStructTag("json")
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("callosum: decode %T: %w", v, err)
	}
	return nil
}

// DecodeValue decodes one value of unknown shape; see Map for the types it returns.
func DecodeValue(data []byte) (any, error) {
	if err := Check(data); err != nil {
		return nil, err
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	dec.Reset(bytes.NewReader(data))
	return decodeAny(dec)
}

// Any is a value of unknown shape inside a struct; see Map for what V can be.
type Any struct{ V any }

// EncodeMsgpack writes the bare value.
func (a Any) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.Encode(a.V) }

// DecodeMsgpack reads any value.
func (a *Any) DecodeMsgpack(dec *msgpack.Decoder) (err error) {
	a.V, err = decodeAny(dec)
	return err
}

// decodeAny relies on Check for the depth of the recursion and for lengths.
func decodeAny(dec *msgpack.Decoder) (any, error) {
	code, err := dec.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case code == msgpcode.Nil:
		return nil, dec.DecodeNil()
	case code == msgpcode.True || code == msgpcode.False:
		return dec.DecodeBool()
	case code == msgpcode.Float || code == msgpcode.Double:
		return dec.DecodeFloat64()
	case code >= msgpcode.Uint8 && code <= msgpcode.Uint64:
		n, err := dec.DecodeUint64()
		if n <= 1<<63-1 {
			return int64(n), err
		}
		return n, err
	case msgpcode.IsFixedNum(code) || code >= msgpcode.Int8 && code <= msgpcode.Int64:
		return dec.DecodeInt64()
	case msgpcode.IsBin(code):
		b, err := dec.DecodeBytes()
		if b == nil {
			b = []byte{}
		}
		return b, err
	case msgpcode.IsString(code):
		return dec.DecodeString()
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16 || code == msgpcode.Array32:
		n, err := dec.DecodeArrayLen()
		if err != nil {
			return nil, err
		}
		list := make([]any, n)
		for i := range list {
			if list[i], err = decodeAny(dec); err != nil {
				return nil, err
			}
		}
		return list, nil
	case msgpcode.IsFixedMap(code) || code == msgpcode.Map16 || code == msgpcode.Map32:
		n, err := dec.DecodeMapLen()
		if err != nil {
			return nil, err
		}
		m := make(Map, n)
		for i := range m {
			if m[i].Key, err = dec.DecodeString(); err != nil {
				return nil, err
			}
			if m[i].Value, err = decodeAny(dec); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return nil, fmt.Errorf("callosum: MessagePack code %#02x is not used on this link", code)
}

// orEmptyList turns nil into the empty list, see Map.orEmpty.
func orEmptyList[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// orEmptyMap turns nil into the empty map, see Map.orEmpty.
func orEmptyMap[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

var _ io.ByteScanner = (*bytes.Reader)(nil) // else the decoder would put a bufio.Reader in between
