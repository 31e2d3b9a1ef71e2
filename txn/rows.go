//nolint:rowserrcheck // rows are passed on to the caller, who checks their error
package txn

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

var (
	errRowsClosed = errors.New("txn: the rows are closed")
	// errDriverBytes is what pgx's own QueryRow reports, too: the bytes would be overwritten before the caller could read them.
	errDriverBytes = errors.New("txn: QueryRow can't scan into *pgtype.DriverBytes because it closes the rows; use *[]byte, or Query")
)

// rows are the rows of a query in a transaction. They use the transaction's connection until they are closed, and never touch
// it after the transaction has ended.
type rows struct {
	pgx.Rows

	t       *transaction
	ctx     context.Context //nolint:containedctx // of the query
	inBatch bool            // the connection stays in use by the batch when the rows are closed
	closed  bool
}

// resume begins a call. It returns false if the rows are closed, which they also are once the transaction has ended.
func (r *rows) resume() bool {
	if r.closed {
		return false
	}
	if err := r.t.use.resume(); err != nil {
		r.Rows, r.closed = failedRows{err}, true
		return false
	}
	return true
}

// endCall ends a call that resume has begun. If the call was the last one it closes the rows.
func (r *rows) endCall(last bool) {
	if !last {
		r.t.use.pause()
		return
	}
	r.closed = true
	r.Rows.Close()
	_ = r.t.failed(r.ctx, r.Rows.Err())
	if r.inBatch {
		r.t.use.pause()
	} else {
		r.t.use.finish()
	}
}

// Err returns the error that has ended the rows.
func (r *rows) Err() error { return sqlstate.StatementError(r.ctx, r.Rows.Err()) }

// Next prepares the next row, or closes the rows.
func (r *rows) Next() (ok bool) {
	if !r.resume() {
		return false
	}
	defer func() { r.endCall(!ok) }()
	return r.Rows.Next()
}

// Close closes the rows.
func (r *rows) Close() {
	if r.resume() {
		r.endCall(true)
	}
}

// Scan reads the row. An error closes the rows.
func (r *rows) Scan(dest ...any) (err error) {
	if !r.resume() {
		return r.closedError()
	}
	defer func() { r.endCall(err != nil) }() // a destination may panic
	return r.Rows.Scan(dest...)              //nolint:wrapcheck // the caller's own statement
}

// Values returns the row's values. An error closes the rows.
func (r *rows) Values() (values []any, err error) {
	if !r.resume() {
		return nil, r.closedError()
	}
	defer func() { r.endCall(err != nil) }()
	return r.Rows.Values() //nolint:wrapcheck // the caller's own statement
}

// closedError returns why closed rows can't be scanned. pgx is not asked, because the connection may serve others by now.
func (r *rows) closedError() error {
	if err := r.Err(); err != nil {
		return err
	}
	return errRowsClosed
}

// firstRow is a row that closes its rows when it is scanned.
type firstRow struct {
	rows pgx.Rows
	ctx  context.Context //nolint:containedctx // of the query
}

// Scan reads the first row and closes the rows, even if a destination panics.
func (r firstRow) Scan(dest ...any) error {
	for _, d := range dest {
		if _, ok := d.(*pgtype.DriverBytes); ok {
			r.rows.Close()
			return errDriverBytes
		}
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return sqlstate.StatementError(r.ctx, err)
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err //nolint:wrapcheck // the caller's own statement
	}
	r.rows.Close()
	return sqlstate.StatementError(r.ctx, r.rows.Err())
}

// row is the first row of a query in a transaction. Its Scan is one call.
type row rows

// Scan reads the row and closes the rows.
func (r *row) Scan(dest ...any) error {
	all := (*rows)(r)
	if all.resume() {
		defer all.endCall(true)
	}
	return firstRow{all.Rows, all.ctx}.Scan(dest...)
}

// batchResults are the results of a batch in a transaction. They use the connection as rows do.
type batchResults struct {
	pgx.BatchResults

	t      *transaction
	ctx    context.Context //nolint:containedctx // of the batch
	closed bool
}

// Exec reads the result of the next statement.
func (b *batchResults) Exec() (pgconn.CommandTag, error) {
	if !b.closed {
		if err := b.t.use.resume(); err != nil {
			return pgconn.CommandTag{}, err
		}
		defer b.t.use.pause()
	}
	tag, err := b.BatchResults.Exec()
	return tag, sqlstate.StatementError(b.ctx, err)
}

// Query reads the result of the next statement.
func (b *batchResults) Query() (pgx.Rows, error) {
	r, err := b.query()
	return r, err
}

// QueryRow reads the result of the next statement.
func (b *batchResults) QueryRow() pgx.Row {
	r, _ := b.query() // Scan returns the error
	return (*row)(r)
}

func (b *batchResults) query() (*rows, error) {
	r := &rows{t: b.t, ctx: b.ctx, inBatch: true, closed: b.closed}
	if !b.closed {
		if err := b.t.use.resume(); err != nil {
			r.Rows, r.closed = failedRows{err}, true
			return r, err
		}
		defer b.t.use.pause()
	}
	var err error
	r.Rows, err = b.BatchResults.Query() //nolint:gocritic // the rows are passed on
	r.closed = err != nil
	return r, sqlstate.StatementError(b.ctx, err)
}

// Close reads the remaining results.
func (b *batchResults) Close() error {
	if b.closed {
		return b.BatchResults.Close() //nolint:wrapcheck // the caller's own statement
	}
	if err := b.t.use.resume(); err != nil {
		return err
	}
	b.closed = true
	defer b.t.use.finish()
	return b.t.failed(b.ctx, b.BatchResults.Close())
}
