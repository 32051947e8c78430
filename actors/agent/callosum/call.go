package callosum

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// Call is a method with its arguments, the payload of a FUNCTION message (spec §3). The manager of 22.03 passes almost
// everything by position; Kwargs is there for the exceptions.
type Call struct {
	Method string
	Args   []any
	Kwargs Map

	payload []byte // as it was encoded elsewhere, instead of arguments
}

// NewCall makes a call with positional arguments.
func NewCall(method string, args ...any) Call { return Call{Method: method, Args: args} }

// EncodedCall is a call with a payload that Payload has made. Its arguments stay encoded. Error: the payload is no msgpack.
func EncodedCall(method string, payload []byte) (Call, error) {
	if err := Check(payload); err != nil {
		return Call{}, fmt.Errorf("callosum: payload of %s: %w", method, err)
	}
	return Call{Method: method, payload: payload}, nil
}

// Payload encodes {"args": [...], "kwargs": {...}}; both keys are required by official agents.
func (c Call) Payload() ([]byte, error) {
	if c.payload != nil {
		return c.payload, nil
	}
	b, err := Marshal(Map{{"args", orEmptyList(c.Args)}, {"kwargs", c.Kwargs.orEmpty()}})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Method, err)
	}
	return b, nil
}

// DecodeCall reads a payload with its arguments as plain values (see Map), for taps and tests. A missing payload is a
// call without arguments, as official agents take it.
func DecodeCall(method string, payload []byte) (Call, error) {
	c := Call{Method: method, Args: []any{}, Kwargs: Map{}}
	if payload == nil {
		return c, nil
	}
	v, err := DecodeValue(payload)
	if err != nil {
		return c, err
	}
	m, _ := v.(Map)
	args, _ := m.Get("args")
	kwargs, _ := m.Get("kwargs")
	var ok1, ok2 bool
	c.Args, ok1 = args.([]any)
	c.Kwargs, ok2 = kwargs.(Map)
	if !ok1 || !ok2 {
		return c, fmt.Errorf("callosum: payload of %s lacks args or kwargs", method)
	}
	return c, nil
}

// Arguments are the still encoded arguments of a call that a server received.
type Arguments struct {
	method string
	args   []msgpack.RawMessage
	kwargs map[string]msgpack.RawMessage
}

// DecodeArguments splits a payload into its arguments; nil is a call without any. The error, if any, is a *RemoteError
// to answer with.
func DecodeArguments(method string, payload []byte) (Arguments, error) {
	a := Arguments{method: method}
	if payload == nil {
		return a, nil
	}
	if err := Check(payload); err != nil {
		return a, Exception("ValueError", err.Error())
	}
	var body struct {
		Args   []msgpack.RawMessage          `json:"args"`
		Kwargs map[string]msgpack.RawMessage `json:"kwargs"`
	}
	if err := unmarshalChecked(payload, &body); err != nil {
		return a, Exception("ValueError", err.Error())
	}
	if body.Args == nil {
		return a, Exception("KeyError", "args")
	}
	if body.Kwargs == nil {
		return a, Exception("KeyError", "kwargs")
	}
	a.args, a.kwargs = body.Args, body.Kwargs
	return a, nil
}

// Call gives the arguments as plain values (see DecodeCall), for taps and tests.
func (a Arguments) Call() (Call, error) {
	c := Call{Method: a.method, Args: make([]any, len(a.args)), Kwargs: Map{}}
	for i, raw := range a.args {
		v, err := plain(raw)
		if err != nil {
			return c, err
		}
		c.Args[i] = v
	}
	for _, name := range slices.Sorted(maps.Keys(a.kwargs)) {
		v, err := plain(a.kwargs[name])
		if err != nil {
			return c, err
		}
		c.Kwargs = append(c.Kwargs, Entry{name, v})
	}
	return c, nil
}

func plain(raw msgpack.RawMessage) (any, error) {
	if len(raw) == 0 { // how the decoder hands out a raw nil
		return nil, nil
	}
	return DecodeValue(raw)
}

// Param names one parameter of a method and where its argument goes.
type Param struct {
	Name     string
	Into     any // pointer
	Optional bool
}

// Required is a parameter without a default.
func Required(name string, into any) Param { return Param{Name: name, Into: into} }

// Optional is a parameter that keeps the value it has when the caller leaves it out.
func Optional(name string, into any) Param { return Param{Name: name, Into: into, Optional: true} }

// Bind puts the arguments where the parameters point, by position or by name. Missing, unknown and doubled arguments
// give the TypeError a Python function would raise (spec §3); an argument of another type does too.
func (a Arguments) Bind(params ...Param) error {
	if len(a.args) > len(params) {
		return Exception("TypeError", fmt.Sprintf("%s() takes %d positional arguments but %d were given", a.method, len(params), len(a.args)))
	}
	used := 0
	for i, p := range params {
		raw, named := a.kwargs[p.Name]
		if named {
			used++
		}
		switch {
		case i < len(a.args) && named:
			return Exception("TypeError", fmt.Sprintf("%s() got multiple values for argument '%s'", a.method, p.Name))
		case i < len(a.args):
			raw = a.args[i]
		case !named && p.Optional:
			continue
		case !named:
			return Exception("TypeError", fmt.Sprintf("%s() missing 1 required positional argument: '%s'", a.method, p.Name))
		}
		if len(raw) == 0 { // how the decoder hands out a raw nil
			raw = msgpack.RawMessage{0xc0}
		}
		if err := unmarshalChecked(raw, p.Into); err != nil {
			return Exception("TypeError", fmt.Sprintf("%s() got a value of the wrong type for argument '%s'", a.method, p.Name))
		}
	}
	if used < len(a.kwargs) {
		for name := range a.kwargs {
			if !known(params, name) {
				return Exception("TypeError", fmt.Sprintf("%s() got an unexpected keyword argument '%s'", a.method, name))
			}
		}
	}
	return nil
}

func known(params []Param, name string) bool {
	for _, p := range params {
		if p.Name == name {
			return true
		}
	}
	return false
}

// Request is a typed request whose method returns an R.
type Request[R any] interface {
	// Call gives the method with its exact arguments.
	Call() Call
	// Result decodes what the method returned.
	Result(payload []byte) (R, error)
}

// isNil tells whether a return value is None.
func isNil(payload []byte) bool { return len(payload) == 0 || bytes.Equal(payload, []byte{0xc0}) }

// decodeResult decodes the return value of method as R.
func decodeResult[R any](method string, payload []byte) (r R, err error) {
	if err := Unmarshal(payload, &r); err != nil {
		return r, fmt.Errorf("%s: %w", method, err)
	}
	return r, nil
}

// Nothing is the result of methods that return None. Whatever an agent returns instead is ignored.
type Nothing struct{}

// EncodeMsgpack writes nil.
func (Nothing) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.EncodeNil() }

// returnsNothing is embedded by requests whose method returns None.
type returnsNothing struct{}

// Result ignores the return value.
func (returnsNothing) Result([]byte) (Nothing, error) { return Nothing{}, nil }
