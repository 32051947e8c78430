package wire

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const (
	// maxWithin bounds messages within messages: an answer around its value.
	maxWithin = 2
	// What is decoded may take this much memory per byte of its frame, and this much besides. A list of structs that are all zero is what
	// grows most.
	budgetPerByte = 32
	budgetBase    = 1 << 20
)

var (
	errEmpty     = errors.New("it is empty")
	errTooLarge  = fmt.Errorf("it is larger than %d bytes", MaxFrame)
	errVersion   = errors.New("it has another version")
	errNested    = errors.New("too many messages within messages")
	errTruncated = errors.New("it is cut off")
	errExpansive = errors.New("it would take too much memory")
)

type encoder struct {
	*msgpack.Encoder
	buf     *bytes.Buffer // that it writes to
	within  int
	scratch []byte
}

type decoder struct {
	*msgpack.Decoder
	rest   *bytes.Reader
	within int
	budget int64
	short  []byte // for what is only read in passing
}

// spend takes n values of a size off the budget.
func (d *decoder) spend(n int, size uintptr) error {
	if d.budget -= int64(n) * int64(size); d.budget < 0 {
		return errExpansive
	}
	return nil
}

// codec writes and reads values of one type. enc is never called for what a nil stands for.
type codec struct {
	enc func(*encoder, reflect.Value) error
	dec func(*decoder, reflect.Value) error
}

// codecs are the types' codecs: the leaves of leaves.go, and what codecOf has made. Filled by init functions only.
var codecs = map[reflect.Type]*codec{}

// codecOf makes the codec of a type. It panics for a type that can't be sent: that is an error in the program.
func codecOf(t reflect.Type) *codec {
	if c := codecs[t]; c != nil {
		return c
	}
	c := &codec{}
	codecs[t] = c // before its parts, for types that contain themselves
	switch t.Kind() {
	case reflect.Bool:
		c.enc = func(e *encoder, v reflect.Value) error { return e.EncodeBool(v.Bool()) }
		c.dec = func(d *decoder, v reflect.Value) error {
			b, err := d.DecodeBool()
			v.SetBool(b)
			return err
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		c.enc = func(e *encoder, v reflect.Value) error { return e.EncodeInt(v.Int()) }
		c.dec = func(d *decoder, v reflect.Value) error {
			n, err := d.DecodeInt64()
			if err == nil && v.OverflowInt(n) {
				err = fmt.Errorf("%d does not fit %s", n, t)
			}
			v.SetInt(n)
			return err
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		c.enc = func(e *encoder, v reflect.Value) error { return e.EncodeUint(v.Uint()) }
		c.dec = func(d *decoder, v reflect.Value) error {
			n, err := d.DecodeUint64()
			if err == nil && v.OverflowUint(n) {
				err = fmt.Errorf("%d does not fit %s", n, t)
			}
			v.SetUint(n)
			return err
		}
	case reflect.String:
		c.enc = func(e *encoder, v reflect.Value) error { return e.text(v.String()) }
		c.dec = func(d *decoder, v reflect.Value) error {
			s, err := d.DecodeString()
			v.SetString(s)
			return err
		}
	case reflect.Pointer:
		*c = pointer(t, codecOf(t.Elem()))
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			*c = octets
		} else {
			*c = list(t, codecOf(t.Elem()))
		}
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			panic(fmt.Sprintf("wire: keys of %s are not text", t))
		}
		*c = mapping(t, codecOf(t.Elem()))
	case reflect.Struct:
		*c = structure(t)
	default:
		panic(fmt.Sprintf("wire: values of type %s can't be sent; give the type a leaf", t))
	}
	return c
}

// text writes a string; one that is not UTF-8, which str must be, as bin.
func (e *encoder) text(s string) error {
	if utf8.ValidString(s) {
		return e.EncodeString(s)
	}
	return e.EncodeBytes([]byte(s))
}

// null tells whether nil comes next, and takes it.
func (d *decoder) null() (bool, error) {
	code, err := d.PeekCode()
	if err != nil || code != msgpcode.Nil {
		return false, err
	}
	return true, d.DecodeNil()
}

// octets are lists of bytes: []byte, json.RawMessage.
var octets = codec{
	enc: func(e *encoder, v reflect.Value) error {
		if v.IsNil() {
			return e.EncodeNil()
		}
		return e.EncodeBytes(v.Bytes())
	},
	dec: func(d *decoder, v reflect.Value) error {
		b, err := d.octets()
		v.SetBytes(b)
		return err
	},
}

func (d *decoder) octets() ([]byte, error) {
	n, err := d.DecodeBytesLen()
	switch {
	case err != nil || n < 0:
		return nil, err
	case n > d.rest.Len():
		return nil, errTruncated
	}
	b := make([]byte, n)
	return b, d.ReadFull(b)
}

