package callosum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds nesting. Real payloads have some eight levels; a hostile peer could otherwise nest as deep as the frame
// is long and exhaust the stack of the decoder, which no recover catches.
const maxDepth = 256

var errTruncated = errors.New("callosum: MessagePack value is cut off")

// Check tells whether data is exactly one value that a Python peer of 22.03 can decode (spec §2.7): complete, text in
// UTF-8, map keys str or bin, no extension types, no more than 256 levels. It allocates in proportion to the depth only,
// so lengths that are lies cost nothing.
func Check(data []byte) error {
	type level struct {
		left  uint64 // values still to come on this level
		isMap bool
	}
	levels := make([]level, 1, 16)
	levels[0].left = 1
	at := 0
	take := func(n uint64) ([]byte, bool) {
		if uint64(len(data)-at) < n {
			return nil, false
		}
		piece := data[at : at+int(n)]
		at += int(n)
		return piece, true
	}
	length := func(width uint64) (uint64, bool) {
		b, ok := take(width)
		if !ok {
			return 0, false
		}
		switch width {
		case 1:
			return uint64(b[0]), true
		case 2:
			return uint64(binary.BigEndian.Uint16(b)), true
		}
		return uint64(binary.BigEndian.Uint32(b)), true
	}

	for len(levels) > 0 {
		top := &levels[len(levels)-1]
		if top.left == 0 {
			levels = levels[:len(levels)-1]
			continue
		}
		isKey := top.isMap && top.left%2 == 0
		top.left--
		first, ok := take(1)
		if !ok {
			return errTruncated
		}
		c := first[0]
		var n uint64
		isText, isBin := false, false
		open, isMap := false, false
		switch {
		case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // fixnum, nil, bool
		case c <= 0x8f:
			n, open, isMap = uint64(c&0x0f), true, true
		case c <= 0x9f:
			n, open = uint64(c&0x0f), true
		case c <= 0xbf:
			n, isText = uint64(c&0x1f), true
		case c >= 0xc4 && c <= 0xc6:
			n, ok = length(1 << (c - 0xc4))
			isBin = true
		case c >= 0xd9 && c <= 0xdb:
			n, ok = length(1 << (c - 0xd9))
			isText = true
		case c == 0xca, c == 0xce, c == 0xd2:
			_, ok = take(4)
		case c == 0xcb, c == 0xcf, c == 0xd3:
			_, ok = take(8)
		case c == 0xcc, c == 0xd0:
			_, ok = take(1)
		case c == 0xcd, c == 0xd1:
			_, ok = take(2)
		case c == 0xdc, c == 0xdd:
			n, ok = length(2 << (c - 0xdc))
			open = true
		case c == 0xde, c == 0xdf:
			n, ok = length(2 << (c - 0xde))
			open, isMap = true, true
		default:
			return fmt.Errorf("callosum: MessagePack code %#02x is not used on this link", c)
		}
		if !ok {
			return errTruncated
		}
		if isKey && !isText && !isBin {
			return errors.New("callosum: map key is neither str nor bin")
		}
		if isText || isBin {
			piece, ok := take(n)
			if !ok {
				return errTruncated
			}
			if isText && !utf8.Valid(piece) {
				return errors.New("callosum: text is not valid UTF-8")
			}
		}
		if open && n > 0 {
			if len(levels) > maxDepth {
				return fmt.Errorf("callosum: more than %d levels of nesting", maxDepth)
			}
			if isMap {
				n *= 2
			}
			levels = append(levels, level{n, isMap})
		}
	}
	if at != len(data) {
		return fmt.Errorf("callosum: %d bytes after the MessagePack value", len(data)-at)
	}
	return nil
}
