package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
	"backend.ai/manager/actors/ask"
)

// maxCauses bounds the chain of an error's causes that is sent; what lies deeper is part of the text of the last one.
const maxCauses = 8

// failure is an error on the wire. Kind says which of the other fields count.
type failure struct {
	Kind    string
	Text    string // sentinel: its name; text: what Error says
	Code    string
	Message *string
	Data    []byte // JSON
	Agent   *backendai.AgentDetails
	Object  string
	Status  int
	Remote  *callosum.RemoteError
	Link    *linkFailure
	Cause   *failure
}

type linkFailure struct {
	Cause  callosum.Cause
	Agent  string
	Method string
	Sent   bool
}

const (
	kindError    = "error"    // *backendai.Error
	kindCode     = "code"     // backendai.Code
	kindRemote   = "remote"   // *callosum.RemoteError
	kindLink     = "link"     // *callosum.LinkError
	kindSentinel = "sentinel" // one of sentinels
	kindText     = "text"     // any other: its text, and the first of the others that it wraps
)

// sentinels are the errors that are compared by identity.
var sentinels = map[string]error{"deadline": context.DeadlineExceeded, "canceled": context.Canceled, "nobody": ask.ErrNobody}

// foreign is an error of a type that is not known here, or of which only the text was sent.
type foreign struct {
	text  string
	cause error
}

func (f *foreign) Error() string { return f.text }
func (f *foreign) Unwrap() error { return f.cause }

func encodeError(e *encoder, err error) error {
	f, unsent := failureOf(err, 0)
	if unsent != nil {
		return unsent
	}
	return codecs[reflect.TypeFor[*failure]()].enc(e, reflect.ValueOf(f))
}

func decodeError(d *decoder) (error, error) { //nolint:staticcheck // the first is the value
	var f *failure
	if err := codecs[reflect.TypeFor[*failure]()].dec(d, reflect.ValueOf(&f).Elem()); err != nil {
		return nil, err
	}
	return f.restore(0)
}

func init() { codecOf(reflect.TypeFor[*failure]()) }

func failureOf(err error, depth int) (*failure, error) {
	if err == nil || isNil(err) {
		return nil, nil
	}
	if depth == maxCauses {
		return &failure{Kind: kindText, Text: err.Error()}, nil
	}
	var f *failure
	var cause error
	switch x := err.(type) { //nolint:errorlint // the outermost only; the rest of the chain follows
	case *backendai.Error:
		f = &failure{Kind: kindError, Code: string(x.Code), Message: x.Message, Agent: x.Agent, Object: x.Object, Status: x.Status}
		if x.Data != nil {
			data, err := json.Marshal(x.Data)
			if err != nil {
				return nil, fmt.Errorf("data of the error: %w", err)
			}
			f.Data = data
		}
		cause = x.Unwrap()
	case backendai.Code:
		return &failure{Kind: kindCode, Code: string(x)}, nil
	case *callosum.RemoteError:
		return &failure{Kind: kindRemote, Remote: x}, nil
	case *callosum.LinkError:
		f = &failure{Kind: kindLink, Link: &linkFailure{x.Cause, x.Agent, x.Method, x.Sent}}
		cause = x.Err
	default:
		for name, s := range sentinels {
			if err == s { //nolint:errorlint // wrapped ones keep their text
				return &failure{Kind: kindSentinel, Text: name}, nil
			}
		}
		f = &failure{Kind: kindText, Text: err.Error()}
		cause = known(err)
	}
	inner, unsent := failureOf(cause, depth+1)
	f.Cause = inner
	return f, unsent
}

func isNil(err error) bool {
	v := reflect.ValueOf(err)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// known finds what there is in an error's chain that errors.Is and errors.As ask for.
func known(err error) error {
	var e *backendai.Error
	var c backendai.Code
	var r *callosum.RemoteError
	var l *callosum.LinkError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &l):
		return l
	case errors.As(err, &r):
		return r
	case errors.As(err, &c):
		return c
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

func (f *failure) restore(depth int) (error, error) { //nolint:staticcheck // the first is the value
	if f == nil {
		return nil, nil
	}
	if depth > maxCauses {
		return nil, errors.New("an error with too many causes")
	}
	cause, err := f.Cause.restore(depth + 1)
	if err != nil {
		return nil, err
	}
	switch f.Kind {
	case kindError:
		e := &backendai.Error{Code: backendai.Code(f.Code), Message: f.Message, Agent: f.Agent, Object: f.Object, Status: f.Status}
		if f.Data != nil {
			if e.Data, err = dataOf(f.Data); err != nil {
				return nil, err
			}
		}
		if cause != nil {
			e = e.WithCause(cause)
		}
		return e, nil
	case kindCode:
		return backendai.Code(f.Code), nil
	case kindRemote:
		if f.Remote != nil {
			return f.Remote, nil
		}
	case kindLink:
		if l := f.Link; l != nil {
			return &callosum.LinkError{Cause: l.Cause, Agent: l.Agent, Method: l.Method, Sent: l.Sent, Err: cause}, nil
		}
	case kindSentinel:
		if s := sentinels[f.Text]; s != nil {
			return s, nil
		}
	case kindText:
		return &foreign{f.Text, cause}, nil
	}
	return nil, fmt.Errorf("an error of no known kind: %q", f.Kind)
}

// dataOf reads what an error tells clients besides its message. Structs come out as maps; whole numbers stay whole.
func dataOf(raw []byte) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch x := v.(type) {
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		n, _ := x.Float64()
		return n
	case []any:
		for i := range x {
			x[i] = plainNumbers(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = plainNumbers(x[k])
		}
	}
	return v
}
