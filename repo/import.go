package repo

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"time"
)

// ImportOption shapes an import: [OnProgress], [ExpectedRows] or [OnRowError].
type ImportOption interface {
	applyImport(*importSettings)
}

type importOptionFunc func(*importSettings)

func (f importOptionFunc) applyImport(s *importSettings) { f(s) }

type importSettings struct {
	every  int64
	report func(Progress)
	total  int64
	skip   func(error) error
}

// Progress tells how far an import is.
type Progress struct {
	// Rows have been taken from the sequence so far, and Total is how many there will be, 0 when nobody knows.
	Rows, Total int64
	// Skipped is how many of the rows were bad (see [OnRowError]).
	Skipped int64
	// Elapsed is the time since the import began, and Remaining what is left at the same rate, 0 when the total isn't known.
	Elapsed, Remaining time.Duration
	// Rate is in rows per second.
	Rate float64
}

// OnProgress calls report after every so many rows and at the end. It is called by one goroutine at a time, which isn't the
// caller's, and holds the import up while it runs.
func OnProgress(every int, report func(Progress)) ImportOption {
	return importOptionFunc(func(s *importSettings) { s.every, s.report = int64(max(1, every)), report })
}

// ExpectedRows says how many rows there will be, for [Progress].
func ExpectedRows(rows int64) ImportOption {
	return importOptionFunc(func(s *importSettings) { s.total = rows })
}

// Import inserts the rows of a sequence with COPY, in bounded memory however many there are, and returns how many: all or
// none. It is the fastest way in, and the one by which nothing comes back: the rows are not changed. created, updated and
// version are filled as by Create, the times with that of the import's begin. A column with the role default is left to the
// database when it is zero in the first row, and then has to be in all; else the first one that differs is an error.
// With [OnRowError] bad rows are left out and reported.
//
// An error of the sequence ends the import and comes back as it is. It takes two round trips and what COPY sends, one less
// without created and updated or with [WithClock]. Errors: [*InvalidError] and [*ConstraintError] with the row's index.
func (r *Repository[T, K]) Import(ctx context.Context, rows iter.Seq2[T, error], opts ...ImportOption) (int64, error) {
	source := r.newImportSource(ctx, "import")
	for _, opt := range opts {
		if opt == nil {
			return 0, &queryError{r.d.label + ": an import option is nil"}
		}
		opt.applyImport(&source.settings)
	}
	source.due = source.settings.every
	if source.settings.skip != nil {
		return r.importSkipping(ctx, source, rows)
	}
	pull, stop := iter.Pull2(rows)
	defer stop()
	source.nextRow = pull
	return r.importFrom(ctx, source)
}

func (r *Repository[T, K]) newImportSource(ctx context.Context, op string) *importSource[T] {
	return &importSource[T]{ctx: ctx, op: op, d: r.d, began: time.Now()}
}

// importFrom copies the rows of a source into the table.
func (r *Repository[T, K]) importFrom(ctx context.Context, source *importSource[T]) (int64, error) {
	if err := source.advance(); err != nil {
		if err == errNoMoreRows { //nolint:errorlint // it is never wrapped
			return 0, nil
		}
		return 0, err
	}
	source.pending = true
	if err := r.importTime(ctx, source); err != nil {
		return 0, err
	}
	columns := r.d.layoutColumns(source.form)
	n, err := copyRows(ctx, r.tx, r.d.path, columns, source.next)
	if source.err != nil {
		return 0, source.err
	}
	if err != nil {
		return 0, r.d.wrapCopy(source.op, err, source.position, columns)
	}
	source.progress(true)
	return n, nil
}

// formColumns returns the columns that an insert of this form gives values.
func (d *descriptor) layoutColumns(form []byte) []*column {
	columns := make([]*column, 0, len(form))
	for i, take := range form {
		if take != fromDefault {
			columns = append(columns, &d.columns[i])
		}
	}
	return columns
}

// importTime asks for the time of the import's begin, if it is needed.
func (r *Repository[T, K]) importTime(ctx context.Context, source *importSource[T]) error {
	switch {
	case r.d.created < 0 && r.d.updated < 0:
		return nil
	case r.d.clock != nil:
		source.now = r.d.now()
		return nil
	}
	now, err := QueryOne[time.Time](ctx, r.tx, "select now()")
	source.now = now
	return err
}

// importSource hands the rows of a sequence to COPY.
type importSource[T any] struct {
	ctx      context.Context //nolint:containedctx // it lives as long as the call, whose ctx it is
	op       string
	d        *descriptor
	settings importSettings
	nextRow  func() (T, error, bool)
	began    time.Time
	now      time.Time
	form     []byte // of the first row; all others must have it
	buf      []byte // for the form of the current one
	row      T
	rows     int64
	skipped  int64
	due      int64 // the number of rows at which progress is reported next
	pending  bool  // the current row has been taken to learn the form
	err      error
}

// next returns the next row, completed.
func (s *importSource[T]) next() (reflect.Value, error) {
	if !s.pending {
		if err := s.advance(); err != nil {
			if err != errNoMoreRows { //nolint:errorlint // it is never wrapped
				s.err = err
			}
			return reflect.Value{}, err
		}
	}
	s.pending = false
	v := s.value()
	s.d.setAutomatic(v, s.now)
	return v, nil
}

// take takes the next row of the sequence and checks it.
func (s *importSource[T]) advance() error {
	row, err, ok := s.nextRow()
	if !ok {
		return errNoMoreRows
	}
	if err != nil {
		return err
	}
	s.row = row
	if err := s.d.validate(s.ctx, &s.row, int(s.rows)); err != nil {
		return err
	}
	form := s.d.importLayout(s.buf, s.value())
	if s.buf = form; s.form == nil {
		s.form = slices.Clone(form)
	}
	if !bytes.Equal(form, s.form) {
		return s.layoutError(form)
	}
	s.rows++
	s.progress(false)
	return nil
}

func (s *importSource[T]) layoutError(form []byte) error {
	for i := range form {
		if form[i] != s.form[i] {
			return &InvalidError{Table: s.d.label, Index: int(s.rows), err: fmt.Errorf("column %q is left to the database in some rows and not "+
				"in others: COPY can't tell them apart", s.d.columns[i].name)}
		}
	}
	return nil
}

// position returns the position of the row with this number in the COPY, that of the last one for -1.
func (s *importSource[T]) position(number int) int {
	if number < 0 {
		return int(s.rows) - 1
	}
	return number
}

func (s *importSource[T]) value() reflect.Value { return reflect.ValueOf(&s.row).Elem() }
