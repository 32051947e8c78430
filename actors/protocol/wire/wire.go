package wire

import (
	"bytes"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"

	backendai "backend.ai/manager"
	"backend.ai/manager/actors/agent/callosum"
)

// MaxFrame bounds a frame in bytes, in both directions. It is as large as the largest answer that a bundled agent gives.
const MaxFrame = 64 << 20

// version is the first byte of every frame.
const version = 1

// Encode makes a frame of a message. Errors: InvalidArgument when the message, or one within it, is not registered, or has content that
// can't be sent (an argument of a call that the agents' protocol has no form for); Overloaded when the frame would be larger than MaxFrame.
func Encode(msg any) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte(version)
	e := &encoder{Encoder: msgpack.GetEncoder(), buf: &buf}
	defer msgpack.PutEncoder(e.Encoder)
	e.Reset(&buf)
	if msg == nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "wire: nothing to send")
	}
	if err := e.message(msg); err != nil {
		return nil, backendai.Errorf(backendai.InvalidArgument, "wire: %T can't be sent to another node", msg).WithCause(err)
	}
	if buf.Len() > MaxFrame {
		return nil, backendai.Errorf(backendai.Overloaded, "wire: %T takes %d bytes; at most %d go to another node", msg, buf.Len(), MaxFrame)
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
	d := &decoder{Decoder: msgpack.GetDecoder(), rest: rest, budget: int64(len(frame))*budgetPerByte + budgetBase}
	defer msgpack.PutDecoder(d.Decoder)
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
