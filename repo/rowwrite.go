package repo

import (
	"context"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/internal/rowplan"
)

// fieldArgs are the arguments of a statement that writes one row. Where the connection that the statement runs on can take them,
// they are the addresses of the row's fields (see package rowplan), which cost no memory. For that it is the statement's argument
// itself, and makes the others once the connection is known.
type fieldArgs struct {
	d   *descriptor
	row reflect.Value
	// columns are those whose fields the arguments are, by their position; -1 for an argument that is there already.
	columns []int
	args    []any
	// plan is the model's on the connection, nil as long as there is none.
	plan *rowplan.Plan

	itself [1]any
	boxed  func(column int) any // value
}

var _ pgx.QueryRewriter = (*fieldArgs)(nil)

func (a *fieldArgs) init(d *descriptor) {
	a.d, a.columns, a.args = d, make([]int, 0, len(d.columns)), make([]any, 0, len(d.columns))
	a.itself[0], a.boxed = a, a.value
}

// RewriteQuery implements pgx.QueryRewriter. It is called again when the statement is sent again.
func (a *fieldArgs) RewriteQuery(_ context.Context, conn *pgx.Conn, sql string, _ []any) (string, []any, error) {
	a.plan = nil
	if a.d.plans != nil {
		a.plan = a.d.plans.Arguments(conn)
	}
	a.plan.Arguments(a.row, a.columns, a.args, a.boxed)
	return sql, a.args, nil
}

// values returns the arguments as values.
func (a *fieldArgs) values() []any {
	a.plan.Arguments(a.row, a.columns, a.args, a.boxed)
	return append(make([]any, 0, len(a.args)), a.args...) // others may keep them
}

// insert adds the arguments of an insert of this form.
func (a *fieldArgs) insert(form []byte) {
	for i, take := range form {
		switch take {
		case fromField:
			if value, ok := a.d.generatedValue(a.row, &a.d.columns[i]); ok {
				a.add(-1, value)
				continue
			}
			a.field(i)
		case fromClock:
			a.add(-1, a.d.now())
		}
	}
}

// update adds the arguments of an update of the whole row.
func (a *fieldArgs) update() {
	for _, position := range a.d.statements.updateColumns {
		a.field(position)
	}
	for _, position := range a.d.key {
		a.field(position)
	}
	if a.d.version >= 0 {
		a.field(a.d.version)
	}
	if a.d.clock != nil && a.d.updated >= 0 {
		a.add(-1, a.d.now())
	}
}

// field adds a field as an argument.
func (a *fieldArgs) field(column int) {
	if a.d.columns[column].roles.is(roleJSON) {
		a.add(-1, a.value(column))
		return
	}
	a.add(column, nil)
}

func (a *fieldArgs) add(column int, arg any) {
	a.columns, a.args = append(a.columns, column), append(a.args, arg)
}

// value returns a field's value as an argument.
func (a *fieldArgs) value(column int) any { return fieldArg(a.row, &a.d.columns[column]) }

// clear lets go of the row. Nobody has kept the arguments.
func (a *fieldArgs) clear() {
	clear(a.args)
	a.row, a.plan, a.columns, a.args = reflect.Value{}, nil, a.columns[:0], a.args[:0]
}

// takesAddresses reports whether arguments may be addresses: nobody else may get to see them, who would keep or print them.
func takesAddresses(pool *pgxpool.Pool) bool {
	_, others := pool.Config().ConnConfig.Tracer.(*multitracer.Tracer)
	return !others
}

// rowWrite is a write of a single row that comes back. It is used again for other rows.
type rowWrite[T any] struct {
	fieldArgs

	// fresh is what came back, and inserted the column behind it when there is one.
	fresh    T
	inserted bool
	upserts  bool

	behind [1]any // &inserted
	reads  func(pgx.Rows) error
}

// newWrite begins the write of a row. It must be followed by release.
func (r *Repository[T, K]) newWrite(row reflect.Value) *rowWrite[T] {
	w, ok := r.writes.Get().(*rowWrite[T])
	if !ok {
		w = &rowWrite[T]{}
		w.init(r.d)
		w.behind[0], w.reads = &w.inserted, w.read
	}
	w.row = row
	return w
}

// release is called when the write is done with, unless there was a panic.
func (r *Repository[T, K]) release(w *rowWrite[T]) {
	w.clear()
	w.fresh, w.inserted, w.upserts = *new(T), false, false
	r.writes.Put(w)
}

// send runs the statement and reads the row that it gives.
func (r *Repository[T, K]) send(ctx context.Context, sql string, w *rowWrite[T]) error {
	if r.direct {
		return r.query(ctx, sql, w.itself[:], w.reads)
	}
	return r.query(ctx, sql, w.values(), w.reads)
}

// read reads the row that came back.
func (w *rowWrite[T]) read(rows pgx.Rows) error {
	r := reader[T]{shape: w.d.shape, given: w.plan}
	if w.upserts {
		r.extra = w.behind[:]
	}
	w.fresh = *new(T) // there may have been an attempt
	return readOne(rows, &r, &w.fresh)
}
