package repo

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/rdsfx-go/rdsfx/txn"
)

// chunkSize is the number of rows that an import in chunks holds in memory and copies at once.
const chunkSize = 1000

// OnRowError makes an import skip rows that are refused by validation, by the driver (a value that can't be sent) or by the
// server. report receives an [*InvalidError], [*ConstraintError] or [*RowError] with the row's index in the sequence. If report
// returns an error, the import ends with that error and nothing is written. A nil report skips silently. An error of the sequence
// still ends the import, and so does a constraint that is checked only at the end of the transaction.
//
// Rows are copied by the thousand, each thousand in a savepoint of one transaction: that of ctx, or a new one. That costs
// little as long as all rows are good, and some more round trips for each refused row. Rows may leave different columns to the
// database.
func OnRowError(report func(err error) error) ImportOption {
	if report == nil {
		report = func(error) error { return nil }
	}
	return importOptionFunc(func(s *importSettings) { s.skip = report })
}

// chunkedImport is an import that copies chunk by chunk, each in a savepoint. So it finds the row that is refused, and can skip it.
type chunkedImport[T, K any] struct {
	repository *Repository[T, K]
	source     *importSource[T]
	target     importTarget
	chunk      []T
	positions  []int64 // the position in the sequence of each row of the chunk
	live       *liveColumns
	layouts    []string
	stored     int64
}

