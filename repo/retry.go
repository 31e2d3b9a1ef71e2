package repo

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// A statement is sent again in two cases: the server refused an outdated prepared statement, or a read lost its connection. Writes
// whose outcome is unknown are never repeated.

// maxStaleAttempts is how many connections with an outdated statement one call tolerates.
const maxStaleAttempts = 3

// retryStale calls try again while it fails because DDL has outdated what a connection remembers of a statement. Each connection
// notices that once: the server refuses the prepared statement, or the driver refuses a value for the remembered type of an
// argument. The driver then describes the statement again. try reports whether the driver refused the call. A transaction is
// aborted by the server's refusal, so try is called once there.
func retryStale(ctx context.Context, q Querier, try func() (refused bool, err error)) error {
	for attempt := 1; ; attempt++ {
		refused, err := try()
		if err == nil || !canRetryStale(ctx, q, attempt, refused, err) {
			return err
		}
	}
}

// canRetryStale reports whether retryStale repeats a call that has failed.
func canRetryStale(ctx context.Context, q Querier, attempt int, refused bool, err error) bool {
	return attempt < maxStaleAttempts && (refused || isStaleStatement(err)) && !inTransaction(ctx, q)
}

// isStaleStatement recognizes "cached plan must not change result type" by the function of the server that reports it. The text
// is translated, and the code is that of every feature that is not supported (PostgreSQL's src/backend/utils/cache/plancache.c).
func isStaleStatement(err error) bool {
	pg, ok := pgError(err)
	return ok && pg.Code == sqlstate.FeatureNotSupported && pg.Routine == "RevalidateCachedQuery"
}

// forgetIfStale makes the next call read the columns' types again if err reports that DDL has outdated a statement.
func (d *descriptor) forgetIfStale(err error) {
	if isStaleStatement(err) {
		d.live.Store(nil)
	}
}

// query runs a query and passes its rows to read, which must close them.
func (r *base) query(ctx context.Context, sql string, args []any, read func(pgx.Rows) error) error {
	for attempt := 1; ; attempt++ {
		rows, err := r.tx.Query(ctx, sql, newDescriber(r.untyped).args(args)...) //nolint:rowserrcheck // read checks it
		sent := err == nil
		if sent {
			err = read(rows)
		}
		r.d.forgetIfStale(err)
		switch {
		case err == nil:
			return nil
		case canRetryStale(ctx, r.tx, attempt, !sent && r.isRefusedValue(err), err):
			continue
		case !sent:
			err = explainSend(ctx, r.tx, sql, args, err)
		}
		return r.d.nameParameter(err, sql)
	}
}

// isRefusedValue reports whether an error of Query may come from the driver, which could not encode an argument. Query doesn't
// wait for the server unless the statement has to be prepared first, so it was not executed, except in the simple protocol. In the
// exec modes that describe no statements, no description is outdated (see describer).
func (r *base) isRefusedValue(err error) bool {
	return mayBeEncoding(err) && !r.untyped
}

// queryIdempotent is like query, for a statement that only reads. If the connection is lost outside a transaction, it retries
// within the pool's retry policy and its budget (pgfx.RetryPolicy, group Retry of the configuration).
func (r *base) queryIdempotent(ctx context.Context, sql string, args []any, read func(pgx.Rows) error) error {
	return retryRead(ctx, r.tx, func() error { return r.query(ctx, sql, args, read) })
}

// first reads one row.
func (r *Repository[T, K]) first(ctx context.Context, sql string, args []any) (*T, error) {
	var row *T
	err := r.queryIdempotent(ctx, sql, args, func(rows pgx.Rows) error {
		var err error
		row, err = readFirst[T](rows, r.d.shape)
		return err
	})
	return row, err
}

// retryRead calls read until it succeeds, fails in a way that can't be retried, or the pool's retry policy ends.
func retryRead(ctx context.Context, tx *txn.Manager, read func() error) error {
	err := read()
	if err == nil || !canRetryRead(ctx, tx, err) {
		return err
	}
	policy := tx.DB().RetryPolicy()
	policy.Idempotency = pgfx.Idempotent
	retries := policy.Begin()
	for retries.NextAfter(ctx, err) {
		if err = read(); err == nil || !canRetryRead(ctx, tx, err) {
			return err
		}
	}
	return retries.Wrap(err)
}

// canRetryRead reports whether a read that failed with err may be repeated.
func canRetryRead(ctx context.Context, tx *txn.Manager, err error) bool {
	if _, inside := tx.Tx(ctx); inside {
		return false
	}
	_, retried := errors.AsType[*pgfx.RetryError](err) // the pool has retried already
	return !retried && pgfx.CanRetry(err, pgfx.Idempotent)
}