func pointer(t reflect.Type, elem *codec) codec {
	return codec{
		enc: func(e *encoder, v reflect.Value) error {
			if v.IsNil() {
				return e.EncodeNil()
			}
			return elem.enc(e, v.Elem())
		},
		dec: func(d *decoder, v reflect.Value) error {
			if null, err := d.null(); null || err != nil {
				return err
			}
			if err := d.spend(1, t.Elem().Size()); err != nil {
				return err
			}
			v.Set(reflect.New(t.Elem()))
			return elem.dec(d, v.Elem())
		},
	}
}

func list(t reflect.Type, elem *codec) codec {
	return codec{
		enc: func(e *encoder, v reflect.Value) error {
			if v.IsNil() {
				return e.EncodeNil()
			}
			if err := e.EncodeArrayLen(v.Len()); err != nil {
				return err
			}
			for i := range v.Len() {
				if err := elem.enc(e, v.Index(i)); err != nil {
					return fmt.Errorf("%d: %w", i, err)
				}
			}
			return nil
		},
		dec: func(d *decoder, v reflect.Value) error {
			n, err := d.DecodeArrayLen()
			if err != nil || n < 0 {
				return err
			}
			if err := d.spend(n, t.Elem().Size()); err != nil {
				return err
			}
			v.Set(reflect.MakeSlice(t, n, n))
			for i := range n {
				if err := elem.dec(d, v.Index(i)); err != nil {
					return fmt.Errorf("%d: %w", i, err)
				}
			}
			return nil
		},
	}
}

func mapping(t reflect.Type, elem *codec) codec {
	return codec{
		enc: func(e *encoder, v reflect.Value) error {
			if v.IsNil() {
				return e.EncodeNil()
			}
			if err := e.EncodeMapLen(v.Len()); err != nil {
				return err
			}
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, k := range keys {
				if err := e.text(k.String()); err != nil {
					return err
				}
				if err := elem.enc(e, v.MapIndex(k)); err != nil {
					return fmt.Errorf("%q: %w", k.String(), err)
				}
			}
			return nil
		},
		dec: func(d *decoder, v reflect.Value) error {
			n, err := d.DecodeMapLen()
			if err != nil || n < 0 {
				return err
			}
			// Twice: a hash table has room to spare.
			if err := d.spend(2*n, t.Elem().Size()+t.Key().Size()); err != nil {
				return err
			}
			m := reflect.MakeMapWithSize(t, n)
			v.Set(m)
			for range n {
				key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
				text, err := d.DecodeString()
				if err != nil {
					return err
				}
				key.SetString(text)
				if err := elem.dec(d, value); err != nil {
					return fmt.Errorf("%q: %w", text, err)
				}
				m.SetMapIndex(key, value)
			}
			return nil
		},
	}
}

type field struct {
	name    string
	encoded []byte // name as it is written
	index   int
	codec   *codec
}

// passing reads a text or bytes into memory that is used again by the next call.
func (d *decoder) passing() ([]byte, error) {
	n, err := d.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > d.rest.Len() {
		return nil, errTruncated
	}
	d.short = slices.Grow(d.short[:0], n)[:n]
	return d.short, d.ReadFull(d.short)
}

func structure(t reflect.Type) codec {
	fields := map[string]field{}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Anonymous {
			panic(fmt.Sprintf("wire: %s.%s can't be sent: it is not exported, or embedded; give the type a leaf", t, f.Name))
		}
		encoded, err := msgpack.Marshal(f.Name)
		if err != nil {
			panic(err)
		}
		fields[f.Name] = field{f.Name, encoded, i, codecOf(f.Type)}
	}
	ordered := slices.SortedFunc(maps.Values(fields), func(a, b field) int { return a.index - b.index })
	return codec{
		enc: func(e *encoder, v reflect.Value) error {
			n := 0
			for _, f := range ordered {
				if !v.Field(f.index).IsZero() {
					n++
				}
			}
			if err := e.EncodeMapLen(n); err != nil {
				return err
			}
			for _, f := range ordered {
				if v.Field(f.index).IsZero() {
					continue
				}
				e.buf.Write(f.encoded)
				if err := f.codec.enc(e, v.Field(f.index)); err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
			}
			return nil
		},
		dec: func(d *decoder, v reflect.Value) error {
			n, err := d.DecodeMapLen()
			if err != nil {
				return err
			}
			for range n {
				name, err := d.passing()
				if err != nil {
					return err
				}
				f, known := fields[string(name)]
				if !known {
					f.name, err = "an unknown field", d.Skip()
				} else {
					err = f.codec.dec(d, v.Field(f.index))
				}
				if err != nil {
					return fmt.Errorf("%s: %w", f.name, err)
				}
			}
			return nil
		},
	}
}
