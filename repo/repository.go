package repo

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Repository reads and writes the rows of one table as structs of type T, whose key is of type K. Its methods run in the
// transaction that their ctx carries (see txn.Manager.Do), else on the pool; ctx bounds them. Methods that write take a
// pointer and bring back into it what the database has made of the row: defaults, generated columns, times as precise as
// they are stored.
//
// A Repository is safe for concurrent use. A transaction isn't: within one, finish reading before the next call.
type Repository[T, K any] struct {
	tx *txn.Manager
	d  *descriptor
}

// New makes a repository. table may have a schema in front; it is quoted, and case matters. T is a struct (see the package's
// documentation for its tags) and K the type of its key field, or for a key of several columns a struct that has them.
//
// No statement is sent: whether the table fits is the schema check's to say (see [CheckSchema]). Errors name the type, the
// field and what to do.
func New[T, K any](m *txn.Manager, table string, opts ...Option) (*Repository[T, K], error) {
	model, err := ModelOf[T, K](table, opts...)
	if err != nil {
		return nil, err
	}
	return newRepository[T, K](m, model)
}

func newRepository[T, K any](m *txn.Manager, model Model) (*Repository[T, K], error) {
	if m == nil {
		return nil, errors.New("repo: " + model.Table() + ": the *txn.Manager is nil")
	}
	if have, want := m.DB().Name(), model.Database(); have != want {
		return nil, fmt.Errorf("repo: %s: On(%q) is another database than the transaction manager's, %q", model.Table(), want, have)
	}
	return &Repository[T, K]{tx: m, d: model.d}, nil
}

// Model describes the repository's table.
func (r *Repository[T, K]) Model() Model { return Model{r.d} }

// String describes the repository.
func (r *Repository[T, K]) String() string {
	return fmt.Sprintf("repo.Repository[%v, %v] of %s", r.d.typ, r.d.keyType, r.d.label)
}

// KeyOf returns the key of a row.
func (r *Repository[T, K]) KeyOf(row *T) K {
	var key K
	from, into := reflect.ValueOf(row).Elem(), reflect.ValueOf(&key).Elem()
	if r.d.keyIndex == nil {
		into.Set(from.FieldByIndex(r.d.columns[r.d.key[0]].index))
		return key
	}
	for i, position := range r.d.key {
		into.FieldByIndex(r.d.keyIndex[i]).Set(from.FieldByIndex(r.d.columns[position].index))
	}
	return key
}

func (r *Repository[T, K]) keyArgs(args []any, key K) []any {
	if r.d.keyIndex == nil && !r.d.columns[r.d.key[0]].roles.is(roleJSON) {
		return append(args, key)
	}
	apart := key // so that the key above needs no allocation
	return r.d.keyArgs(args, reflect.ValueOf(&apart).Elem())
}

// exec runs a statement and returns how many rows it has changed.
func (r *Repository[T, K]) exec(ctx context.Context, sql string, args []any) (int64, error) {
	tag, err := r.tx.Exec(ctx, sql, args...)
	if err != nil {
		err = explainSend(ctx, r.tx, sql, args, err)
	}
	return tag.RowsAffected(), err
}

// one runs a statement that gives one row, whose columns are the model's and perhaps others behind them.
func (r *Repository[T, K]) one(ctx context.Context, sql string, args []any, extra ...any) (*T, error) {
	var row *T
	err := r.query(ctx, sql, args, func(rows pgx.Rows) error {
		var err error
		row, err = readFirst[T](rows, r.d.shape, extra...)
		return err
	})
	return row, err
}

// wrap turns the error of a statement into what the repository returns.
func (r *Repository[T, K]) wrap(op string, err error) error { return r.d.wrap(op, err, -1) }
