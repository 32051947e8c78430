package graphql

import (
	"context"
	"errors"
	"log/slog"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/graphql/engine"
)

// answer is data (nil = nothing was executed) and what went wrong.
type answer struct {
	data   []byte
	errors []engine.Problem
}

// modern is the body of /admin/gql.
func (a answer) modern() []byte {
	b := make([]byte, 0, len(a.data)+64)
	b = append(b, '{')
	if len(a.errors) > 0 {
		text, err := backendai.EncodeJSON(a.errors)
		if err != nil {
			text = []byte("[]") // texts and numbers always have a form
		}
		b = append(append(b, `"errors": `...), text...)
		if a.data != nil {
			b = append(b, ", "...)
		}
	}
	if a.data != nil {
		b = append(append(b, `"data": `...), a.data...)
	}
	return append(b, '}')
}

// textOf is what clients get to read of an error of a resolver.
func textOf(err error) string {
	var e *backendai.Error
	switch {
	case !errors.As(err, &e):
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return "The query took too long."
		}
		return err.Error()
	case e.Code == backendai.InvalidArgument && e.Message != nil:
		return *e.Message
	case e.HTTPStatus() >= 500:
		slog.Error("a GraphQL resolver failed", "error", err)
	}
	return e.Text()
}
