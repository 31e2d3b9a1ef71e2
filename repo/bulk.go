package repo

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
)

const (
	// maxArgs is how many arguments a statement can have: their number is sent in 16 bits.
	maxArgs = 65535
	// maxRows is how many rows go into one statement. More make its text long and not much faster.
	maxRows = 512
	// maxBatchArgs bounds what is sent before an answer is read, and with it the memory that a bulk write takes.
	maxBatchArgs = 1 << 16
)

// CreateMany inserts the rows, any number of them: all or none. It is [Repository.Create] for each, in far fewer round
// trips, and all columns come back into the slice's elements.
//
// Rows whose keys are known beforehand travel many to a statement, in a transaction (that of ctx, or one of their own), and
// what comes back is told apart by key. With keys that the database makes each row is a statement of its own; those that fit
// travel in one round trip, more of them in a transaction. Errors: [*InvalidError] with the row's index, also for a
// key that occurs twice; [*ConstraintError], with the index where it is known.
func (r *Repository[T, K]) CreateMany(ctx context.Context, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	values, err := r.validMany(ctx, rows)
	if err != nil {
		return err
	}
	work := &bulk[T, K]{repository: r, op: "create", values: values}
	known, err := r.keysKnown(values)
	if err != nil {
		return err
	}
	if known {
		work.insertGroups()
	} else {
		work.insertSingly()
	}
	return work.run(ctx)
}

// validMany checks every row before the first one is written.
func (r *Repository[T, K]) validMany(ctx context.Context, rows []T) ([]reflect.Value, error) {
	values := make([]reflect.Value, len(rows))
	for i := range rows {
		if err := r.d.validate(ctx, &rows[i], i); err != nil {
			return nil, err
		}
		values[i] = reflect.ValueOf(&rows[i]).Elem()
	}
	return values, nil
}

// keysKnown reports whether each row has a key by which it can be told apart from what the database sends back. Keys that
// the application makes are made for it. A key that occurs twice is an error.
func (r *Repository[T, K]) keysKnown(values []reflect.Value) (bool, error) {
	for _, position := range r.d.key {
		if c := &r.d.columns[position]; !c.written() || !exact(c.typ) {
			return false, nil
		}
	}
	seen := make(map[any]int, len(values))
	for i, v := range values {
		for _, position := range r.d.key {
			c := &r.d.columns[position]
			if !fieldIsZero(v, c) {
				continue
			}
			if r.d.newKey != nil {
				v.FieldByIndex(c.index).Set(r.d.newKey.make())
			} else if c.roles.is(roleDefault) {
				return false, nil
			}
		}
		key := r.d.comparableKey(v)
		if first, twice := seen[key]; twice {
			return false, &InvalidError{Table: r.d.label, Index: i, err: fmt.Errorf("it has the same key as the row at index %d", first)}
		}
		seen[key] = i
	}
	return true, nil
}

// exact reports whether a value of the type is the same when it comes back from the database.
func exact(typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	default:
		return isUUID(typ)
	}
}

// comparableKey returns a row's key as a value that can be compared.
func (d *descriptor) comparableKey(v reflect.Value) any {
	if len(d.key) == 1 {
		return v.FieldByIndex(d.columns[d.key[0]].index).Interface()
	}
	key := reflect.New(reflect.ArrayOf(len(d.key), reflect.TypeFor[any]())).Elem()
	for i, position := range d.key {
		key.Index(i).Set(v.FieldByIndex(d.columns[position].index))
	}
	return key.Interface()
}

// bulk is a bulk write on its way: statements, and what to do with their rows.
type bulk[T, K any] struct {
	repository *Repository[T, K]
	op         string
	values     []reflect.Value
	fresh      []reflect.Value // what came back for each
	statements []bulkStatement
	// together says that it needs a transaction, even in one round trip: something may have to be taken back.
	together bool
	// inserted is where upserts tell what they did; nil for other writes.
	inserted []bool
	// absent is asked about a row for which nothing came back, when that isn't simply an error. It may fill fresh.
	absent func(ctx context.Context, position int) error
}

// bulkStatement is one statement of a bulk write. Its arguments are made when it is sent.
type bulkStatement struct {
	sql   string
	form  []byte
	rows  []int // positions of its rows
	args  int   // how many it has
	build func(args []any, position int) []any
}

// insertSingly makes a statement of each row, so that what comes back is the row's.
func (w *bulk[T, K]) insertSingly() {
	d := w.repository.d
	for i, v := range w.values {
		form := d.insertForm(v)
		w.add(d.insertText(form, 1)+d.texts.returning, form, []int{i})
	}
}

// insertGroups makes a statement of many rows of the same form. Their numbers are powers of two, so that there are few
// different texts.
func (w *bulk[T, K]) insertGroups() {
	d := w.repository.d
	var order []string
	groups := map[string][]int{}
	for i, v := range w.values {
		form := string(d.insertForm(v))
		if _, known := groups[form]; !known {
			order = append(order, form)
		}
		groups[form] = append(groups[form], i)
	}
	for _, form := range order {
		positions := groups[form]
		for len(positions) > 0 {
			n := rowsOf(len(positions), countArgs([]byte(form)))
			w.add(d.insertText([]byte(form), n)+d.texts.returning, []byte(form), positions[:n])
			positions = positions[n:]
		}
	}
}

