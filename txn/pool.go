//nolint:rowserrcheck // rows are passed on to the caller, who checks their error
package txn

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// This file runs statements outside a transaction.

// acquire acquires a connection of the pool. If no connection could be made, so nothing has been sent, it retries according to
// the retry policy of the database.
func (m *Manager) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := m.pool.Acquire(ctx)
	if err == nil || !notConnected(err) {
		return conn, m.closedError(err)
	}
	retries := m.retryPolicy.Begin()
	for err != nil && notConnected(err) && retries.NextAfter(ctx, err) {
		conn, err = m.pool.Acquire(ctx)
	}
	return conn, retries.Wrap(err)
}

// closedError replaces the error of a closed pool by that of the gate, which matches pgfx.ErrClosed.
func (m *Manager) closedError(err error) error {
	if errors.Is(err, puddle.ErrClosedPool) {
		if closed := m.db.Internals().Gate().Err(); closed != nil {
			return closed
		}
	}
	return err
}

// notConnected reports whether err proves that no connection could be made.
func notConnected(err error) bool {
	_, dialing := errors.AsType[*pgconn.ConnectError](err)
	_, connecting := errors.AsType[*pgfx.ConnectError](err)
	return dialing || connecting
}

func (m *Manager) poolExec(ctx context.Context, sql string, args []any) (pgconn.CommandTag, error) {
	conn, err := m.acquire(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	defer conn.Release()
	return conn.Exec(ctx, sql, args...) //nolint:wrapcheck // the caller's own statement
}

func (m *Manager) poolQuery(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	rows, err := m.pool.Query(ctx, sql, args...)
	if err == nil || !notConnected(err) {
		return rows, m.closedError(err)
	}
	retries := m.retryPolicy.Begin()
	for err != nil && notConnected(err) && retries.NextAfter(ctx, err) {
		rows, err = m.pool.Query(ctx, sql, args...)
	}
	return rows, retries.Wrap(err)
}

func (m *Manager) poolQueryRow(ctx context.Context, sql string, args []any) pgx.Row {
	rows, err := m.poolQuery(ctx, sql, args)
	if err != nil {
		return failedRow(err)
	}
	return firstRow{rows}
}

func (m *Manager) poolSendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	conn, err := m.acquire(ctx)
	if err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return &poolResults{BatchResults: conn.SendBatch(ctx, batch), conn: conn}
}

// poolResults release their connection when they are closed.
type poolResults struct {
	pgx.BatchResults

	conn *pgxpool.Conn
}

// Close reads the remaining results and releases the connection.
func (r *poolResults) Close() error {
	defer r.conn.Release()
	return r.BatchResults.Close() //nolint:wrapcheck // the caller's own statement
}

func (m *Manager) poolCopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	conn, err := m.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	return conn.Conn().CopyFrom(ctx, table, columns, rows) //nolint:wrapcheck // the caller's own statement
}
