package repo

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/txn"
)

// maxBatchArgs bounds the arguments that are sent before a result is read, and with them the memory of a bulk write.
const maxBatchArgs = 1 << 16

// bulk is a bulk write on its way. Rows that have been written are brought back only when all of it has happened.
type bulkWrite[T, K any] struct {
	repository *Repository[T, K]
	op         string
	rows       []T
	values     reflect.Value // the rows
	// told tells the rows apart when they come back, nil when that can't be done.
	matcher  *ordering
	returned []*T // what came back for each
	// inserted and unchanged are where upserts tell what they did; nil for other writes.
	inserted, unchanged []bool
	// absent is asked about the rows for which nothing came back, when that isn't simply an error. It may fill fresh.
	onMissing func(ctx context.Context, positions []int) error
}

// newBulk checks every row before the first one is written.
func (r *Repository[T, K]) newBulk(ctx context.Context, op string, rows []T) (*bulkWrite[T, K], error) {
	for i := range rows {
		if err := r.d.validate(ctx, &rows[i], i); err != nil {
			return nil, err
		}
	}
	return &bulkWrite[T, K]{repository: r, op: op, rows: rows, values: reflect.ValueOf(rows)}, nil
}

// bulkStatement is one statement of a bulk write. Its arguments are made when it is sent.
type bulkStatement struct {
	sql        string
	row        int // the row's position
	args       int // how many it has
	appendArgs func(args []any, position int) []any
	// columns are the columns of one row's arguments, for errors.
	columns []*column
	// met says that it reads the row that an upsert has left alone.
	readsExisting bool
}

// formGroup are rows that are inserted with values in the same columns.
type layoutGroup struct {
	layout []byte
	rows   []int
}

// groups sorts rows by their form. It keeps the order in each group.
func (w *bulkWrite[T, K]) groups(positions []int, formOf func(form []byte, v reflect.Value) []byte) []layoutGroup {
	var (
		groups []layoutGroup
		form   []byte
	)
	for _, i := range positions {
		form = formOf(form, w.values.Index(i))
		at := slices.IndexFunc(groups, func(g layoutGroup) bool { return bytes.Equal(g.layout, form) })
		if at < 0 {
			at = len(groups)
			groups = append(groups, layoutGroup{layout: slices.Clone(form), rows: make([]int, 0, len(positions))})
		}
		groups[at].rows = append(groups[at].rows, i)
	}
	return groups
}

// positions returns the positions of all rows, in their order if they have one.
func (w *bulkWrite[T, K]) positions(order *ordering) []int {
	if order != nil {
		return order.rows
	}
	positions := make([]int, len(w.rows))
	for i := range positions {
		positions[i] = i
	}
	return positions
}

func countArgs(form []byte) int {
	n := 0
	for _, take := range form {
		if take == fromField || take == fromClock {
			n++
		}
	}
	return n
}

// insertOf makes the statement that inserts a row of this form.
func (w *bulkWrite[T, K]) insertOf(form []byte, position int) bulkStatement {
	d := w.repository.d
	return bulkStatement{
		sql: d.createText(form), row: position, args: countArgs(form),
		appendArgs: func(args []any, position int) []any { return d.insertArgs(args, w.values.Index(position), form) },
		columns:    d.argColumns(form),
	}
}

// fastThenSingly runs the fast way of a write in a transaction. When the database refuses a row there, or rows can't be told
// apart, all of it is taken back and done again row by row, which tells the row's position, or works.
func (w *bulkWrite[T, K]) stagedOrRowByRow(ctx context.Context, fast, singly func(context.Context) error) error {
	tx := w.repository.tx
	_, inside := tx.Tx(ctx)
	var opts []txn.Option
	if inside {
		opts = append(opts, txn.Nested())
	}
	err := retryStale(ctx, tx, func() (refused bool, err error) {
		w.reset()
		return false, tx.Do(ctx, fast, opts...)
	})
	switch {
	case err == nil:
		w.applyReturned()
		return nil
	case needsRowByRow(err):
		return singly(ctx)
	default:
		return err
	}
}

// wantsSingly reports whether an error of the fast way leaves open which row was at fault, or whether there is one at all.
func needsRowByRow(err error) bool {
	if errors.Is(err, errKeyChanged) || errors.Is(err, errSuppressed) || errors.Is(err, errNotStaged) {
		return true
	}
	if constraint, ok := errors.AsType[*ConstraintError](err); ok {
		return constraint.Index < 0
	}
	if _, known := errors.AsType[*RowError](err); known {
		return false
	}
	pg, ok := pgError(err)
	return ok && isAboutARow(pg)
}

// run sends statements in a transaction: what the others have done may have to be taken back although the server has refused
// nothing, when a row is missing or a trigger has dropped one. A single one is its own.
func (w *bulkWrite[T, K]) sendInTx(ctx context.Context, statements []bulkStatement) error {
	w.reset()
	send := func(ctx context.Context) error { return w.sendAll(ctx, batchesOf(statements)) }
	var err error
	if len(statements) == 1 {
		err = send(ctx)
	} else {
		err = w.repository.tx.Do(ctx, send)
	}
	if err != nil {
		return w.explainBatch(statements, err)
	}
	w.applyReturned()
	return nil
}

// begin forgets what an attempt has left behind.
func (w *bulkWrite[T, K]) reset() {
	w.returned = make([]*T, len(w.rows))
	clear(w.inserted)
	clear(w.unchanged)
}

