package callosum

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/golang/snappy"
	"github.com/vmihailenco/msgpack/v5"
)

// MessageType is the `type` of a header (spec §2.4).
type MessageType uint8

// The message types.
const (
	MessageNull      MessageType = 0 // unused
	MessageFunction  MessageType = 1 // manager → agent: call a method
	MessageResult    MessageType = 2 // agent → manager: what the method returned
	MessageFailure   MessageType = 3 // agent → manager: the method raised
	MessageError     MessageType = 4 // agent → manager: the RPC layer raised
	MessageCancel    MessageType = 5 // manager → agent: the answer is no longer wanted; official agents ignore it (spec §2.9)
	MessageCancelled MessageType = 6 // agent → manager: the method was cancelled
)

var messageTypeNames = [...]string{"NULL", "FUNCTION", "RESULT", "FAILURE", "ERROR", "CANCEL", "CANCELLED"}

func (t MessageType) String() string {
	if int(t) < len(messageTypeNames) {
		return messageTypeNames[t]
	}
	return fmt.Sprintf("MessageType(%d)", uint8(t))
}

// OrderKey is the `okey` of a header. The manager of 22.03 always sends the empty str; Callosum itself would send an empty
// bin, and an answer must carry the type it was asked with, so the type is part of the value.
type OrderKey struct {
	Key string
	Bin bool
}

// Fence says on whose authority a command is given: the shard of the actor and the epoch in which its node owns it. It
// travels as the extra header key `fence`, which official agents ignore (spec §2.2), and lets the bundled agent refuse a
// deposed owner. The zero Fence is not sent.
type Fence struct {
	Shard uint32 `json:"shard"`
	Epoch uint64 `json:"epoch"`
}

// IsZero tells whether there is nothing to send.
func (f Fence) IsZero() bool { return f == Fence{} }

// ID is what an answer is matched with (spec §2.8).
type ID struct {
	Method   string
	OrderKey OrderKey
	Seq      uint32
}

// Message is one RPC message in the clear.
type Message struct {
	Type MessageType
	ID
	Fence Fence
	// Payload is the nested MessagePack value of FUNCTION and RESULT; nil when the peer sent none.
	Payload []byte
	// Err holds the metadata of FAILURE and ERROR.
	Err *RemoteError
}

// Frames are the two frames of a message, header and body.
type Frames [2][]byte

// Encode writes a message byte by byte as the peers of 22.03 do. The body is never compressed, as theirs is not (§2.6).
func Encode(m Message) (Frames, error) {
	var head, body, meta bytes.Buffer
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)

	enc.Reset(&head)
	enc.UseCompactInts(true)
	w := writer{enc: enc}
	if m.Fence.IsZero() {
		w.mapLen(5)
	} else {
		w.mapLen(6)
	}
	w.str("type")
	w.uint(uint64(m.Type))
	w.str("meth")
	w.str(m.Method)
	w.str("okey")
	if m.OrderKey.Bin {
		w.bin([]byte(m.OrderKey.Key))
	} else {
		w.str(m.OrderKey.Key)
	}
	w.str("seq")
	w.uint(uint64(m.Seq))
	w.str("zip")
	w.bool(false)
	if !m.Fence.IsZero() {
		w.str("fence")
		w.arrayLen(2)
		w.uint(uint64(m.Fence.Shard))
		w.uint(m.Fence.Epoch)
	}

	switch m.Type {
	case MessageFunction: // zero-length metadata
	case MessageFailure, MessageError:
		if m.Err == nil {
			return Frames{}, fmt.Errorf("callosum: %s without an error", m.Type)
		}
		enc.ResetWriter(&meta)
		w.arrayLen(3)
		w.str(validText(m.Err.Name))
		w.str(validText(m.Err.Repr))
		w.str(validText(m.Err.Traceback))
	default:
		meta.WriteByte(0x90)
	}

	enc.ResetWriter(&body)
	w.mapLen(2)
	w.str("meta")
	w.bin(meta.Bytes())
	w.str("body")
	if (m.Type == MessageFunction || m.Type == MessageResult) && m.Payload != nil {
		w.bin(m.Payload)
	} else {
		w.nil()
	}
	return Frames{head.Bytes(), body.Bytes()}, w.err
}

// EncodeRequest writes a FUNCTION message whose payload is already encoded (Call.Payload).
func EncodeRequest(id ID, fence Fence, payload []byte) (Frames, error) {
	return Encode(Message{Type: MessageFunction, ID: id, Fence: fence, Payload: payload})
}

// EncodeResult writes a RESULT message; payload is the encoded return value.
func EncodeResult(id ID, payload []byte) (Frames, error) {
	return Encode(Message{Type: MessageResult, ID: id, Payload: payload})
}

// EncodeFailure writes the answer that reports err, of the type that err.Kind says (FAILURE unless ERROR or CANCELLED).
func EncodeFailure(id ID, err *RemoteError) (Frames, error) {
	t := MessageFailure
	if err.Kind == MessageError || err.Kind == MessageCancelled {
		t = err.Kind
	}
	return Encode(Message{Type: t, ID: id, Err: err})
}

// EncodeCancel writes a CANCEL message for the request id.
func EncodeCancel(id ID) (Frames, error) { return Encode(Message{Type: MessageCancel, ID: id}) }

