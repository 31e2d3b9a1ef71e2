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

// ImportOption is an option of one import: [OnProgress], [ExpectedRows], [OnRowError] or [SendZero].
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
	// zeroNames are the columns of SendZero.
	zeroNames []string
}

// Progress reports how far an import has come.
type Progress struct {
	// Rows is the number of rows read from the sequence so far. Total is the number set by [ExpectedRows], 0 if unknown.
	Rows, Total int64
	// Skipped is the number of rows that were refused (see [OnRowError]).
	Skipped int64
	// Elapsed is the time since the start. Remaining is the estimated time to the end, 0 if the total is unknown.
	Elapsed, Remaining time.Duration
	// Rate is in rows per second.
	Rate float64
}

// OnProgress calls report after each number of rows and at the end. Calls don't overlap and come from another goroutine than the
// caller's. The import waits for report to return.
func OnProgress(every int, report func(Progress)) ImportOption {
	return importOptionFunc(func(s *importSettings) { s.every, s.report = int64(max(1, every)), report })
}

// ExpectedRows sets the number of rows of the sequence, for [Progress].
func ExpectedRows(rows int64) ImportOption {
	return importOptionFunc(func(s *importSettings) { s.total = rows })
}

// Import inserts all rows of a sequence or none with COPY and returns how many were stored. Memory is bounded, however long the
// sequence is. The rows are not changed. created, updated and version are filled as by Create, with one time for all rows. A
// column with the role default is left to the database if it is zero in the first row. It then has to be zero in all rows. With
// [OnRowError] refused rows are skipped and reported. For a slice use [Repository.CopyMany].
//
// An error of the sequence ends the import and is returned unchanged. It takes two round trips and the data. Errors:
// [*InvalidError], [*ConstraintError] and [*RowError], with the row's index. A column that the server always generates is refused as
// by Create (SQLSTATE 428C9), although COPY would store the value of an identity.
//
// COPY doesn't name a row that a trigger refuses after the last one, as the trigger of a foreign key does. The rows of a table with
// such triggers are therefore copied by the thousand, each thousand in a savepoint of one transaction. PostgreSQL can't copy into
// a view or a table with row-level security, and COPY ignores rules. Rows for such tables are sent as INSERT statements.
func (r *Repository[T, K]) Import(ctx context.Context, rows iter.Seq2[T, error], opts ...ImportOption) (int64, error) {
	ctx = r.named(ctx, "Import")
	source := r.newImportSource(ctx, "import")
	for _, opt := range opts {
		if opt == nil {
			return 0, &queryError{r.d.label + ": an import option is nil"}
		}
		opt.applyImport(&source.settings)
	}
	var err error
	if source.zero, err = r.d.zeroColumns(source.settings.zeroNames); err != nil {
		return 0, err
	}
	source.due = source.settings.every
	next, stop := iter.Pull2(rows)
	defer stop()
	source.nextRow = next
	return r.importFrom(ctx, source)
}

func (r *Repository[T, K]) newImportSource(ctx context.Context, op string) *importSource[T] {
	return &importSource[T]{ctx: ctx, op: op, d: r.d, began: time.Now()}
}

// importFrom copies the rows of a source into the table.
func (r *Repository[T, K]) importFrom(ctx context.Context, source *importSource[T]) (int64, error) {
	if !source.peek() {
		return 0, nil
	}
	target, err := r.readImportTarget(ctx)
	if err != nil {
		return 0, err
	}
	if source.now = target.now; r.d.clock != nil {
		source.now = r.d.now()
	}
	if source.settings.skip != nil || target.checksLate || target.refusesCopy {
		return r.importChunks(ctx, source, target)
	}
	if err := source.advance(); err != nil {
		return 0, err
	}
	source.pending = true
	if err := r.checkGenerated(ctx, source.op, target, source.layout); err != nil {
		return 0, err
	}
	live, err := r.liveColumns(ctx)
	if err != nil {
		return 0, r.wrap(source.op, err)
	}
	columns := r.d.layoutColumns(source.layout)
	n, err := copyRows(ctx, r.tx, copyTarget{r.d.path, columns, r.d, live}, source.next)
	if source.err != nil {
		return 0, source.err
	}
	if err != nil {
		return 0, r.d.wrapCopy(source.op, err, source.position, columns)
	}
	source.progress(true)
	return n, nil
}

// layoutColumns returns the columns for which an insert of this layout sends values.
func (d *descriptor) layoutColumns(layout []byte) []*column {
	columns := make([]*column, 0, len(layout))
	for i, source := range layout {
		if source != fromDefault {
			columns = append(columns, &d.columns[i])
		}
	}
	return columns
}

// importSource is the rowSource of an import.
type importSource[T any] struct {
	ctx      context.Context //nolint:containedctx // an importSource lives as long as its call
	op       string
	d        *descriptor
	settings importSettings
	zero     zeroColumns
	nextRow  func() (T, error, bool)
	began    time.Time
	now      time.Time
	layout   []byte // of the first row; all others must have it
	buf      []byte // for the layout of the current one
	row      T
	rows     int64
	skipped  int64
	due      int64 // the number of rows at which progress is reported next
	pending  bool  // the current row has been taken to learn the layout
	err      error
	first    func() (T, error, bool) // returns the row that peek has read
}

// peek reads the first row, which following then returns. It reports whether there is one, or an error.
func (s *importSource[T]) peek() bool {
	row, err, ok := s.nextRow()
	s.first = func() (T, error, bool) { return row, err, ok }
	return ok
}

// following returns the next row of the sequence.
func (s *importSource[T]) following() (T, error, bool) { //nolint:revive // the results of iter.Pull2's next
	if first := s.first; first != nil {
		s.first = nil
		return first()
	}
	return s.nextRow()
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

// advance reads the next row of the sequence and checks it.
func (s *importSource[T]) advance() error {
	row, err, ok := s.following()
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
	s.buf = s.zero.fill(s.d.importLayout(s.buf, s.value()))
	if err := s.checkLayout(s.buf, s.rows); err != nil {
		return err
	}
	s.rows++
	s.progress(false)
	return nil
}

// checkLayout returns an error for a row whose layout differs from that of the first one.
func (s *importSource[T]) checkLayout(layout []byte, index int64) error {
	if s.layout == nil {
		s.layout = slices.Clone(layout)
	}
	if bytes.Equal(layout, s.layout) {
		return nil
	}
	for i := range layout {
		if layout[i] != s.layout[i] {
			return &InvalidError{Table: s.d.label, Index: int(index), err: fmt.Errorf("column %q is left to the database in some rows and not "+
				"in others, which one COPY can't do", s.d.columns[i].name)}
		}
	}
	return nil
}

// position returns the position of the row with this number in the COPY, of the last one for -1.
func (s *importSource[T]) position(number int) int {
	if number < 0 {
		return int(s.rows) - 1
	}
	return number
}

func (s *importSource[T]) value() reflect.Value { return reflect.ValueOf(&s.row).Elem() }