// importChunks imports a sequence chunk by chunk.
func (r *Repository[T, K]) importChunks(ctx context.Context, source *importSource[T], target importTarget) (int64, error) {
	live, err := r.liveColumns(ctx)
	if err != nil {
		return 0, r.wrap(source.op, err)
	}
	s := &chunkedImport[T, K]{repository: r, source: source, target: target, live: live}
	begun := false
	err = r.tx.Do(ctx, func(ctx context.Context) error {
		if begun {
			return &queryError{"import " + r.d.label + ": the transaction would have to be retried, and the sequence can't be read twice"}
		}
		begun, source.ctx = true, ctx
		for {
			row, err, ok := source.following()
			if !ok {
				return s.copyChunk(ctx)
			}
			if err != nil {
				return err
			}
			if err := s.add(ctx, row); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return 0, err
	}
	source.progress(true)
	return s.stored, nil
}

// add validates a row and keeps it until the chunk is full.
func (s *chunkedImport[T, K]) add(ctx context.Context, row T) error {
	at := s.source.rows
	s.source.rows++
	if err := s.source.d.validate(ctx, &row, int(at)); err != nil {
		return s.reject(err)
	}
	s.chunk, s.positions = append(s.chunk, row), append(s.positions, at)
	layout := s.source.zero.fill(s.source.d.importLayout(nil, reflect.ValueOf(&s.chunk[len(s.chunk)-1]).Elem()))
	if !s.skips() {
		if err := s.source.checkLayout(layout, at); err != nil {
			return err
		}
	}
	s.layouts = append(s.layouts, string(layout))
	if len(s.chunk) < chunkSize {
		return nil
	}
	return s.copyChunk(ctx)
}

// skips reports whether the import skips refused rows. Otherwise the first one ends it.
func (s *chunkedImport[T, K]) skips() bool { return s.source.settings.skip != nil }

// reject reports a refused row.
func (s *chunkedImport[T, K]) reject(err error) error {
	if !s.skips() {
		return err
	}
	s.source.skipped++
	if ending := s.source.settings.skip(err); ending != nil {
		return ending
	}
	s.source.progress(false)
	return nil
}

// copyChunk copies the chunk, rows of the same layout together.
func (s *chunkedImport[T, K]) copyChunk(ctx context.Context) error {
	groups := make(map[string][]int)
	var order []string
	for i, layout := range s.layouts {
		if groups[layout] == nil {
			order = append(order, layout)
		}
		groups[layout] = append(groups[layout], i)
	}
	for _, layout := range order {
		if err := s.repository.checkGenerated(ctx, s.source.op, s.target, []byte(layout)); err != nil {
			return err
		}
		if err := s.copyGoodRows(ctx, []byte(layout), groups[layout]); err != nil {
			return err
		}
	}
	clear(s.chunk) // releases what the rows refer to
	s.chunk, s.positions, s.layouts = s.chunk[:0], s.positions[:0], s.layouts[:0]
	s.source.progress(false)
	return nil
}

// copyGoodRows copies rows of the chunk without the refused ones. Rows before a refused row are known to be good. If the refused
// row is unknown, half as many are tried. Refused rows often follow each other. After one, the next attempt is therefore as
// small as the number of good rows before it. It doubles after each success.
func (s *chunkedImport[T, K]) copyGoodRows(ctx context.Context, layout []byte, rows []int) error {
	for limit := len(rows); len(rows) > 0; {
		n := min(limit, len(rows))
		err := s.repository.tx.Do(ctx, func(ctx context.Context) error { return s.copyOnce(ctx, layout, rows[:n]) }, txn.Nested())
		if err == nil {
			s.stored += int64(n)
			rows, limit = rows[n:], 2*n //nolint:mnd // double
			continue
		}
		index, known := rowIndex(err)
		if !known && !needsRowByRow(err) {
			return err
		}
		if !known && n > 1 {
			limit = n / 2 //nolint:mnd // half
			continue
		}
		bad := 0
		for known && bad < n-1 && s.positions[rows[bad]] != index {
			bad++
		}
		if !known {
			err = withIndex(err, s.source.d.label, int(s.positions[rows[0]]))
		}
		if s.skips() {
			if err := s.copyGoodRows(ctx, layout, rows[:bad]); err != nil {
				return err
			}
		}
		if err := s.reject(err); err != nil {
			return err
		}
		rows, limit = rows[bad+1:], max(1, bad)
	}
	return nil
}

func (s *chunkedImport[T, K]) copyOnce(ctx context.Context, layout []byte, rows []int) error {
	d := s.source.d
	source := &sliceSource{
		rows: reflect.ValueOf(s.chunk), positions: rows, row: reflect.New(d.typ).Elem(),
		complete: func(row reflect.Value) { d.setAutomatic(row, s.source.now) },
	}
	position := func(number int) int {
		if at := source.position(number); at >= 0 {
			return int(s.positions[at])
		}
		return -1
	}
	if s.target.refusesCopy {
		return s.repository.insertRows(ctx, s.source.op, layout, source.next, position)
	}
	columns := d.layoutColumns(layout)
	_, err := copyRows(ctx, s.repository.tx, copyTarget{d.path, columns, d, s.live}, source.next)
	return d.wrapCopy(s.source.op, err, position, columns)
}

// rowIndex returns the index of the row that an error names.
func rowIndex(err error) (int64, bool) {
	if constraint, ok := errors.AsType[*ConstraintError](err); ok {
		return int64(constraint.Index), constraint.Index >= 0
	}
	if row, ok := errors.AsType[*RowError](err); ok {
		return int64(row.Index), true
	}
	return 0, false
}

// withIndex returns an error that names no row as the error of the row with this index.
func withIndex(err error, table string, index int) error {
	if constraint, ok := errors.AsType[*ConstraintError](err); ok {
		named := *constraint
		named.Index = index
		return &named
	}
	return &RowError{Table: table, Index: index, err: err}
}

// importLayout is insertLayout for a COPY, which sends the current time as a value.
func (d *descriptor) importLayout(layout []byte, v reflect.Value) []byte {
	layout = d.insertLayout(layout, v)
	for i, source := range layout {
		if source == fromServerClock || source == fromClock {
			layout[i] = fromField // see setAutomatic
		}
	}
	return layout
}

// progress calls the OnProgress function if it is due, or at the end.
func (s *importSource[T]) progress(end bool) {
	if s.settings.report == nil || !end && s.rows < s.due {
		return
	}
	s.due = s.rows - s.rows%s.settings.every + s.settings.every
	p := Progress{Rows: s.rows, Skipped: s.skipped, Total: s.settings.total, Elapsed: time.Since(s.began)}
	p.Rate = float64(p.Rows) / max(p.Elapsed.Seconds(), time.Nanosecond.Seconds())
	if p.Total > p.Rows {
		p.Remaining = time.Duration(float64(p.Total-p.Rows) / p.Rate * float64(time.Second))
	}
	s.settings.report(p)
}
