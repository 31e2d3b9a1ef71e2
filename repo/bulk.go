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

// bulkWrite is a bulk write in progress. The rows are changed only after all statements have succeeded.
type bulkWrite struct {
	repository *base
	op         string
	live       *liveColumns
	values     reflect.Value // the rows
	returned   returnedRows
	// matcher matches returned rows to those that were sent, nil if that isn't possible.
	matcher *ordering
	// inserted and unchanged record the results of an upsert, by row; nil for other writes.
	inserted, unchanged []bool
	// distinct is what two rows must not have in common, "" if the rows were compared beforehand.
	distinct string
	// onMissing handles rows for which no row was returned; nil if that is an error. It may set elements of returned.
	onMissing func(ctx context.Context, positions []int) error
}

// newBulk validates every row before the first one is written.
func newBulk[T any](ctx context.Context, r *base, op string, rows []T) (*bulkWrite, error) {
	for i := range rows {
		if err := r.d.validate(ctx, &rows[i], i); err != nil {
			return nil, err
		}
	}
	live, err := r.liveColumns(ctx)
	if err != nil {
		return nil, r.wrap(op, err)
	}
	w := &typedBulkWrite[T]{bulk: bulkWrite{repository: r, op: op, live: live, values: reflect.ValueOf(rows)}, rows: rows}
	w.bulk.returned = w
	return &w.bulk, nil
}

// bulkStatement is one statement of a bulk write. Its arguments are made when it is sent.
type bulkStatement struct {
	sql        string
	row        int // the row's position
	args       int // how many it has
	appendArgs func(args []any, position int) []any
	// columns are the columns of the arguments, for errors.
	columns []*column
	// readsExisting marks a statement that reads the row which an upsert left alone.
	readsExisting bool
}

// layoutGroup is a group of rows with the same insert layout: values in the same columns.
type layoutGroup struct {
	layout []byte
	rows   []int
}

// groups splits rows by their layout and keeps the order within each group.
func (w *bulkWrite) groups(positions []int, layoutOf func(layout []byte, v reflect.Value) []byte) []layoutGroup {
	var (
		groups []layoutGroup
		layout []byte
	)
	for _, i := range positions {
		layout = layoutOf(layout, w.values.Index(i))
		at := slices.IndexFunc(groups, func(g layoutGroup) bool { return bytes.Equal(g.layout, layout) })
		if at < 0 {
			at = len(groups)
			groups = append(groups, layoutGroup{layout: slices.Clone(layout), rows: make([]int, 0, len(positions))})
		}
		groups[at].rows = append(groups[at].rows, i)
	}
	return groups
}

// positions returns the positions of all rows, sorted if there is an order.
func (w *bulkWrite) positions(order *ordering) []int {
	if order != nil {
		return order.rows
	}
	positions := make([]int, w.values.Len())
	for i := range positions {
		positions[i] = i
	}
	return positions
}

func countArgs(layout []byte) int {
	n := 0
	for _, source := range layout {
		if source == fromField || source == fromClock {
			n++
		}
	}
	return n
}

// insertOf returns the statement that inserts a row.
func (w *bulkWrite) insertOf(layout []byte, position int) bulkStatement {
	d := w.repository.d
	return bulkStatement{
		sql: d.createText(w.live, layout), row: position, args: countArgs(layout),
		appendArgs: func(args []any, position int) []any {
			return d.insertArgs(w.live, args, w.values.Index(position), layout)
		},
		columns: d.argColumns(layout),
	}
}

// stagedOrRowByRow runs the staged write in a transaction. If the database refuses a row, or if returned rows
// can't be matched, it is rolled back. The rows are then written one by one, which succeeds or names the row.
func (w *bulkWrite) stagedOrRowByRow(ctx context.Context, fast, singly func(context.Context) error) error {
	tx := w.repository.tx
	_, inside := tx.Tx(ctx)
	var opts []txn.Option
	if inside {
		opts = append(opts, txn.Nested())
	}
	var failed error // not the error of the commit, which names no row in any way
	err := retryStale(ctx, tx, func() (refused bool, err error) {
		w.reset()
		return false, tx.Do(ctx, func(ctx context.Context) error {
			failed = fast(ctx)
			return failed
		}, opts...)
	})
	switch {
	case err == nil:
		w.returned.apply()
		return nil
	case failed != nil && needsRowByRow(err):
		return singly(ctx)
	default:
		return err
	}
}

