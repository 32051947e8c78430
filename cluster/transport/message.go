package transport

import (
	"encoding/binary"
	"errors"
)

const (
	// MessageBytes is from how many bytes on nothing more is put into a message.
	MessageBytes = 64 << 10
	// maxMessage bounds a message in bytes: the last frame may be of any size, and a length takes no more room than its frame, or than 4 bytes.
	maxMessage = MaxFrame + 2*MessageBytes + 64
)

// join makes a message of frames: each has its length, as an unsigned varint, before it.
func join(list []item) []byte {
	size := 0
	for _, it := range list {
		size += len(it.frame) + binary.MaxVarintLen32
	}
	message := make([]byte, 0, size)
	for _, it := range list {
		message = binary.AppendUvarint(message, uint64(len(it.frame)))
		message = append(message, it.frame...)
	}
	return message
}

var errCut = errors.New("a message of another node is cut off")

// split calls f with the frames of a message. Error: the message is not what join makes; f has been called with the frames before the fault.
func split(message []byte, f func(frame []byte)) error {
	for len(message) > 0 {
		n, k := binary.Uvarint(message)
		if k <= 0 || n > uint64(len(message)-k) {
			return errCut
		}
		end := k + int(n)
		f(message[k:end:end])
		message = message[end:]
	}
	return nil
}
