package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"

	backendai "backend.ai/manager"
)

// The kinds of transaction that units of work ask for. The zero pgx.TxOptions is
// a read-write transaction at the pool's default isolation.
var (
	// Serializable is for "look up, then insert": names of images and folders are
	// not unique in every shape of the schema, so only isolation keeps them apart.
	Serializable = pgx.TxOptions{IsoLevel: pgx.Serializable}
	// ReadOnly is for several reads that must see one state.
	ReadOnly = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
)

// maxAttempts bounds how often a unit of work runs. With the waits below the
// last attempt starts after 3 s on average.
const maxAttempts = 10

// Beginner starts transactions: a pool or a connection.
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// InTx runs fn in a transaction: committed when fn returns nil, else rolled back.
//
// fn runs again, after a wait with jitter, when the server gave the transaction
// up (serialization failure, deadlock) inside fn or at the commit; so fn must
// not keep anything of an earlier run and do nothing outside the transaction.
// The original answered 500 to such failures in many places and retried only
// serialization failures (spec/database §2).
//
// Errors come as AsError gives them; those with a code of their own that fn
// returns come back unchanged. A connection lost during the commit is
// ErrUnavailable, and whether the commit happened is then unknown.
func InTx(ctx context.Context, db Beginner, opts pgx.TxOptions, fn func(pgx.Tx) error) error {
	once := func() (struct{}, error) {
		err := pgx.BeginTxFunc(ctx, db, opts, fn)
		if err != nil && !Retryable(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}
	wait := &backoff.ExponentialBackOff{InitialInterval: 10 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	_, err := backoff.Retry(ctx, once, backoff.WithBackOff(wait), backoff.WithMaxTries(maxAttempts), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return nil
	}
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		err = permanent.Unwrap()
	}
	if Retryable(err) && backendai.CodeOf(err) == backendai.InternalServerError {
		return backendai.Errorf(backendai.Conflict, "gave up after %d attempts", maxAttempts).WithCause(err)
	}
	return AsError(err)
}
