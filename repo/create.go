package repo

import (
	"context"
	"errors"
	"reflect"
)

// CreateMany inserts the rows, any number of them: all or none. It is [Repository.Create] for each, in far fewer round
// trips, and all columns come back into the slice's elements; they are told apart by key or by what else is different in
// each of them, never by their position.
//
// How they travel depends on their number and on the model. Few rows are a statement each and are sent at once. From 32 rows
// on, and where each can be told apart, many of them share a statement; from 256 rows on (see [WithStagingThreshold]), and when all of
// them leave the same columns to the database, they are copied into a temp table and inserted from there by one statement.
// Several rows are written in a transaction, that of ctx or one of their own: that a trigger has suppressed one of them shows
// when all have been sent.
//
// From 64 rows on they are copied (COPY) right into the table, if nothing has to come back: values of these types are stored
// as they are, no trigger could change them, and what is left to the database are columns whose defaults it can be asked for
// beforehand (a sequence, gen_random_uuid(), uuidv7(), now(), a constant); it takes three round trips, or four. Rows with
// known keys are sent in the order of the keys, so that concurrent calls don't deadlock.
//
// Errors: [*InvalidError] with the row's index, also for a key that occurs twice; [*ConstraintError] and [*RowError] with the
// index of the row that the database refused. Nothing has been written then, and the rows are as they were but for the keys
// of [WithKeys].
func (r *Repository[T, K]) CreateMany(ctx context.Context, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	w, err := r.newBulk(ctx, "create", rows)
	if err != nil {
		return err
	}
	known := w.makeKeys()
	var sorted *ordering
	if known {
		sorted = order(w.values, r.d.columnsAt(r.d.key))
		if err := sorted.check(r.d.label, "key"); err != nil {
			return err
		}
	}
	groups := w.groups(w.positions(sorted), r.d.insertForm)
	if len(groups) == 1 && len(rows) >= copyFrom && r.d.copies(groups[0].form) {
		if done, err := w.copyIn(ctx, groups[0]); done || err != nil {
			return err
		}
	}
	singly := func(ctx context.Context) error { return w.run(ctx, w.singles(groups)) }
	if len(rows) < groupFrom {
		return singly(ctx)
	}
	if w.told = sorted; w.told == nil {
		w.told = order(w.values, w.distinctive(groups))
	}
	if !w.told.tells() {
		return singly(ctx)
	}
	return w.createTogether(ctx, groups, singly)
}

// createTogether writes rows that can be told apart, many of them by one statement.
func (w *bulk[T, K]) createTogether(ctx context.Context, groups []formGroup, singly func(context.Context) error) error {
	shared := func(ctx context.Context) error {
		return w.fastThenSingly(ctx, func(ctx context.Context) error { return w.sendAll(ctx, batchesOf(w.shared(groups))) }, singly)
	}
	if len(groups) > 1 || !w.repository.d.stages(len(w.rows)) {
		return shared(ctx)
	}
	next := singly // names the row that was refused
	staged := func(ctx context.Context) error {
		err := w.stagedInsert(ctx, groups[0])
		if errors.Is(err, errUnstaged) {
			next = shared
		}
		return err
	}
	return w.fastThenSingly(ctx, staged, func(ctx context.Context) error { return next(ctx) })
}

const (
	// groupFrom is from how many rows on several share a statement: what is saved is more than the transaction costs.
	groupFrom = 32
	// copyFrom is from how many rows on they are copied if they can be.
	copyFrom = 64
)

// makeKeys makes the keys that the application makes and reports whether all keys are known then.
func (w *bulk[T, K]) makeKeys() bool {
	d, known := w.repository.d, true
	for _, position := range d.key {
		c := &d.columns[position]
		if !c.written() {
			return false
		}
		if d.newKey == nil && !c.roles.is(roleDefault) {
			continue
		}
		for i := range w.rows {
			f := w.values.Index(i).FieldByIndex(c.index)
			switch {
			case !f.IsZero():
			case d.newKey != nil:
				f.Set(d.newKey.make())
			default:
				known = false
			}
		}
	}
	return known
}

// singles makes a statement of each row, so that what comes back is the row's.
func (w *bulk[T, K]) singles(groups []formGroup) []bulkStatement {
	statements := make([]bulkStatement, len(w.rows))
	at := 0
	for _, g := range groups {
		for i := range g.rows {
			statements[at] = w.insertOf(g.form, g.rows[i:i+1])
			at++
		}
	}
	return statements
}

// shared makes statements of many rows each.
func (w *bulk[T, K]) shared(groups []formGroup) []bulkStatement {
	var statements []bulkStatement
	for _, g := range groups {
		for rows := g.rows; len(rows) > 0; {
			n := rowsOf(len(rows), countArgs(g.form))
			statements = append(statements, w.insertOf(g.form, rows[:n]))
			rows = rows[n:]
		}
	}
	return statements
}

// distinctive returns the columns by which rows may be told apart whose keys the database makes: all that it is sent and
// gives back the same.
func (w *bulk[T, K]) distinctive(groups []formGroup) []*column {
	var columns []*column
	for i := range w.repository.d.columns {
		c := &w.repository.d.columns[i]
		sent := c.orderable() && c.typ.Kind() != reflect.Pointer && !c.roles.is(roleVersion)
		for _, g := range groups {
			sent = sent && g.form[i] == takeArgument
		}
		if sent {
			columns = append(columns, c)
		}
	}
	return columns
}
