package wire

import (
	"bytes"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// MaxFrame bounds a frame in bytes, in both directions. It is as large as the largest answer that a bundled agent gives.
const MaxFrame = 64 << 20

// keptBytes bounds the memory for short values that an encoder or a decoder keeps for its next message.
const keptBytes = 4096

func (e *encoder) done() {
	e.buf = nil
	e.Reset(nil)
	if cap(e.scratch) > keptBytes {
		e.scratch = nil
	}
	encoders.Put(e)
}

func (d *decoder) done() {
	d.rest = nil
	d.Reset(nil)
	if cap(d.short) > keptBytes {
		d.short = nil
	}
	decoders.Put(d)
}

var (
	encoders = sync.Pool{New: func() any { return &encoder{Encoder: msgpack.NewEncoder(nil)} }}
	decoders = sync.Pool{New: func() any { return &decoder{Decoder: msgpack.NewDecoder(nil)} }}
)

// version is the first byte of every frame.
const version = 1

// Encode makes a frame of a message. Errors: as Append.
func Encode(msg any) ([]byte, error) { return Append(nil, msg) }

// Append appends the frame of a message to what it is sent with. Errors: InvalidArgument when the message, or one within it, is not
// registered, or has content that can't be sent (an argument of a call that the agents' protocol has no form for); Overloaded when the
// frame would be larger than MaxFrame.
func Append(to []byte, msg any) ([]byte, error) {
	buf := bytes.NewBuffer(to)
	buf.WriteByte(version)
	e := encoders.Get().(*encoder)
	defer e.done()
	e.buf, e.within = buf, 0
	e.Reset(buf)
	if msg == nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "wire: nothing to send")
	}
	if err := e.message(msg); err != nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "wire: %T can't be sent to another node", msg).WithCause(err)
	}
	if buf.Len()-len(to) > MaxFrame {
		return nil, backendai.Errorf(backendai.Overloaded, "wire: %T takes %d bytes; at most %d go to another node", msg, buf.Len()-len(to), MaxFrame)
	}
	return buf.Bytes(), nil
}

// Decode reads a frame. The message shares no memory with it. Errors: InvalidArgument.
func Decode(frame []byte) (any, error) {
	msg, err := decode(frame)
	if err != nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "wire: a frame of %d bytes can't be read", len(frame)).WithCause(err)
	}
	return msg, nil
}

func decode(frame []byte) (any, error) {
	switch {
	case len(frame) == 0:
		return nil, errEmpty
	case len(frame) > MaxFrame:
		return nil, errTooLarge
	case frame[0] != version:
		return nil, errVersion
	}
	// Complete, with true lengths, and nested no deeper than a decoder can follow.
	if err := callosum.Check(frame[1:]); err != nil {
		return nil, err
	}
	rest := bytes.NewReader(frame[1:])
	d := decoders.Get().(*decoder)
	defer d.done()
	d.rest, d.within, d.budget = rest, 0, int64(len(frame))*budgetPerByte+budgetBase
	d.Reset(rest)
	var msg any
	if err := d.message(reflect.ValueOf(&msg).Elem()); err != nil {
		return nil, err
	}
	if msg == nil {
		return nil, errEmpty
	}
	return msg, nil
}
