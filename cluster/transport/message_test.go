package transport

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestMessage: frames come out as they went in, and of a message that is cut off anywhere come whole frames only.
func TestMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frames := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 20).Draw(t, "frames")
		list := make([]item, len(frames))
		for i, f := range frames {
			list[i] = item{frame: f}
		}
		message := join(list)
		if len(message) > maxMessage-MaxFrame {
			t.Fatalf("%d bytes", len(message))
		}
		cut := rapid.IntRange(0, len(message)).Draw(t, "cut")
		for _, end := range []int{len(message), cut} {
			n := 0
			err := split(message[:end], func(f []byte) {
				if n >= len(frames) || !bytes.Equal(f, frames[n]) {
					t.Fatalf("frame %d of %d is %x", n, len(frames), f)
				}
				n++
			})
			if end == len(message) && (err != nil || n != len(frames)) {
				t.Fatalf("%d of %d frames: %v", n, len(frames), err)
			}
			whole := 0
			for i := 1; i <= len(list); i++ {
				if len(join(list[:i])) <= end {
					whole = i
				}
			}
			if n != whole || (err == nil) != (len(join(list[:whole])) == end) {
				t.Fatalf("%d frames of %d bytes, %d are whole: %v", n, end, whole, err)
			}
		}
	})
	if err := split([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, func([]byte) {}); err == nil {
		t.Error("a length of more than 64 bits")
	}
	if err := split([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1}, func([]byte) {}); err == nil {
		t.Error("a length of 64 bits")
	}
}
