package repo

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

// This file does reads again. What a repository writes is never done again: nobody knows whether it has happened.

// reading is query for a statement that only reads. When the connection was lost it is sent again, outside of a transaction
// and as often as the pool's policy and its budget allow it (pgfx.RetryPolicy, group Retry of the configuration).
func (r *Repository[T, K]) reading(ctx context.Context, sql string, args []any, read func(pgx.Rows) error) error {
	err := r.query(ctx, sql, args, read)
	if err == nil || !mayRead(ctx, r.tx, err) {
		return err
	}
	return readAgain(ctx, r.tx, err, func() error { return r.query(ctx, sql, args, read) })
}

// first reads one row.
func (r *Repository[T, K]) first(ctx context.Context, sql string, args []any) (*T, error) {
	var row *T
	err := r.reading(ctx, sql, args, func(rows pgx.Rows) error {
		var err error
		row, err = scanOne[T](rows, r.d.shape)
		return err
	})
	return row, err
}

// mayRead reports whether a read that ended in err may be done again.
func mayRead(ctx context.Context, tx *txn.Manager, err error) bool {
	if _, inside := tx.Tx(ctx); inside {
		return false
	}
	_, given := errors.AsType[*pgfx.RetryError](err) // somebody below has done what can be done
	return !given && pgfx.CanRetry(err, pgfx.Idempotent)
}

// readAgain calls read until it succeeds or the policy ends.
func readAgain(ctx context.Context, tx *txn.Manager, err error, read func() error) error {
	policy := tx.DB().RetryPolicy()
	policy.Idempotency = pgfx.Idempotent
	retries := policy.Begin()
	for retries.NextAfter(ctx, err) {
		if err = read(); err == nil || !mayRead(ctx, tx, err) {
			return err
		}
	}
	return retries.Wrap(err)
}
