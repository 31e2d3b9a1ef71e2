package repo

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// Repository reads and writes the rows of one table as structs of type T, whose key is of type K.
//
// Methods run in the transaction that their ctx carries (see txn.Manager.Do), or else on the pool. ctx bounds each call. Methods
// that write set the row to what is stored: defaults, generated columns, and times rounded to microseconds.
//
// The columns' types decide how values are sent and compared. [CheckSchema] reads them from the catalog. Without it, the first statement
// that writes, compares or sorts takes one more round trip. A column whose type is a domain stores what a column of the domain's base type
// stores.
//
// A Repository is safe for concurrent use. A transaction is not: finish reading a result before the next call in it.
type Repository[T, K any] struct {
	base
}

// base is the part of a Repository that does not depend on its types. Its methods are compiled once and not for each model.
type base struct {
	tx *txn.Manager
	d  *descriptor
	// untyped is set if the exec mode describes no statements (see describer).
	untyped bool
}

// New returns a repository for a table, whose name may include the schema. The name is quoted, so case matters.
//
// T is a struct, whose tags the package documentation describes. K is the type of its key field. For a key of several columns,
// K is a struct with a field for each of them.
//
// New sends no statement. Use [CheckSchema] to compare the model with the table. Errors name the type, the field and the fix.
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
		return nil, fmt.Errorf("repo: %s: WithDatabase(%q) differs from the transaction manager's database %q", model.Table(), want, have)
	}
	registerConstraints(m, model.d)
	return &Repository[T, K]{base{tx: m, d: model.d, untyped: isUntyped(m)}}, nil
}

// Model describes the repository's table.
func (r *Repository[T, K]) Model() Model { return Model{r.d} }

// String describes the repository.
func (r *Repository[T, K]) String() string {
	return fmt.Sprintf("repo.Repository[%v, %v] of %s", r.d.typ, r.d.keyType, r.d.label)
}

// Format implements fmt.Formatter. It prints r.String() for every verb.
func (r *Repository[T, K]) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, r.String()) }

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

// named returns a context whose statements belong to the method, for observers of the database.
func (r *base) named(ctx context.Context, method string) context.Context {
	return r.tx.DB().Internals().NameOperation(ctx, method, r.d.label)
}

func (r *Repository[T, K]) keyArgs(args []any, key K) []any {
	if r.d.keyIndex == nil && !r.d.columns[r.d.key[0]].roles.is(roleJSON) {
		return append(args, key)
	}
	escaping := key // so that key needs no allocation above
	return r.d.keyArgs(args, reflect.ValueOf(&escaping).Elem())
}

// exec runs a statement and returns the number of rows it has changed.
func (r *base) exec(ctx context.Context, sql string, args []any) (int64, error) {
	tag, err := r.tx.Exec(ctx, sql, newDescriber(r.untyped).args(args)...)
	if err != nil {
		err = r.d.nameParameter(explainSend(ctx, r.tx, sql, args, err), sql)
	}
	return tag.RowsAffected(), err
}

// one runs a statement that returns one row: the model's columns, followed by those for extra.
func (r *Repository[T, K]) one(ctx context.Context, sql string, args []any, extra ...any) (*T, error) {
	var row *T
	err := r.query(ctx, sql, args, func(rows pgx.Rows) error {
		var err error
		row, err = readFirst[T](rows, r.d.shape, extra...)
		return err
	})
	return row, err
}

// wrap translates the error of a statement.
func (r *base) wrap(op string, err error) error { return r.d.wrap(op, err, -1) }
