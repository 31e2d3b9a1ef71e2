package repo

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"time"

	"github.com/rdsfx-go/rdsfx/txn"
)

// skipChunk is how many rows an import that skips bad ones has in memory, and copies at once.
const skipChunk = 1000

// OnRowError makes an import go on after a row that is refused: by its validation, by the driver, which can't send a value, or by
// the server. report is told why, by an [*InvalidError], a [*ConstraintError] or a [*RowError] with the row's index in the
// sequence; when it returns an error itself, the import ends with that one and nothing has been written. A nil report only
// skips. An error of the sequence still ends the import, and so does a constraint that is only checked at the end of the transaction.
//
// The rows are then copied by the thousand, each thousand in a savepoint of one transaction (that of ctx, or one of its own):
// it costs little while all rows are good, and for each bad row some round trips more. Rows may differ in which columns they
// leave to the database.
func OnRowError(report func(err error) error) ImportOption {
	if report == nil {
		report = func(error) error { return nil }
	}
	return importOptionFunc(func(s *importSettings) { s.skip = report })
}

// skipping is an import that skips bad rows.
type skippingImport[T any] struct {
	tx        *txn.Manager
	source    *importSource[T]
	chunk     []T
	positions []int64 // the position in the sequence of each row of the chunk
	forms     []string
	stored    int64
}

// importSkipping imports a sequence without its bad rows.
func (r *Repository[T, K]) importSkipping(ctx context.Context, source *importSource[T], rows iter.Seq2[T, error]) (int64, error) {
	s := &skippingImport[T]{tx: r.tx, source: source}
	begun := false
	err := r.tx.Do(ctx, func(ctx context.Context) error {
		if begun {
			return &queryError{"import " + r.d.label + ": the transaction would have to be done again, and the sequence can't"}
		}
		begun, source.ctx = true, ctx
		if err := r.importTime(ctx, source); err != nil {
			return err
		}
		for row, err := range rows {
			if err != nil {
				return err
			}
			if err := s.add(ctx, row); err != nil {
				return err
			}
		}
		return s.copyChunk(ctx)
	})
	if err != nil {
		return 0, err
	}
	source.progress(true)
	return s.stored, nil
}

// take checks a row and keeps it until the chunk is full.
func (s *skippingImport[T]) add(ctx context.Context, row T) error {
	at := s.source.rows
	s.source.rows++
	if err := s.source.d.validate(ctx, &row, int(at)); err != nil {
		return s.reject(err)
	}
	s.chunk, s.positions = append(s.chunk, row), append(s.positions, at)
	form := s.source.d.importLayout(nil, reflect.ValueOf(&s.chunk[len(s.chunk)-1]).Elem())
	s.forms = append(s.forms, string(form))
	if len(s.chunk) < skipChunk {
		return nil
	}
	return s.copyChunk(ctx)
}

// skip reports a bad row.
func (s *skippingImport[T]) reject(err error) error {
	s.source.skipped++
	if ending := s.source.settings.skip(err); ending != nil {
		return ending
	}
	s.source.progress(false)
	return nil
}

// flush copies the chunk, rows of the same form together.
func (s *skippingImport[T]) copyChunk(ctx context.Context) error {
	groups := make(map[string][]int)
	var order []string
	for i, form := range s.forms {
		if groups[form] == nil {
			order = append(order, form)
		}
		groups[form] = append(groups[form], i)
	}
	for _, form := range order {
		if err := s.copyGoodRows(ctx, s.source.d.layoutColumns([]byte(form)), groups[form]); err != nil {
			return err
		}
	}
	clear(s.chunk) // what the rows point to isn't needed any more
	s.chunk, s.positions, s.forms = s.chunk[:0], s.positions[:0], s.forms[:0]
	s.source.progress(false)
	return nil
}

// store copies rows of the chunk without the bad ones. What is before a bad row is known to be good; where nobody knows which
// row is bad, half as many are tried. Bad rows come in company: behind one the next try is as small as what was good before
// it, and twice as large after each success.
func (s *skippingImport[T]) copyGoodRows(ctx context.Context, columns []*column, rows []int) error {
	for limit := len(rows); len(rows) > 0; {
		n := min(limit, len(rows))
		err := s.tx.Do(ctx, func(ctx context.Context) error { return s.copyOnce(ctx, columns, rows[:n]) }, txn.Nested())
		if err == nil {
			s.stored += int64(n)
			rows, limit = rows[n:], 2*n //nolint:mnd // twice
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
		if err := s.copyGoodRows(ctx, columns, rows[:bad]); err != nil {
			return err
		}
		if err := s.reject(err); err != nil {
			return err
		}
		rows, limit = rows[bad+1:], max(1, bad)
	}
	return nil
}

func (s *skippingImport[T]) copyOnce(ctx context.Context, columns []*column, rows []int) error {
	d := s.source.d
	source := &sliceSource{
		rows: reflect.ValueOf(s.chunk), positions: rows, row: reflect.New(d.typ).Elem(),
		complete: func(row reflect.Value) { d.setAutomatic(row, s.source.now) },
	}
	_, err := copyRows(ctx, s.tx, d.path, columns, source.next)
	return d.wrapCopy("import", err, func(number int) int {
		if position := source.position(number); position >= 0 {
			return int(s.positions[position])
		}
		return -1
	}, columns)
}

// rowAt returns the index of the row that an error names.
func rowIndex(err error) (int64, bool) {
	if constraint, ok := errors.AsType[*ConstraintError](err); ok {
		return int64(constraint.Index), constraint.Index >= 0
	}
	if row, ok := errors.AsType[*RowError](err); ok {
		return int64(row.Index), true
	}
	return 0, false
}

// blamed returns an error that names no row as the error of the only one that there was.
func withIndex(err error, table string, index int) error {
	if constraint, ok := errors.AsType[*ConstraintError](err); ok {
		named := *constraint
		named.Index = index
		return &named
	}
	return &RowError{Table: table, Index: index, err: err}
}

// importForm is insertForm for a COPY, to which the time is known.
func (d *descriptor) importLayout(form []byte, v reflect.Value) []byte {
	form = d.insertLayout(form, v)
	for i, take := range form {
		if take == fromServerClock || take == fromClock {
			form[i] = fromField // fill knows the time
		}
	}
	return form
}

// progress reports, if it is time or the end.
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
