package repo

import (
	"context"
	"errors"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// This file is the seam between structs and COPY: whatever copies rows of a model goes through copyRows.

// errNoMore is what a source of rows returns at its end.
var errNoMore = errors.New("no more rows")

// rowSource returns one complete row after the other (see fill), each a struct that can be addressed and is done with when the
// next one is asked for, and errNoMore at their end. It is called by one goroutine at a time, which need not be the caller's.
type rowSource func() (reflect.Value, error)

// copyRows copies rows into these columns of a table, in the transaction that ctx carries or on the pool, and returns how
// many. Another error of the source than errNoMore ends the COPY and comes back as it is.
func copyRows(ctx context.Context, tx *txn.Manager, table pgx.Identifier, columns []*column, next rowSource) (int64, error) {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	source := &copySource{columns: columns, next: next, values: make([]any, len(columns))}
	n, err := tx.CopyFrom(ctx, table, names, source)
	if source.err != nil {
		return 0, source.err
	}
	return n, err
}

// copySource hands rows to the driver.
type copySource struct {
	columns []*column
	next    rowSource
	row     reflect.Value
	values  []any
	err     error
}

var _ pgx.CopyFromSource = (*copySource)(nil)

// Next takes the next row.
func (s *copySource) Next() bool {
	row, err := s.next()
	if err != nil {
		if err != errNoMore { //nolint:errorlint // it is never wrapped
			s.err = err
		}
		return false
	}
	s.row = row
	return true
}

// Values returns the current row.
func (s *copySource) Values() ([]any, error) {
	for i, c := range s.columns {
		s.values[i] = fieldArg(s.row, c)
	}
	return s.values, nil
}

// Err returns why there are no more rows.
func (s *copySource) Err() error { return s.err }