// rowsOf returns how many of the rows that are left the next statement takes: a power of two.
func rowsOf(left, argsPerRow int) int {
	most := min(left, maxRows, maxArgs/max(1, argsPerRow))
	return 1 << (bits.Len(uint(max(1, most))) - 1)
}

func countArgs(form []byte) int {
	n := 0
	for _, take := range form {
		if take == takeArgument || take == takeClock {
			n++
		}
	}
	return n
}

func (w *bulk[T, K]) add(sql string, form []byte, positions []int) {
	d := w.repository.d
	w.statements = append(w.statements, bulkStatement{
		sql: sql, form: form, rows: positions, args: countArgs(form) * len(positions),
		build: func(args []any, position int) []any { return d.insertArgs(args, w.values[position], form) },
	})
}

// run sends the statements: in one round trip if they fit, which is atomic by itself, else in a transaction. Where rows must
// be told apart by key, a transaction is also what takes it all back when they can't be.
func (w *bulk[T, K]) run(ctx context.Context) error {
	batches := w.batches()
	w.fresh = make([]reflect.Value, len(w.values))
	grouped := slices.ContainsFunc(w.statements, func(s bulkStatement) bool { return len(s.rows) > 1 })
	err := w.sendAll(ctx, batches, grouped || w.together)
	if err != nil {
		return err
	}
	for i, v := range w.fresh { // only when all of it has happened
		w.repository.d.adopt(w.values[i], v)
	}
	return nil
}

func (w *bulk[T, K]) sendAll(ctx context.Context, batches [][]bulkStatement, grouped bool) error {
	if len(batches) == 1 && !grouped {
		return w.send(ctx, batches[0])
	}
	return w.repository.tx.Do(ctx, func(ctx context.Context) error {
		for _, batch := range batches {
			if err := w.send(ctx, batch); err != nil {
				return err
			}
		}
		return nil
	})
}

// batches splits the statements into what is sent at once.
func (w *bulk[T, K]) batches() [][]bulkStatement {
	var batches [][]bulkStatement
	start, args := 0, 0
	for i := range w.statements {
		if cost := w.statements[i].args + 1; args > 0 && args+cost > maxBatchArgs {
			batches = append(batches, w.statements[start:i])
			start, args = i, 0
		}
		args += w.statements[i].args + 1
	}
	return append(batches, w.statements[start:])
}

// send sends statements in one round trip and reads their rows. A stale statement heals as in query.
func (w *bulk[T, K]) send(ctx context.Context, statements []bulkStatement) error {
	for attempt := 1; ; attempt++ {
		failed, err := w.try(ctx, statements)
		if err == nil {
			return nil
		}
		_, inside := w.repository.tx.Tx(ctx)
		if inside || attempt == attempts || !isStaleStatement(err) {
			index := -1
			if failed >= 0 && len(statements[failed].rows) == 1 {
				index = statements[failed].rows[0]
			}
			return w.repository.d.wrap(w.op, err, index)
		}
	}
}

// try sends statements once. The first result tells the position of the one that failed, -1 for none in particular.
func (w *bulk[T, K]) try(ctx context.Context, statements []bulkStatement) (failed int, err error) {
	batch := &pgx.Batch{}
	for i := range statements {
		s := &statements[i]
		args := make([]any, 0, s.args)
		for _, position := range s.rows {
			args = s.build(args, position)
		}
		batch.Queue(s.sql, args...)
	}
	results := w.repository.tx.SendBatch(ctx, batch)
	fresh := make([][]T, len(statements))
	for i := range statements {
		rows, err := results.Query()
		if err == nil {
			fresh[i], err = w.collect(rows, &statements[i])
		}
		if err == nil && len(fresh[i]) != len(statements[i].rows) && w.absent == nil {
			err = errSuppressed
		}
		if err != nil {
			_ = results.Close() // the error that matters is the first
			return i, err
		}
	}
	if err := results.Close(); err != nil {
		return -1, err //nolint:wrapcheck // the caller wraps it with the operation
	}
	for i := range statements {
		if len(fresh[i]) == 0 {
			err = w.absent(ctx, statements[i].rows[0])
		} else {
			err = w.match(&statements[i], fresh[i])
		}
		if err != nil {
			return -1, err
		}
	}
	return -1, nil
}

// collect reads the rows of a statement, and what an upsert says about its one.
func (w *bulk[T, K]) collect(rows pgx.Rows, s *bulkStatement) ([]T, error) {
	if w.inserted == nil {
		return collect[T](rows, w.repository.d.shape, len(s.rows))
	}
	row, err := scanOne[T](rows, w.repository.d.shape, &w.inserted[s.rows[0]])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []T{*row}, nil
}

// match tells the rows that a statement returned apart.
func (w *bulk[T, K]) match(s *bulkStatement, fresh []T) error {
	d := w.repository.d
	if len(s.rows) == 1 {
		w.fresh[s.rows[0]] = reflect.ValueOf(&fresh[0]).Elem()
		return nil
	}
	byKey := make(map[any]reflect.Value, len(fresh))
	for i := range fresh {
		v := reflect.ValueOf(&fresh[i]).Elem()
		byKey[d.comparableKey(v)] = v
	}
	for _, position := range s.rows {
		v, ok := byKey[d.comparableKey(w.values[position])]
		if !ok {
			return errKeyChanged
		}
		w.fresh[position] = v
	}
	return nil
}