func (w *bulkWrite[T, K]) sendAll(ctx context.Context, batches [][]bulkStatement) error {
	for _, batch := range batches {
		if err := w.send(ctx, batch); err != nil {
			return err
		}
	}
	return w.checkMissing(ctx)
}

// complete sees to the rows for which nothing came back.
func (w *bulkWrite[T, K]) checkMissing(ctx context.Context) error {
	var absent []int
	for i := range w.returned {
		if w.returned[i] == nil {
			absent = append(absent, i)
		}
	}
	switch {
	case len(absent) == 0:
		return nil
	case w.onMissing == nil:
		return w.repository.d.wrap(w.op, errSuppressed, absent[0])
	}
	return w.onMissing(ctx, absent)
}

// bringBack brings what the database has made of the rows into them.
func (w *bulkWrite[T, K]) applyReturned() {
	d := w.repository.d
	for i, row := range w.returned {
		if !d.partial {
			w.rows[i] = *row
			continue
		}
		d.copyColumns(w.values.Index(i), reflect.ValueOf(row).Elem())
	}
}

// batchesOf splits statements into what is sent at once.
func batchesOf(statements []bulkStatement) [][]bulkStatement {
	var batches [][]bulkStatement
	start, args := 0, 0
	for i := range statements {
		if cost := statements[i].args + 1; args > 0 && args+cost > maxBatchArgs {
			batches = append(batches, statements[start:i])
			start, args = i, 0
		}
		args += statements[i].args + 1
	}
	return append(batches, statements[start:])
}

// send sends statements in one round trip and reads their rows.
func (w *bulkWrite[T, K]) send(ctx context.Context, statements []bulkStatement) error {
	failed := -1
	err := retryStale(ctx, w.repository.tx, func() (refused bool, err error) {
		failed, err = w.sendOnce(ctx, statements)
		return false, err
	})
	if err != nil {
		return w.wrapStatement(statements, failed, err)
	}
	return nil
}

// try sends statements once. The first result tells the position of the one that failed, -1 for none in particular.
func (w *bulkWrite[T, K]) sendOnce(ctx context.Context, statements []bulkStatement) (failed int, err error) {
	batch := &pgx.Batch{}
	for i := range statements {
		s := &statements[i]
		batch.Queue(s.sql, s.appendArgs(make([]any, 0, s.args), s.row)...)
	}
	results := w.repository.tx.SendBatch(ctx, batch)
	for i := range statements {
		rows, err := results.Query()
		if err == nil {
			err = w.collect(rows, &statements[i])
		}
		if err != nil {
			_ = results.Close() // the error that matters is the first
			return i, err
		}
	}
	return -1, results.Close() //nolint:wrapcheck // the caller wraps it with the operation
}

// collect reads what came back for the row of a statement, and of an upsert whether it was inserted.
func (w *bulkWrite[T, K]) collect(rows pgx.Rows, s *bulkStatement) error {
	var extra []any
	if w.inserted != nil && !s.readsExisting {
		extra = append(extra, &w.inserted[s.row])
	}
	row, err := readFirst[T](rows, w.repository.d.shape, extra...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	w.returned[s.row] = row
	return err
}

// match reads rows and tells them apart. n is how many are expected at most. upserted says that each tells whether it was
// inserted.
func (w *bulkWrite[T, K]) matchReturned(rows pgx.Rows, n int, upserted bool) error {
	defer rows.Close()
	var (
		inserted bool
		extra    []any
		find     = finder{ordering: w.matcher}
		fresh    = make([]T, 0, n) // never grows: its elements are pointed to
	)
	if upserted {
		extra = append(extra, &inserted)
	}
	reader := newReader[T](w.repository.d.shape, extra...)
	for rows.Next() {
		if len(fresh) == n {
			return errKeyChanged
		}
		fresh = fresh[:len(fresh)+1]
		row := &fresh[len(fresh)-1]
		if err := reader.read(rows, row); err != nil {
			return err
		}
		position, ok := find.find(reflect.ValueOf(row).Elem())
		if !ok || w.returned[position] != nil {
			return errKeyChanged
		}
		w.returned[position] = row
		if upserted {
			w.inserted[position] = inserted
		}
	}
	return rows.Err()
}

// matchMet reads rows that an upsert has left alone, and perhaps others, and tells them apart.
func (w *bulkWrite[T, K]) matchExisting(rows pgx.Rows) error {
	defer rows.Close()
	reader, find := newReader[T](w.repository.d.shape), finder{ordering: w.matcher}
	for rows.Next() {
		row := new(T)
		if err := reader.read(rows, row); err != nil {
			return err
		}
		if position, ok := find.find(reflect.ValueOf(row).Elem()); ok && w.returned[position] == nil {
			w.returned[position] = row
		}
	}
	return rows.Err()
}

// columnsAt returns columns by their positions in the model.
func (d *descriptor) columnsAt(positions []int) []*column {
	columns := make([]*column, len(positions))
	for i, position := range positions {
		columns[i] = &d.columns[position]
	}
	return columns
}

// argColumns returns the columns of the arguments of an insert of this form.
func (d *descriptor) argColumns(form []byte) []*column {
	columns := make([]*column, 0, len(form))
	for i, take := range form {
		if take == fromField || take == fromClock {
			columns = append(columns, &d.columns[i])
		}
	}
	return columns
}
