package graphql

import (
	"context"
	"errors"
	"log/slog"

	backendai "backend.ai/manager"
	"backend.ai/manager/api/graphql/engine"
)

// head is in front of the data, where there are no errors.
const head = `{"data": `

// answer is data behind a head (nil = nothing was executed), and what went wrong.
type answer struct {
	data   []byte
	errors []engine.Problem
}

// bare is the data alone.
func (a answer) bare() []byte { return a.data[min(len(head), len(a.data)):] }

// modern is the body of /admin/gql.
func (a answer) modern() []byte {
	if len(a.errors) == 0 {
		return append(a.data, '}')
	}
	text, err := backendai.EncodeJSON(a.errors)
	if err != nil {
		text = []byte("[]") // texts and numbers always have a form
	}
	b := append([]byte(`{"errors": `), text...)
	if a.data != nil {
		b = append(append(b, `, "data": `...), a.bare()...)
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
