package repo

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// stagedUpdate updates all rows by one statement, after a statement that locks them in the order of their keys.
func (w *bulkWrite) stagedUpdate(ctx context.Context) error {
	d := w.repository.d
	positions := slices.Concat(d.statements.updateColumns, d.key)
	if d.version >= 0 {
		positions = append(positions, d.version)
	}
	s := d.stageOf(positions)
	if err := w.fillStage(ctx, s, w.matcher.rows, func(reflect.Value) {}); err != nil {
		return err
	}
	if !d.comparesAsServer(d.key) { // two keys may be the same for the server, which updates the row once
		single := w.onMissing
		defer func() { w.onMissing = single }()
		w.onMissing = func(context.Context, []int) error { return errKeyChanged }
	}
	batch := &pgx.Batch{}
	batch.Queue(s.lock(d))
	newDescriber(w.repository.untyped).queue(batch, s.update(d), d.clockArgs(nil, d.clock != nil && d.updated >= 0))
	batch.Queue(s.drop())
	return w.runStaged(ctx, batch, 1, func(rows pgx.Rows) error { return w.returned.readNumbered(rows, w.matcher.rows) })
}

// lock returns the statement that locks the rows to update.
func (s *stage) lock(d *descriptor) string {
	return "select count(*) from (select from " + d.table + " as t join " + s.from + " on " + s.joinCondition(d, d.key) + d.andVisible("t.") +
		" order by " + ordinal + " for no key update of t) as locked"
}

// update returns the statement that updates the rows.
func (s *stage) update(d *descriptor) string {
	set := make([]string, 0, len(d.columns))
	for _, position := range d.statements.updateColumns {
		set = append(set, d.columns[position].ident+" = "+s.aliases[position])
	}
	set = append(set, d.touches("t", d.clockText(1))...)
	where := " where " + s.joinCondition(d, d.key) + d.andVisible("t.")
	if d.version >= 0 {
		where += " and t." + d.columns[d.version].ident + " = " + s.aliases[d.version]
	}
	return "update " + d.table + " as t set " + strings.Join(set, ", ") + " from " + s.from + where +
		" returning " + d.columnsOf("t.") + ", " + ordinal
}

// andVisible returns the condition that a row isn't soft-deleted, with a prefix for the column, to be appended to others.
func (d *descriptor) andVisible(prefix string) string {
	if condition := d.visibleIn(prefix, hideDeleted); condition != "" {
		return " and " + condition
	}
	return ""
}

// stagedUpsert upserts all rows, which have one layout, by one statement. It reads them in the order of the COPY.
func (w *bulkWrite) stagedUpsert(ctx context.Context, u *upsert, target []int, g layoutGroup) error {
	d := w.repository.d
	s, err := w.stageGroup(ctx, g, func(row reflect.Value, now time.Time) {
		if d.updated >= 0 { // an upsert always sets it to the current time
			setTime(row.FieldByIndex(d.columns[d.updated].index), now)
		}
	})
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(s.insert(d, g.layout) + u.clause(d, g.layout) + d.statements.returning + ", " + d.wasInserted(w.live.view))
	read := func(rows pgx.Rows) error { return w.returned.matchReturned(rows, w.values.Len(), true) }
	if !u.doNothing {
		batch.Queue(s.drop())
		return w.runStaged(ctx, batch, 0, read)
	}
	// Existing rows are read by a second statement, which sees the rows that conflicted with the first one.
	find, single := s.find(d, u, target), w.onMissing
	defer func() { w.onMissing = single }()
	w.onMissing = func(ctx context.Context, absent []int) error { return w.readExistingStaged(ctx, find, g.rows, absent) }
	if err := w.runStaged(ctx, batch, 0, read); err != nil {
		return err
	}
	_, err = w.repository.exec(ctx, s.drop(), nil)
	return w.repository.wrap(w.op, err)
}

// stagedInsert inserts all rows, which have one layout, by one statement.
func (w *bulkWrite) stagedInsert(ctx context.Context, g layoutGroup) error {
	d := w.repository.d
	s, err := w.stageGroup(ctx, g, func(reflect.Value, time.Time) {})
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(s.insert(d, g.layout) + d.statements.returning)
	batch.Queue(s.drop())
	return w.runStaged(ctx, batch, 0, func(rows pgx.Rows) error { return w.returned.matchReturned(rows, w.values.Len(), false) })
}

// stageGroup copies completed rows of one layout into a stage with the columns that are inserted.
func (w *bulkWrite) stageGroup(ctx context.Context, g layoutGroup, complete func(row reflect.Value, now time.Time)) (*stage, error) {
	d := w.repository.d
	var positions []int
	for i, source := range g.layout {
		if source == fromField || source == fromClock {
			positions = append(positions, i)
		}
	}
	var now time.Time
	if d.clock != nil {
		now = d.now()
	}
	s := d.stageOf(positions)
	return s, w.fillStage(ctx, s, g.rows, func(row reflect.Value) {
		complete(row, now)
		d.setAutomatic(row, now)
	})
}

// insert returns the statement that inserts the stage's rows in their order, without its ON CONFLICT and RETURNING clauses.
func (s *stage) insert(d *descriptor, layout []byte) string {
	var idents, values []string
	for i, source := range layout {
		switch source {
		case fromField, fromClock:
			idents, values = append(idents, d.columns[i].ident), append(values, s.aliases[i])
		case fromServerClock:
			idents, values = append(idents, d.columns[i].ident), append(values, "now()")
		}
	}
	return "insert into " + d.insertTarget() + " (" + strings.Join(idents, ", ") + ") select " + strings.Join(values, ", ") +
		" from " + s.from + " order by " + ordinal
}

// find returns the statement that reads the existing rows with which the stage's rows conflict. The predicate is written where
// only the columns of the table are visible.
func (s *stage) find(d *descriptor, u *upsert, target []int) string {
	b := newBuilder(d, "select "+d.columnsOf("t.")+", "+ordinal+" from ("+d.statements.selectFrom)
	if u.target.predicate != "" {
		b.text(" where ").fragment(u.target.predicate, nil, false)
	}
	return b.text(") as t join " + s.from + " on " + s.joinCondition(d, target)).sql.String()
}

// runStaged sends statements of which the one at this index returns the rows, which are passed to read.
func (w *bulkWrite) runStaged(ctx context.Context, batch *pgx.Batch, index int, read func(pgx.Rows) error) error {
	results := w.repository.tx.SendBatch(ctx, batch)
	err := func() error {
		for range index {
			if _, err := results.Exec(); err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
		}
		rows, err := results.Query() //nolint:rowserrcheck // errors come with the batch's Close
		if err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		return read(rows)
	}()
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return w.repository.wrap(w.op, err)
	}
	return w.checkReturned(ctx)
}
