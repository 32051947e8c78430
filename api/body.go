package api

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"

	"github.com/gofiber/fiber/v2"

	backendai "backend.ai/manager"
)

const (
	// MaxBody is the size from which on a body that is read as a whole is refused, after decompression (spec/rest-core §1.1).
	MaxBody = 1 << 20
	// maxDrain is how much of an unread body is read to keep the connection; behind it the connection is closed.
	maxDrain = 4 << 20
)

var errTooLarge = backendai.NewError(backendai.GenericBadRequest)

// body is the request's body, read at most once.
type body struct {
	stream io.Reader // nil = none
	ended  bool      // the stream gave all; reading on would read the next request
	whole  []byte
	read   bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.stream == nil || b.ended {
		return 0, io.EOF
	}
	n, err := b.stream.Read(p)
	if err != nil {
		b.ended = true // also after a failure: nothing sensible follows
	}
	return n, err
}

// BodyStream is the body as it arrives, for uploads; the limit of Body does not apply, and neither does decompression.
func (r *Request) BodyStream() io.Reader { return &r.body }

// Body is the whole body, decompressed. Errors: GenericBadRequest, without a message, from MaxBody on; InvalidAPIParameters for one that
// can't be decompressed.
func (r *Request) Body() ([]byte, error) {
	if r.body.read || r.body.stream == nil {
		return r.body.whole, nil
	}
	r.body.read = true
	if r.ctx.Request().Header.ContentLength() >= MaxBody {
		return nil, errTooLarge
	}
	var source io.Reader = &r.body
	// Zero bytes are no body, whatever the headers say.
	var first [1]byte
	n, err := io.ReadFull(source, first[:])
	if n == 0 {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, malformedBody(err)
	}
	source = io.MultiReader(bytes.NewReader(first[:]), source)
	switch strings.ToLower(r.peek(fiber.HeaderContentEncoding)) {
	case "gzip", "x-gzip":
		if source, err = gzip.NewReader(source); err != nil {
			return nil, malformedBody(err)
		}
	case "deflate":
		if source, err = zlib.NewReader(source); err != nil {
			return nil, malformedBody(err)
		}
	}
	whole, err := io.ReadAll(io.LimitReader(source, MaxBody))
	if err != nil {
		return nil, malformedBody(err)
	}
	if len(whole) >= MaxBody {
		return nil, errTooLarge
	}
	r.body.whole = whole
	return whole, nil
}

func malformedBody(cause error) error {
	return backendai.Errorf(backendai.InvalidAPIParameters, "Malformed body").WithCause(cause)
}

// finish leaves the connection where the next request begins, or has it closed: what is left of a body must not be taken for a request.
func (b *body) finish(c *fiber.Ctx) {
	if b.stream == nil || b.ended {
		return
	}
	if c.Request().Header.ContentLength() <= maxDrain {
		_, _ = io.CopyN(io.Discard, b, maxDrain+1) // whether it ended is what counts
	}
	if !b.ended {
		c.Context().SetConnectionClose()
	}
}
