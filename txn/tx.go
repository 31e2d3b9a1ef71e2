//nolint:rowserrcheck // rows are handed on: whoever reads them asks for their error
package txn

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

var _ pgx.Tx = (*transaction)(nil)

// enter takes the connection for a call.
func (t *transaction) enter() error {
	if t.state.CompareAndSwap(stateIdle, stateCalling) {
		return nil
	}
	if t.state.Load() >= stateEnding {
		return ErrTxDone
	}
	return ErrConcurrentUse
}

// keep makes the call that is running a result that is being read. It returns false when the transaction has ended
// meanwhile: then there is nothing to read any more.
func (t *transaction) keep() bool { return t.state.CompareAndSwap(stateCalling, stateReading) }

// leave gives the connection back, to the end of the transaction when that waits for it.
func (t *transaction) leave(state int32) {
	if t.state.CompareAndSwap(state, stateIdle) {
		return
	}
	if t.state.CompareAndSwap(stateDraining, stateEnding) {
		close(t.drained)
		return
	}
	if t.state.Load() == stateOrphaned {
		t.conn.Release()
	}
}

// note remembers an error that has put the transaction into the failed state or has broken the connection.
func (t *transaction) note(err error) {
	if err == nil || sqlstate.Code(err) == inFailedTransaction {
		return
	}
	if pg := t.conn.Conn().PgConn(); pg.IsClosed() || pg.TxStatus() == statusFailed {
		t.failed = err
	}
}

// Exec runs a statement.
func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.enter(); err != nil {
		return pgconn.CommandTag{}, err
	}
	defer t.leave(stateCalling)
	tag, err := t.conn.Conn().Exec(ctx, sql, args...)
	t.note(err)
	switch tag.String() {
	case "COMMIT", "PREPARE TRANSACTION": // with "and chain" another one has begun at once
		t.endedInside = true
	case "BEGIN", "START TRANSACTION": // by itself it does nothing inside of a transaction
		t.endedInside = t.endedInside || strings.Contains(sql, ";")
	}
	return tag, err //nolint:wrapcheck // of the caller's own statement
}

// Query runs a query.
func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := t.enter(); err != nil {
		return failedRows{err}, err
	}
	kept := false
	defer func() {
		if !kept {
			t.leave(stateCalling)
		}
	}()
	rows, err := t.conn.Conn().Query(ctx, sql, args...)
	if err != nil {
		t.note(err)
		return rows, err //nolint:wrapcheck // of the caller's own statement
	}
	r := t.results.next()
	r.t, r.Rows = t, rows
	if kept = t.keep(); !kept {
		r.give(ErrTxDone)
		return r, ErrTxDone
	}
	return r, nil
}

// QueryRow runs a query for one row.
func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if err := t.enter(); err != nil {
		return failedRow{err}
	}
	kept := false
	defer func() {
		if !kept {
			t.leave(stateCalling)
		}
	}()
	rows, _ := t.conn.Conn().Query(ctx, sql, args...) // the rows have the error, too
	r := t.results.next()
	r.t, r.Rows = t, rows
	if kept = t.keep(); !kept {
		r.give(ErrTxDone)
	}
	return (*resultRow)(r)
}

// SendBatch sends statements in one round trip.
func (t *transaction) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := t.enter(); err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	kept := false
	defer func() {
		if !kept {
			t.leave(stateCalling)
		}
	}()
	results := &batchResults{BatchResults: t.pgxTx().SendBatch(ctx, batch), t: t}
	if kept = t.keep(); !kept {
		_ = results.BatchResults.Close() // nobody is there to read them
		return pgx.FailedBatchResults(batch, ErrTxDone)
	}
	return results
}

// CopyFrom copies rows into a table.
func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := t.enter(); err != nil {
		return 0, err
	}
	defer t.leave(stateCalling)
	n, err := t.conn.Conn().CopyFrom(ctx, table, columns, rows)
	t.note(err)
	return n, err //nolint:wrapcheck // of the caller's own statement
}

func (t *transaction) withConn(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
	if err := t.enter(); err != nil {
		return err
	}
	defer t.leave(stateCalling)
	err := fn(ctx, t.conn.Conn())
	t.note(err)
	return err
}

// Prepare makes a prepared statement, which stays with the connection.
func (t *transaction) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := t.enter(); err != nil {
		return nil, err
	}
	defer t.leave(stateCalling)
	description, err := t.conn.Conn().Prepare(ctx, name, sql)
	t.note(err)
	return description, err //nolint:wrapcheck // of the caller's own statement
}

// pgxTx returns the transaction as pgx has it, for what only that can do. pgx makes one with a batch that begins it; this one
// has begun, so that there is nothing left in the batch to be sent.
func (t *transaction) pgxTx() pgx.Tx {
	if t.tx == nil {
		batch := &pgx.Batch{}
		batch.BeginTx(pgx.TxOptions{})
		batch.QueuedQueries = nil
		t.tx = t.conn.Conn().SendBatch(t.root.Context, batch).Tx()
	}
	return t.tx
}

// LargeObjects gives access to large objects. It is pgx's own, and finds no misuse.
func (t *transaction) LargeObjects() pgx.LargeObjects { return t.pgxTx().LargeObjects() }

// Conn returns the connection, which must not be kept beyond the closure. What runs on it finds no misuse.
func (t *transaction) Conn() *pgx.Conn { return t.conn.Conn() }

// Commit returns ErrManagedTx.
func (t *transaction) Commit(context.Context) error { return ErrManagedTx }

// Rollback returns ErrManagedTx.
func (t *transaction) Rollback(context.Context) error { return ErrManagedTx }

// Begin makes a savepoint.
func (t *transaction) Begin(ctx context.Context) (pgx.Tx, error) {
	number, err := t.savepoint(ctx)
	if err != nil {
		return nil, err
	}
	return &savepointTx{transaction: t, number: number}, nil
}
