//nolint:rowserrcheck // rows are passed on to the caller, who checks their error
package txn

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

var _ pgx.Tx = (*transaction)(nil)

// inFailedTransaction is the SQLSTATE of statements that follow a failed one.
const inFailedTransaction = "25P02"

// failed returns the error of a statement, with that of its ctx if the statement was cancelled. It remembers an error that put the
// transaction into the failed state or broke the connection.
func (t *transaction) failed(ctx context.Context, err error) error {
	if err == nil || sqlstate.Code(err) == inFailedTransaction {
		return err
	}
	err = connError(ctx, t.conn.Conn(), err)
	if pg := t.conn.Conn().PgConn(); pg.IsClosed() || pg.TxStatus() == statusFailed {
		t.failure = err
	}
	return err
}

// noteCommand notices when the closure ends the transaction itself, even if another one has begun since.
func (t *transaction) noteCommand(tag pgconn.CommandTag, sql string) {
	switch tag.String() {
	case "COMMIT", "PREPARE TRANSACTION": // with "and chain" the next transaction begins at once
		t.endedByClosure = true
	case "BEGIN", "START TRANSACTION": // has no effect alone, but may follow a commit in the same string
		t.endedByClosure = t.endedByClosure || strings.Contains(sql, ";")
	}
}

// Exec runs a statement.
func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.use.begin(); err != nil {
		return pgconn.CommandTag{}, err
	}
	defer t.use.finish()
	tag, err := t.tx.Exec(ctx, sql, t.m.comments.args(ctx, sql, args)...)
	t.noteCommand(tag, sql)
	return tag, t.failed(ctx, err)
}

// Query runs a query.
func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r, err := t.query(ctx, sql, args)
	return r, err
}

// QueryRow runs a query for one row.
func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, _ := t.query(ctx, sql, args) // Scan returns the error
	return (*row)(r)
}

// query runs a query. If it fails, the rows are closed and hold the error.
func (t *transaction) query(ctx context.Context, sql string, args []any) (r *rows, err error) {
	r = &rows{t: t, ctx: ctx, closed: true}
	if err := t.use.begin(); err != nil {
		r.Rows = failedRows{err}
		return r, err
	}
	defer func() {
		if r.closed {
			t.use.finish()
		} else {
			t.use.pause()
		}
	}()
	r.Rows, err = t.tx.Query(ctx, sql, t.m.comments.args(ctx, sql, args)...) //nolint:gocritic // the rows are passed on
	r.closed = err != nil
	return r, t.failed(ctx, err)
}

// SendBatch sends statements in one round trip.
func (t *transaction) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := t.use.begin(); err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	results := &batchResults{t: t, ctx: ctx}
	defer func() {
		if results.BatchResults != nil {
			t.use.pause()
		} else {
			t.use.finish()
		}
	}()
	results.BatchResults = t.tx.SendBatch(ctx, t.m.comments.batch(ctx, batch, 0))
	return results
}

// CopyFrom copies rows into a table.
func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := t.use.begin(); err != nil {
		return 0, err
	}
	defer t.use.finish()
	n, err := t.tx.CopyFrom(ctx, table, columns, rows)
	return n, t.failed(ctx, err)
}

func (t *transaction) withConn(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
	if err := t.use.begin(); err != nil {
		return err
	}
	defer t.use.finish()
	return t.failed(ctx, fn(ctx, t.conn.Conn()))
}

// Prepare makes a prepared statement, which stays with the connection.
func (t *transaction) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := t.use.begin(); err != nil {
		return nil, err
	}
	defer t.use.finish()
	description, err := t.tx.Prepare(ctx, name, sql)
	return description, t.failed(ctx, err)
}

// LargeObjects returns pgx's access to large objects. Concurrent use of it is not detected.
func (t *transaction) LargeObjects() pgx.LargeObjects { return t.tx.LargeObjects() }

// Conn returns the connection, which must not be kept beyond the closure. Concurrent use of it is not detected.
func (t *transaction) Conn() *pgx.Conn { return t.tx.Conn() }

// Commit returns ErrManagedTx.
func (t *transaction) Commit(context.Context) error { return ErrManagedTx }

// Rollback returns ErrManagedTx.
func (t *transaction) Rollback(context.Context) error { return ErrManagedTx }

// Begin sets a savepoint.
func (t *transaction) Begin(ctx context.Context) (pgx.Tx, error) {
	number, err := t.savepoint(ctx)
	if err != nil {
		return nil, err
	}
	t.openSavepoints.Add(1)
	return &savepointTx{transaction: t, number: number}, nil
}