// DecodeOptions bound what a peer may send.
type DecodeOptions struct {
	// MaxBody bounds a body that arrives compressed, in bytes after decompression; 0 means 256 MiB. (Uncompressed ones
	// are bounded by the socket.)
	MaxBody int
}

const defaultMaxBody = 256 << 20

// ErrNoHeader says that the frames hold no header that could be answered.
var ErrNoHeader = errors.New("callosum: no readable header")

// Decode reads a message from the frames of a ZeroMQ message: the last two are header and body, what comes before (the
// identity, on the server's side) is ignored (spec §2.1). When the header is readable but the body is not, the message
// returned with the error holds the header, so that a server can answer.
func Decode(frames [][]byte, o DecodeOptions) (Message, error) {
	if len(frames) < 2 {
		return Message{}, fmt.Errorf("%w: %d frames", ErrNoHeader, len(frames))
	}
	m, zip, err := decodeHeader(frames[len(frames)-2])
	if err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrNoHeader, err)
	}
	raw := frames[len(frames)-1]
	if zip {
		limit := o.MaxBody
		if limit == 0 {
			limit = defaultMaxBody
		}
		n, err := snappy.DecodedLen(raw)
		if err != nil {
			return m, fmt.Errorf("callosum: snappy: %w", err)
		}
		if n > limit {
			return m, fmt.Errorf("callosum: body of %d bytes exceeds the limit of %d", n, limit)
		}
		if raw, err = snappy.Decode(nil, raw); err != nil {
			return m, fmt.Errorf("callosum: snappy: %w", err)
		}
	}
	var body struct {
		Meta Any `json:"meta"`
		Body Any `json:"body"`
	}
	if err := Unmarshal(raw, &body); err != nil {
		return m, err
	}
	switch p := body.Body.V.(type) {
	case nil:
	case []byte:
		if len(p) > 0 {
			m.Payload = p
		}
	default:
		return m, fmt.Errorf("callosum: body is %T, not bin", p)
	}
	if m.Type == MessageFailure || m.Type == MessageError {
		meta, ok := body.Meta.V.([]byte)
		if !ok {
			return m, fmt.Errorf("callosum: %s without metadata", m.Type)
		}
		var texts []string
		if err := Unmarshal(meta, &texts); err != nil {
			return m, err
		}
		if len(texts) != 3 {
			return m, fmt.Errorf("callosum: error metadata of %d elements, not 3", len(texts))
		}
		m.Err = &RemoteError{Name: texts[0], Repr: texts[1], Traceback: texts[2], Kind: m.Type}
	}
	return m, nil
}

func decodeHeader(raw []byte) (m Message, zip bool, err error) {
	v, err := DecodeValue(raw)
	if err != nil {
		return m, false, err
	}
	head, ok := v.(Map)
	if !ok {
		return m, false, errors.New("callosum: header is not a map")
	}
	seen := 0
	for _, e := range head {
		ok := true
		switch e.Key {
		case "type":
			var n int64
			if n, ok = e.Value.(int64); ok {
				if n < int64(MessageFunction) || n > int64(MessageCancelled) {
					return m, false, fmt.Errorf("callosum: unknown message type %d", n)
				}
				m.Type = MessageType(n)
				seen |= 1
			}
		case "meth":
			m.Method, ok = e.Value.(string)
			seen |= 2
		case "okey":
			switch key := e.Value.(type) {
			case string:
				m.OrderKey = OrderKey{Key: key}
			case []byte:
				m.OrderKey = OrderKey{Key: string(key), Bin: true}
			default:
				ok = false
			}
			seen |= 4
		case "seq":
			var n int64
			n, ok = e.Value.(int64)
			ok = ok && n >= 0 && n <= 1<<32-1
			m.Seq = uint32(n)
			seen |= 8
		case "zip":
			zip, ok = e.Value.(bool)
			seen |= 16
		case "fence": // not ours to refuse: a stranger may use the name for something else
			if pair, isPair := e.Value.([]any); isPair && len(pair) == 2 {
				shard, ok1 := pair[0].(int64)
				epoch, ok2 := pair[1].(int64)
				if ok1 && ok2 && shard >= 0 && shard <= 1<<32-1 && epoch >= 0 {
					m.Fence = Fence{uint32(shard), uint64(epoch)}
				}
			}
		}
		if !ok {
			return m, false, fmt.Errorf("callosum: header key %q holds %T", e.Key, e.Value)
		}
	}
	if seen != 31 {
		return m, false, errors.New("callosum: header key missing")
	}
	return m, zip, nil
}

// writer keeps the first error of a row of writes.
type writer struct {
	enc *msgpack.Encoder
	err error
}

func (w *writer) do(err error) {
	if w.err == nil {
		w.err = err
	}
}
func (w *writer) mapLen(n int)   { w.do(w.enc.EncodeMapLen(n)) }
func (w *writer) arrayLen(n int) { w.do(w.enc.EncodeArrayLen(n)) }
func (w *writer) str(s string)   { w.do(w.enc.EncodeString(s)) }
func (w *writer) uint(n uint64)  { w.do(w.enc.EncodeUint(n)) }
func (w *writer) bool(b bool)    { w.do(w.enc.EncodeBool(b)) }
func (w *writer) nil()           { w.do(w.enc.EncodeNil()) }
func (w *writer) bin(b []byte) {
	if b == nil {
		b = []byte{}
	}
	w.do(w.enc.EncodeBytes(b))
}
