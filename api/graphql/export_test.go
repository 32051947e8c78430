package graphql

import (
	"context"

	"backend.ai/manager/persistence/postgres/accounts"
)

// Answer is the body of /admin/gql without HTTP around it.
func (s *Resource) Answer(ctx context.Context, who *accounts.Credential, query string, variables map[string]any) []byte {
	return s.answer(ctx, who, queryParams{query: query, variables: variables}).modern()
}
