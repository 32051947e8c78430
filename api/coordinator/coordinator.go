package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	backendai "backend.ai/manager"
	"backend.ai/manager/persistence/postgres/live"
)

// It is a small service nearby.
const (
	timeout       = 10 * time.Second
	longestAnswer = 64 << 10 // bytes
)

var client = &http.Client{Timeout: timeout}

var errNone = backendai.Errorf(backendai.ServiceUnavailable, "No coordinator configured for this resource group")

// Status is what a coordinator says of itself.
type Status struct {
	Version    string `json:"api_version"`
	Advertised string `json:"advertise_address"` // where browsers reach it; "": where we do
}

// Ask asks a coordinator for its status. Errors: as Converse.
func Ask(ctx context.Context, address string) (s Status, err error) {
	err = Converse(ctx, http.MethodGet, address+"/status", nil, &s)
	return s, err
}

// Address is where a scaling group's coordinator is, without a slash at the end. Errors: ServiceUnavailable when it has none.
func Address(ctx context.Context, pool *pgxpool.Pool, scalingGroup *string) (string, error) {
	if scalingGroup == nil {
		return "", errNone
	}
	address, err := live.Coordinator(ctx, pool, *scalingGroup)
	if err == nil && address == "" {
		err = errNone
	}
	return strings.TrimSuffix(address, "/"), err
}

// Converse asks a coordinator. Errors: ServiceUnavailable for one that cannot be
// reached or makes no sense (FIX: 500 in the original).
func Converse(ctx context.Context, method, target string, question, answer any) error {
	unavailable := func(err error) error {
		return backendai.Errorf(backendai.ServiceUnavailable, "The coordinator of this resource group does not answer properly.").WithCause(err)
	}
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return backendai.Internal(err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return unavailable(err)
	}
	if question != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return unavailable(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return unavailable(fmt.Errorf("%s %s: %s", method, target, res.Status))
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, longestAnswer)).Decode(answer); err != nil {
		return unavailable(err)
	}
	return nil
}
