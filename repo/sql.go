package repo

import (
	"context"
	"errors"
	"iter"
	"reflect"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Querier is what runs a query: a *txn.Manager, whose queries follow the transaction of their ctx, a pool, a connection or a
// pgx.Tx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Query runs your SQL and reads its rows into values of type U. U is a struct, a map[string]any, or any type for a single column.
// The columns go to the fields of their names as scany maps them, those of nested structs as "parent.child". Arguments are pgx's,
// pgx.NamedArgs included. Without rows the result is an empty slice. A column without a field is an error, and so is a column
// that occurs twice.
//
// A NULL needs a field that can hold it. Columns of an outer join that may all be NULL can't be read into a nested pointer to a
// struct. Read them into separate pointer fields, or let the server make one column of them. An example is
// "case when o.id is not null then to_jsonb(o) end as order".
func Query[U any](ctx context.Context, q Querier, sql string, args ...any) ([]U, error) {
	found := []U{}
	err := run(ctx, q, sql, args, func(rows pgx.Rows) error {
		if single[U]() {
			var err error
			found, err = pgx.CollectRows(rows, columnTo[U](rows))
			return err //nolint:wrapcheck // wrapped by run
		}
		if r := newResultReader[U](rows); r != nil {
			var err error
			found, err = r.all(rows, 0)
			return err
		}
		api, err := scannerFor[U]()
		if err != nil {
			return err
		}
		return api.ScanAll(&found, &modelRows{Rows: rows})
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// QueryOne is [Query] for exactly one row. Without a row it returns [ErrNotFound]. More than one row is an error.
func QueryOne[U any](ctx context.Context, q Querier, sql string, args ...any) (U, error) {
	var found U
	err := run(ctx, q, sql, args, func(rows pgx.Rows) error {
		if single[U]() {
			var err error
			found, err = pgx.CollectExactlyOneRow(rows, columnTo[U](rows))
			return err //nolint:wrapcheck // wrapped by run
		}
		if r := newResultReader[U](rows); r != nil {
			var err error
			found, err = r.exactlyOne(rows)
			return err
		}
		api, err := scannerFor[U]()
		if err != nil {
			return err
		}
		return api.ScanOne(&found, &modelRows{Rows: rows})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = &notFoundError{"the result"}
	}
	if err != nil {
		var zero U
		return zero, err
	}
	return found, nil
}

// Stream is [Query] for any number of rows: it reads one after the other and keeps none. The loop may keep a row. Leaving the
// loop early cancels the statement and releases the connection. In a transaction the remaining rows are read and dropped instead,
// as they are if q is neither a manager nor a pool. Within a transaction the loop's body can't use the transaction.
//
// The last value of the loop is the error, if there is one.
func Stream[U any](ctx context.Context, q Querier, sql string, args ...any) iter.Seq2[U, error] {
	return func(yield func(U, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stopped := false
		var failed error // behind the first row, after which nothing is read again
		err := run(ctx, q, sql, args, func(rows pgx.Rows) error {
			exhausted, begun := false, false
			defer func() { // after a panic of the loop's body, too
				if !exhausted && !inTransaction(ctx, q) {
					cancel()
				}
				rows.Close()
			}()
			read, err := rowReader[U](rows)
			if err != nil {
				return err
			}
			for rows.Next() {
				var row U
				if failed = read(&row); failed != nil {
					return nil
				}
				begun = true
				if stopped = !yield(row, nil); stopped {
					return nil
				}
			}
			exhausted = true
			if begun {
				failed = rows.Err()
				return nil
			}
			return rows.Err()
		})
		if err == nil {
			err = wrapError("query", "", nil, failed, -1)
		}
		if err != nil && !stopped {
			var zero U
			yield(zero, err)
		}
	}
}

// rowReader returns a function that reads the current row.
func rowReader[U any](rows pgx.Rows) (func(*U) error, error) {
	if single[U]() {
		read := columnTo[U](rows)
		return func(row *U) (err error) {
			*row, err = read(rows)
			return err
		}, nil
	}
	if r := newResultReader[U](rows); r != nil {
		return func(row *U) error { return r.read(rows, row) }, nil
	}
	api, err := scannerFor[U]()
	if err != nil {
		return nil, err
	}
	scanner := api.NewRowScanner(&modelRows{Rows: rows})
	return func(row *U) error { return scanner.Scan(row) }, nil
}

// Pluck runs the application's own SQL and reads its only column. No rows are an empty slice.
func Pluck[V any](ctx context.Context, q Querier, sql string, args ...any) ([]V, error) {
	found := []V{}
	err := run(ctx, q, sql, args, func(rows pgx.Rows) error {
		var err error
		found, err = pgx.AppendRows(found, rows, columnTo[V](rows))
		return err //nolint:wrapcheck // wrapped by run
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// run runs a query and passes its rows to read.
func run(ctx context.Context, q Querier, sql string, args []any, read func(pgx.Rows) error) error {
	err := retryStale(ctx, q, func() (refused bool, err error) {
		rows, err := q.Query(ctx, sql, args...) //nolint:rowserrcheck // read checks it
		if err != nil {
			return false, explainSend(ctx, q, sql, args, err)
		}
		defer rows.Close()
		return false, read(rows)
	})
	return wrapError("query", "", nil, err, -1)
}

// inTransaction reports whether a query runs in a transaction, as far as can be seen. Only a manager and a pool can say no.
func inTransaction(ctx context.Context, q Querier) bool {
	if _, ok := q.(*pgxpool.Pool); ok {
		return false
	}
	manager, ok := q.(interface {
		Tx(ctx context.Context) (pgx.Tx, bool)
	})
	if !ok {
		return true
	}
	_, inside := manager.Tx(ctx)
	return inside
}

// single reports whether U is one value for the driver although it is a struct, such as time.Time: scany would look for its
// fields.
func single[U any]() bool {
	typ := reflect.TypeFor[U]()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ.Kind() == reflect.Struct && isLeaf(typ)
}

// scannerFor returns scany for a type that it can take.
func scannerFor[U any]() (*pgxscan.API, error) {
	if err := checkEndless(reflect.TypeFor[U]()); err != nil {
		return nil, err
	}
	return scanAPI()
}
