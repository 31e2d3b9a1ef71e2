//nolint:rowserrcheck // rows are passed on to the caller, who checks their error
package txn

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
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

// connError returns an error of work on conn, which may also be the caller's own, for example that of a source of rows.
func connError(ctx context.Context, conn *pgx.Conn, err error) error {
	if conn.PgConn().IsClosed() {
		return sqlstate.StatementError(ctx, err)
	}
	return sqlstate.WithContextError(ctx, err)
}

func (m *Manager) poolExec(ctx context.Context, sql string, args []any) (pgconn.CommandTag, error) {
	conn, err := m.acquire(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	defer conn.Release()
	tag, err := conn.Exec(ctx, sql, m.comments.args(ctx, sql, args)...)
	return tag, sqlstate.StatementError(ctx, err)
}

func (m *Manager) poolQuery(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	rows, err := m.poolRows(ctx, sql, args)
	if err != nil {
		return failedRows{err}, err
	}
	return &statementRows{rows, ctx}, nil
}

func (m *Manager) poolRows(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	args = m.comments.args(ctx, sql, args)
	rows, err := m.pool.Query(ctx, sql, args...)
	if err == nil || !notConnected(err) {
		return rows, sqlstate.StatementError(ctx, m.closedError(err))
	}
	retries := m.retryPolicy.Begin()
	for err != nil && notConnected(err) && retries.NextAfter(ctx, err) {
		rows, err = m.pool.Query(ctx, sql, args...)
	}
	return rows, retries.Wrap(err)
}

func (m *Manager) poolQueryRow(ctx context.Context, sql string, args []any) pgx.Row {
	rows, err := m.poolRows(ctx, sql, args)
	if err != nil {
		return failedRows{err}
	}
	return firstRow{rows, ctx}
}

func (m *Manager) poolSendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	conn, err := m.acquire(ctx)
	if err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return &poolResults{statementResults{conn.SendBatch(ctx, m.comments.batch(ctx, batch, 0)), ctx}, conn}
}

// poolResults release their connection when they are closed.
type poolResults struct {
	statementResults

	conn *pgxpool.Conn
}

// Close reads the remaining results and releases the connection.
func (r *poolResults) Close() error {
	defer r.conn.Release()
	return r.statementResults.Close()
}

func (m *Manager) poolCopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	conn, err := m.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	n, err := conn.Conn().CopyFrom(ctx, table, columns, rows)
	return n, connError(ctx, conn.Conn(), err)
}

// statementRows are the rows of a query. If the query was cancelled, their error holds that of its ctx.
type statementRows struct {
	pgx.Rows

	ctx context.Context //nolint:containedctx // of the query
}

// Err returns the error that has ended the rows.
func (r *statementRows) Err() error { return sqlstate.StatementError(r.ctx, r.Rows.Err()) }

// statementResults are the results of a batch. If the batch was cancelled, their errors hold that of its ctx.
type statementResults struct {
	pgx.BatchResults

	ctx context.Context //nolint:containedctx // of the batch
}

// Exec reads the result of the next statement.
func (r *statementResults) Exec() (pgconn.CommandTag, error) {
	tag, err := r.BatchResults.Exec()
	return tag, sqlstate.StatementError(r.ctx, err)
}

// Query reads the result of the next statement.
func (r *statementResults) Query() (pgx.Rows, error) {
	rows, err := r.BatchResults.Query()
	return &statementRows{rows, r.ctx}, sqlstate.StatementError(r.ctx, err)
}

// QueryRow reads the result of the next statement.
func (r *statementResults) QueryRow() pgx.Row {
	rows, _ := r.BatchResults.Query() // Scan returns the error
	return firstRow{rows, r.ctx}
}

// Close reads the remaining results.
func (r *statementResults) Close() error {
	return sqlstate.StatementError(r.ctx, r.BatchResults.Close())
}
