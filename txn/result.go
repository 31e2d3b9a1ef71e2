//nolint:rowserrcheck // rows are handed on: whoever reads them asks for their error
package txn

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// inlineResults is how many results of a transaction need no allocation of their own; the others are allocated in chunks.
const (
	inlineResults = 4
	resultChunk   = 16
)

// result is what a query in a transaction gives. It has the connection until it is closed, so that a second user is found,
// and it touches the connection no more once the transaction has ended.
type result struct {
	t    *transaction
	rows pgx.Rows
	row  pgx.Row // in place of rows
	err  error   // in place of the rows' own
	done bool
}

var _ pgx.Rows = (*result)(nil)

// newResult returns an unused result. The caller has the connection.
func (t *transaction) newResult() *result {
	if len(t.free) == 0 {
		t.free = t.spare()
	}
	r := &t.free[0]
	t.free = t.free[1:]
	r.t = t
	return r
}

func (t *transaction) spare() []result {
	if t.free == nil {
		return t.inlineResults[:]
	}
	return make([]result, resultChunk)
}

// failedResult returns rows that hold nothing but err.
func failedResult(err error) *result { return &result{err: err, done: true} }

// give closes the rows and gives the connection back. err is what Err returns instead of the rows' own.
func (r *result) give(err error) {
	if r.done {
		return
	}
	r.done, r.err = true, err
	if r.rows == nil {
		_ = r.row.Scan() // closes it
		return
	}
	r.rows.Close()
	r.t.note(r.rows.Err())
}

func (r *result) close(err error) {
	if r.done {
		return
	}
	r.give(err)
	r.t.leave(stateReading)
}

// over reports whether there is nothing more to read, and closes the rows when the transaction has ended meanwhile.
func (r *result) over() bool {
	if r.done {
		return true
	}
	switch r.t.state.Load() {
	case stateReading:
		return false
	case stateDraining:
		r.close(ErrEnded)
	default: // the end has closed the connection
		r.done, r.err = true, ErrEnded
	}
	return true
}

// Next prepares the next row, or closes the rows.
func (r *result) Next() bool {
	if r.done {
		return false
	}
	defer r.t.inside.Store(false)
	r.t.inside.Store(true)
	if r.over() {
		return false
	}
	if r.rows.Next() {
		return true
	}
	r.close(nil)
	return false
}

// Close closes the rows.
func (r *result) Close() {
	if r.done {
		return
	}
	defer r.t.inside.Store(false)
	r.t.inside.Store(true)
	if !r.over() {
		r.close(nil)
	}
}

// Err returns the error that ended the rows.
func (r *result) Err() error {
	if r.err != nil || r.rows == nil {
		return r.err
	}
	return r.rows.Err()
}

// Scan reads the row. An error closes the rows.
func (r *result) Scan(dest ...any) error {
	if !r.done {
		defer r.t.inside.Store(false)
		r.t.inside.Store(true)
	}
	if r.over() {
		if r.err != nil {
			return r.err
		}
		return r.rows.Scan(dest...) //nolint:wrapcheck // pgx says what is wrong with reading closed rows
	}
	err := r.rows.Scan(dest...)
	if err != nil {
		r.close(nil)
	}
	return err //nolint:wrapcheck // of the caller's own statement
}

// Values returns the row's values. An error closes the rows.
func (r *result) Values() ([]any, error) {
	if !r.done {
		defer r.t.inside.Store(false)
		r.t.inside.Store(true)
	}
	if r.over() {
		if r.err != nil {
			return nil, r.err
		}
		return r.rows.Values() //nolint:wrapcheck // pgx says what is wrong with reading closed rows
	}
	values, err := r.rows.Values()
	if err != nil {
		r.close(nil)
	}
	return values, err //nolint:wrapcheck // of the caller's own statement
}

// CommandTag returns the statement's tag once the rows are closed.
func (r *result) CommandTag() pgconn.CommandTag {
	if r.rows == nil {
		return pgconn.CommandTag{}
	}
	return r.rows.CommandTag()
}

// FieldDescriptions describes the columns.
func (r *result) FieldDescriptions() []pgconn.FieldDescription {
	if r.rows == nil {
		return nil
	}
	return r.rows.FieldDescriptions()
}

// RawValues returns the row's values as the server sent them.
func (r *result) RawValues() [][]byte {
	if r.rows == nil {
		return nil
	}
	return r.rows.RawValues()
}

// Conn returns the connection.
func (r *result) Conn() *pgx.Conn {
	if r.rows == nil {
		return nil
	}
	return r.rows.Conn()
}

// TypeMap returns the connection's type map.
func (r *result) TypeMap() *pgtype.Map {
	if r.rows == nil {
		return nil
	}
	return r.rows.TypeMap()
}

// resultRow is a result of one row.
type resultRow result

// Scan reads the row and closes the result.
func (r *resultRow) Scan(dest ...any) error {
	if !r.done {
		defer r.t.inside.Store(false)
		r.t.inside.Store(true)
	}
	if (*result)(r).over() {
		if r.err != nil {
			return r.err
		}
		return r.row.Scan(dest...) //nolint:wrapcheck // pgx says what is wrong with reading closed rows
	}
	r.done = true
	defer r.t.leave(stateReading)
	err := r.row.Scan(dest...)
	r.t.note(err)
	return err //nolint:wrapcheck // of the caller's own statement
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
		return pgconn.CommandTag{}, ErrEnded
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
		return failedResult(ErrEnded), ErrEnded
	}
	return b.BatchResults.Query() //nolint:sqlclosecheck,wrapcheck // of the caller's own statement, and handed on
}

// QueryRow reads the result of the next statement.
func (b *batchResults) QueryRow() pgx.Row {
	if b.over() {
		return (*resultRow)(failedResult(ErrEnded))
	}
	return b.BatchResults.QueryRow()
}

// Close reads what is left.
func (b *batchResults) Close() error {
	if b.done {
		return b.BatchResults.Close() //nolint:wrapcheck // of the caller's own statement
	}
	defer b.t.inside.Store(false)
	b.t.inside.Store(true)
	switch b.t.state.Load() {
	case stateReading, stateDraining:
	default: // the end has closed the connection
		return ErrEnded
	}
	b.done = true
	defer b.t.leave(stateReading)
	err := b.BatchResults.Close()
	b.t.note(err)
	return err //nolint:wrapcheck // of the caller's own statement
}
