//nolint:rowserrcheck // rows are handed on: whoever reads them asks for their error
package txn

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// inlineResults is how many results of a transaction need no allocation of their own; the others are allocated in chunks.
const (
	inlineResults = 4
	resultChunk   = 16
)

// results are where the results of a transaction come from.
type results struct {
	used  int
	first [inlineResults]result
	more  *[resultChunk]result
}

// next returns an unused result. The caller has the connection.
func (r *results) next() *result {
	n := r.used
	r.used++
	if n < inlineResults {
		return &r.first[n]
	}
	n = (n - inlineResults) % resultChunk
	if n == 0 {
		r.more = new([resultChunk]result)
	}
	return &r.more[n]
}

// result is what a query in a transaction gives. It has the connection until it is closed, so that a second user is found,
// and it touches the connection no more once the transaction has ended.
type result struct {
	pgx.Rows

	t *transaction // nil once the rows are closed
}

// give closes the rows, while the caller has the connection. err, if there is one, is what they hold from then on.
func (r *result) give(err error) {
	t, rows := r.t, r.Rows
	r.t = nil
	if err != nil {
		r.Rows = failedRows{err}
	}
	rows.Close()
	t.note(rows.Err())
}

// close closes the rows, which are open, and gives the connection back.
func (r *result) close(err error) {
	t := r.t
	r.give(err)
	t.inside.Store(false) // before others may read
	t.leave(stateReading)
}

// outside says that the reader isn't in pgx any more, unless the rows are closed, which has said so.
func (r *result) outside() {
	if r.t != nil {
		r.t.inside.Store(false)
	}
}

// over reports whether there is nothing more to read, and closes the rows when the transaction has ended meanwhile.
func (r *result) over() bool {
	if r.t == nil {
		return true
	}
	switch r.t.state.Load() {
	case stateReading:
		return false
	case stateDraining:
		r.close(ErrTxDone)
	default: // the end has closed the connection
		r.t.inside.Store(false)
		r.t, r.Rows = nil, failedRows{ErrTxDone}
	}
	return true
}

// Next prepares the next row, or closes the rows.
func (r *result) Next() bool {
	t := r.t
	if t == nil {
		return false
	}
	defer r.outside()
	t.inside.Store(true)
	if r.over() {
		return false
	}
	if r.Rows.Next() {
		return true
	}
	r.close(nil)
	return false
}

// Close closes the rows.
func (r *result) Close() {
	t := r.t
	if t == nil {
		return
	}
	defer r.outside()
	t.inside.Store(true)
	if !r.over() {
		r.close(nil)
	}
}

// Scan reads the row. An error closes the rows.
func (r *result) Scan(dest ...any) error {
	if t := r.t; t != nil {
		defer r.outside()
		t.inside.Store(true)
	}
	open := !r.over()
	err := r.Rows.Scan(dest...) // of rows that are over it tells what is wrong
	if err != nil && open {
		r.close(nil)
	}
	return err //nolint:wrapcheck // of the caller's own statement
}

// Values returns the row's values. An error closes the rows.
func (r *result) Values() ([]any, error) {
	if t := r.t; t != nil {
		defer r.outside()
		t.inside.Store(true)
	}
	open := !r.over()
	values, err := r.Rows.Values()
	if err != nil && open {
		r.close(nil)
	}
	return values, err //nolint:wrapcheck // of the caller's own statement
}

// resultRow is a result of one row.
type resultRow result

// Scan reads the row and closes the result. To the end of the transaction that is a call like others.
func (r *resultRow) Scan(dest ...any) error {
	t := r.t
	if t == nil || !t.state.CompareAndSwap(stateReading, stateCalling) {
		(*result)(r).Close()         // with ErrTxDone, when the transaction has
		return scanRow(r.Rows, dest) // that there is none any more
	}
	r.t = nil
	defer func() {
		r.Rows.Close() // they are open after a panic
		t.leave(stateCalling)
	}()
	err := scanRow(r.Rows, dest)
	t.note(err)
	return err
}

// batchResults are the results of a batch in a transaction.
type batchResults struct {
	pgx.BatchResults

	t    *transaction
	done bool
}

// over reports whether nothing more may be read.
func (b *batchResults) over() bool { return !b.done && b.t.state.Load() != stateReading }

// Exec reads the result of the next statement.
func (b *batchResults) Exec() (pgconn.CommandTag, error) {
	if !b.done {
		defer b.t.inside.Store(false)
		b.t.inside.Store(true)
	}
	if b.over() {
		return pgconn.CommandTag{}, ErrTxDone
	}
	return b.BatchResults.Exec() //nolint:wrapcheck // of the caller's own statement
}

// Query reads the result of the next statement.
func (b *batchResults) Query() (pgx.Rows, error) {
	if !b.done {
		defer b.t.inside.Store(false)
		b.t.inside.Store(true)
	}
	if b.over() {
		return failedRows{ErrTxDone}, ErrTxDone
	}
	return b.BatchResults.Query() //nolint:sqlclosecheck,wrapcheck // of the caller's own statement, and handed on
}

// QueryRow reads the result of the next statement.
func (b *batchResults) QueryRow() pgx.Row {
	if b.over() {
		return failedRow{ErrTxDone}
	}
	return b.BatchResults.QueryRow()
}

// Close reads what is left.
func (b *batchResults) Close() error {
	if b.done {
		return b.BatchResults.Close() //nolint:wrapcheck // of the caller's own statement
	}
	b.t.inside.Store(true)
	switch b.t.state.Load() {
	case stateReading, stateDraining:
	default: // the end has closed the connection
		b.t.inside.Store(false)
		return ErrTxDone
	}
	b.done = true
	defer b.t.leave(stateReading)
	defer b.t.inside.Store(false) // before others may read
	err := b.BatchResults.Close()
	b.t.note(err)
	return err //nolint:wrapcheck // of the caller's own statement
}
