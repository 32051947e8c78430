package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	backendai "backend.ai/manager"
)

// ErrUnavailable is what errors.Is finds in an error of a server that can't be
// reached, is starting, stopping or out of connections. Clients get 503.
const ErrUnavailable = backendai.ServiceUnavailable

// SQLSTATEs that the project decides by.
const (
	uniqueViolation      = "23505"
	foreignKeyViolation  = "23503"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	tooManyConnections   = "53300"
)

// AsError gives an error of the database a code, keeping it as the cause:
//
//	ServiceUnavailable    connection refused or broken, server starting, stopping or full
//	ServerMisconfigured   user, password or database refused; tables missing
//	Conflict              serialization failure, deadlock or lock time-out, after the retries
//	InternalServerError   anything else
//
// Nil, errors that already have a code, the end of the context and pgx.ErrNoRows
// come back as they are. What a violated constraint means only the statement's
// author knows: see UniqueViolation.
func AsError(err error) error {
	if err == nil || errors.Is(err, pgx.ErrNoRows) || errors.Is(err, context.Canceled) {
		return err
	}
	var coded *backendai.Error
	var code backendai.Code
	if errors.As(err, &coded) || errors.As(err, &code) {
		return err
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return backendai.NewError(codeOfState(pe.Code)).WithCause(err)
	}
	if broken(err) {
		return backendai.NewError(ErrUnavailable).WithCause(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return backendai.Internal(err)
}

func codeOfState(state string) backendai.Code {
	switch {
	case strings.HasPrefix(state, "08"), // connection exception
		strings.HasPrefix(state, "57P"), // shutdown, crash, starting up
		state == "25P03",                // a transaction stood still for too long
		state == tooManyConnections:
		return ErrUnavailable
	case strings.HasPrefix(state, "28"), // authorization
		state == "3D000", // no such database
		state == "42P01", // no such table
		state == "42501": // privilege
		return backendai.ServerMisconfigured
	case state == serializationFailure, state == deadlockDetected, state == lockNotAvailable:
		return backendai.Conflict
	default:
		return backendai.InternalServerError
	}
}

// broken tells whether err is about the connection rather than the statement.
func broken(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// IsUnavailable tells whether trying later may help although nothing else changes.
func IsUnavailable(err error) bool { return errors.Is(AsError(err), ErrUnavailable) }

// UniqueViolation tells which constraint or unique index a row ran into. The
// names are in spec/database §4 and the same in both shapes of the schema.
func UniqueViolation(err error) (constraint string, ok bool) {
	return violated(err, uniqueViolation)
}

// ForeignKeyViolation tells which reference a row or its deletion broke.
func ForeignKeyViolation(err error) (constraint string, ok bool) {
	return violated(err, foreignKeyViolation)
}

func violated(err error, state string) (string, bool) {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == state {
		return pe.ConstraintName, true
	}
	return "", false
}

// Retryable tells whether the server gave the transaction up for the sake of
// another one, so that running it again is right.
func Retryable(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == serializationFailure || pe.Code == deadlockDetected)
}