// needsRowByRow reports whether a staged write failed with an error that does not name the row, or that need not be about a row.
func needsRowByRow(err error) bool {
	if errors.Is(err, errKeyChanged) || errors.Is(err, ErrSuppressed) || errors.Is(err, errNotStaged) {
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

// sendInTx sends statements in a transaction, and a single statement without. The transaction also undoes the statements that
// succeeded if a row is missing or a trigger has suppressed one.
func (w *bulkWrite) sendInTx(ctx context.Context, statements []bulkStatement) error {
	w.reset()
	send := func(ctx context.Context) error { return w.sendAll(ctx, batchesOf(statements)) }
	var err error
	if len(statements) == 1 {
		err = w.repository.asStored(ctx, send(ctx))
	} else {
		err = w.repository.tx.Do(ctx, send)
	}
	if err != nil {
		return w.explainStatements(ctx, statements, err)
	}
	w.returned.apply()
	return nil
}

// reset discards the results of an earlier attempt.
func (w *bulkWrite) reset() {
	w.returned.reset()
	clear(w.inserted)
	clear(w.unchanged)
}

func (w *bulkWrite) sendAll(ctx context.Context, batches [][]bulkStatement) error {
	for _, batch := range batches {
		if err := w.send(ctx, batch); err != nil {
			return err
		}
	}
	return w.checkReturned(ctx)
}

// checkReturned checks that each row was written, and to another row than the others.
func (w *bulkWrite) checkReturned(ctx context.Context) error {
	if err := w.checkMissing(ctx); err != nil {
		return err
	}
	return w.checkDistinct()
}

// checkDistinct returns an error if two rows were written to the same row of the table. Beforehand that is known only of types
// whose values the server compares as Go does (see descriptor.comparesAsServer).
func (w *bulkWrite) checkDistinct() error {
	d := w.repository.d
	if w.distinct == "" {
		return nil
	}
	return orderRows(w.returned.all(), d.columnsAt(d.key)).checkDuplicates(d.label, w.distinct)
}

// checkMissing handles the rows for which no row was returned.
func (w *bulkWrite) checkMissing(ctx context.Context) error {
	absent := w.returned.absent()
	switch {
	case len(absent) == 0:
		return nil
	case w.onMissing == nil:
		return w.repository.d.wrap(w.op, ErrSuppressed, absent[0])
	}
	return w.onMissing(ctx, absent)
}

// batchesOf splits statements into batches that hold at most maxBatchArgs arguments.
func batchesOf(statements []bulkStatement) [][]bulkStatement {
	var batches [][]bulkStatement
	start, args := 0, 0
	for i := range statements {
		cost := statements[i].args + 1
		if args > 0 && args+cost > maxBatchArgs {
			batches = append(batches, statements[start:i])
			start, args = i, 0
		}
		args += cost
	}
	return append(batches, statements[start:])
}

// send sends statements in one round trip and reads the returned rows.
func (w *bulkWrite) send(ctx context.Context, statements []bulkStatement) error {
	failed := -1
	err := retryStale(ctx, w.repository.tx, func() (refused bool, err error) {
		failed, err = w.sendOnce(ctx, statements)
		w.repository.d.forgetIfStale(err)
		return false, err
	})
	if err != nil {
		return w.wrapStatement(statements, failed, err)
	}
	return nil
}

// sendOnce sends statements once. failed is the position of the failed statement, -1 if the error concerns all.
func (w *bulkWrite) sendOnce(ctx context.Context, statements []bulkStatement) (failed int, err error) {
	batch, describe := &pgx.Batch{}, newDescriber(w.repository.untyped)
	for i := range statements {
		s := &statements[i]
		describe.queue(batch, s.sql, s.appendArgs(make([]any, 0, s.args), s.row))
	}
	results := w.repository.tx.SendBatch(ctx, batch)
	for i := range statements {
		rows, err := results.Query() //nolint:rowserrcheck // collect checks it
		if err == nil {
			err = w.returned.collect(rows, &statements[i])
		}
		if err != nil {
			if closing := results.Close(); closing != nil && isReadError(err) {
				err = closing // otherwise the error that matters is the first
			}
			return unsent(i, err), err
		}
	}
	return -1, results.Close() //nolint:wrapcheck // the caller wraps it with the operation
}

// columnsAt returns columns by their positions in the model.
func (d *descriptor) columnsAt(positions []int) []*column {
	columns := make([]*column, len(positions))
	for i, position := range positions {
		columns[i] = &d.columns[position]
	}
	return columns
}

// argColumns returns the columns of the arguments of an insert.
func (d *descriptor) argColumns(layout []byte) []*column {
	columns := make([]*column, 0, len(layout))
	for i, source := range layout {
		if source == fromField || source == fromClock {
			columns = append(columns, &d.columns[i])
		}
	}
	return columns
}
