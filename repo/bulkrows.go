package repo

import (
	"errors"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// returnedRows are the rows that the statements of a bulk write have returned, by the position of the row that was sent.
type returnedRows interface { //nolint:interfacebloat // the typed part of a bulk write, with one implementation
	// reset discards the rows of an earlier attempt.
	reset()
	// collect reads the row that a statement returned, and of an upsert whether it was inserted.
	collect(rows pgx.Rows, s *bulkStatement) error
	// matchReturned reads returned rows and matches them to those that were sent. n is the most that are expected. upserted
	// means that each row is followed by whether it was inserted.
	matchReturned(rows pgx.Rows, n int, upserted bool) error
	// readNumbered reads rows that are followed by their number in the COPY. positions are the positions of the copied rows. A
	// row that has been returned before stays.
	readNumbered(rows pgx.Rows, positions []int) error
	// absent returns the positions of the rows for which none was returned.
	absent() []int
	// all returns the slice of pointers to the rows.
	all() reflect.Value
	// at returns a row; ok is false if none was returned.
	at(position int) (row reflect.Value, ok bool)
	// apply copies the returned columns into the caller's rows.
	apply()
}

// typedBulkWrite is a bulk write with its rows. The statements are the business of bulkWrite, which doesn't depend on their type.
type typedBulkWrite[T any] struct {
	bulk  bulkWrite
	rows  []T
	fresh []*T // the returned rows
}

func (w *typedBulkWrite[T]) reset() { w.fresh = make([]*T, len(w.rows)) }

func (w *typedBulkWrite[T]) absent() []int {
	var absent []int
	for i := range w.fresh {
		if w.fresh[i] == nil {
			absent = append(absent, i)
		}
	}
	return absent
}

func (w *typedBulkWrite[T]) all() reflect.Value { return reflect.ValueOf(w.fresh) }

func (w *typedBulkWrite[T]) at(position int) (row reflect.Value, ok bool) {
	return reflect.ValueOf(w.fresh[position]).Elem(), w.fresh[position] != nil
}

func (w *typedBulkWrite[T]) apply() {
	d := w.bulk.repository.d
	for i, row := range w.fresh {
		if !d.partial {
			w.rows[i] = *row
			continue
		}
		d.copyColumns(w.bulk.values.Index(i), reflect.ValueOf(row).Elem())
	}
}

func (w *typedBulkWrite[T]) collect(rows pgx.Rows, s *bulkStatement) error {
	var extra []any
	if w.bulk.inserted != nil && !s.readsExisting {
		extra = append(extra, &w.bulk.inserted[s.row])
	}
	row, err := readFirst[T](rows, w.bulk.repository.d.shape, extra...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	w.fresh[s.row] = row
	return err
}

func (w *typedBulkWrite[T]) matchReturned(rows pgx.Rows, n int, upserted bool) error {
	defer rows.Close()
	var (
		inserted bool
		extra    []any
		find     = finder{ordering: w.bulk.matcher}
		found    = make([]T, 0, n) // must not grow, because its elements are referenced
	)
	if upserted {
		extra = append(extra, &inserted)
	}
	reader := newReader[T](w.bulk.repository.d.shape, extra...)
	for rows.Next() {
		if len(found) == n {
			return errKeyChanged
		}
		found = found[:len(found)+1]
		row := &found[len(found)-1]
		if err := reader.read(rows, row); err != nil {
			return err
		}
		position, ok := find.find(reflect.ValueOf(row).Elem())
		if !ok || w.fresh[position] != nil {
			return errKeyChanged
		}
		w.fresh[position] = row
		if upserted {
			w.bulk.inserted[position] = inserted
		}
	}
	return rows.Err()
}

func (w *typedBulkWrite[T]) readNumbered(rows pgx.Rows, positions []int) error {
	defer rows.Close()
	var number int64
	reader, found := newReader[T](w.bulk.repository.d.shape, &number), make([]T, len(positions))
	for i := 0; rows.Next(); i++ {
		if i == len(found) { // one row of a stage belongs to several rows of a table without a unique index
			found, i = make([]T, len(positions)), 0
		}
		if err := reader.read(rows, &found[i]); err != nil {
			return err
		}
		if position := positions[number]; w.fresh[position] == nil {
			w.fresh[position] = &found[i]
		}
	}
	return rows.Err()
}
