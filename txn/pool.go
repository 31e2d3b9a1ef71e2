//nolint:rowserrcheck // rows are handed on: whoever reads them asks for their error
package txn

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// What the manager does outside of a transaction.

// acquire takes a connection of the pool. It tries again, as the database's policy has it, when none could be made: nothing
// has been sent then.
func (m *Manager) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := m.pool.Acquire(ctx)
	if err == nil || !unsent(err) {
		return conn, m.orClosed(err)
	}
	retries := m.unsent.Begin()
	for err != nil && unsent(err) && retries.NextAfter(ctx, err) {
		conn, err = m.pool.Acquire(ctx)
	}
	return conn, retries.Wrap(err)
}

// closedPool is what the pool's own pool says (puddle.ErrClosedPool).
const closedPool = "closed pool"

// orClosed puts the gate's error in the place of the pool's own "closed pool", which meets whoever has passed the gate just
// before the database was closed.
func (m *Manager) orClosed(err error) error {
	if err == nil || err.Error() != closedPool {
		return err
	}
	if closed := m.db.Internals().Gate().Err(); closed != nil {
		return closed
	}
	return err
}

// unsent reports whether err says that a connection could not be made.
func unsent(err error) bool {
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
	return conn.Exec(ctx, sql, args...) //nolint:wrapcheck // of the caller's own statement
}

// poolQuery leaves giving back the connection to the pool, which does it without an allocation.
func (m *Manager) poolQuery(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	rows, err := m.pool.Query(ctx, sql, args...)
	if err == nil || !unsent(err) {
		return rows, m.orClosed(err)
	}
	retries := m.unsent.Begin()
	for err != nil && unsent(err) && retries.NextAfter(ctx, err) {
		rows, err = m.pool.Query(ctx, sql, args...)
	}
	return rows, retries.Wrap(err)
}

func (m *Manager) poolQueryRow(ctx context.Context, sql string, args []any) pgx.Row {
	conn, err := m.acquire(ctx)
	if err != nil {
		return failedRow{err}
	}
	rows, _ := conn.Query(ctx, sql, args...) // the rows have the error, too
	return &poolRow{rows: rows, conn: conn}
}

// poolRow gives its connection back once it is read.
type poolRow struct {
	rows pgx.Rows
	conn *pgxpool.Conn
}

// Scan reads the row and gives the connection back.
func (r *poolRow) Scan(dest ...any) error {
	defer func() {
		r.rows.Close() // they are open after a panic
		r.conn.Release()
	}()
	return scanRow(r.rows, dest)
}

func (m *Manager) poolSendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	conn, err := m.acquire(ctx)
	if err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	return &poolResults{BatchResults: conn.SendBatch(ctx, batch), conn: conn}
}

// poolResults gives its connection back when it is closed.
type poolResults struct {
	pgx.BatchResults

	conn *pgxpool.Conn
}

// Close reads what is left and gives the connection back.
func (r *poolResults) Close() error {
	defer r.conn.Release()
	return r.BatchResults.Close() //nolint:wrapcheck // of the caller's own statement
}

func (m *Manager) poolCopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	conn, err := m.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	return conn.Conn().CopyFrom(ctx, table, columns, rows) //nolint:wrapcheck // of the caller's own statement
}
