package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// A stage is a temp table into which rows are copied, and from which one statement then writes them where they belong. It
// has no constraints and lives no longer than the transaction.
type stage struct {
	name    string // quoted
	path    pgx.Identifier
	columns []*column // as the model's, but called c0, c1 and so on, so that no name means two things
	// of tells what a column of the model is called in the stage, by its position.
	aliases map[int]string
	create  string
}

// stageFrom is from how many rows on upserts and updates are staged, unless [WithStagingThreshold] says otherwise.
const stageFrom = 256

// newStage describes a stage for the columns at these positions of the model. The same columns always give the same texts.
func (d *descriptor) newStage(positions []int) *stage {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(d.table))
	s := &stage{aliases: make(map[int]string, len(positions))}
	idents := make([]string, len(positions))
	for i, position := range positions {
		c := d.columns[position]
		_, _ = sum.Write([]byte(c.ident))
		s.aliases[position] = "c" + strconv.Itoa(i)
		idents[i] = c.ident + " as " + s.aliases[position]
		c.name, c.ident = s.aliases[position], s.aliases[position]
		s.columns = append(s.columns, &c)
	}
	s.path = pgx.Identifier{"pg_temp", "rdsfx_" + hex.EncodeToString(sum.Sum(nil))}
	s.name = s.path.Sanitize()
	s.create = "create temp table " + s.path[1:].Sanitize() + " on commit drop as select " + strings.Join(idents, ", ") +
		" from " + d.table + " with no data"
	return s
}

// stageOf returns the stage for columns, which is described once.
func (d *descriptor) stageOf(positions []int) *stage {
	var key []byte
	for _, position := range positions {
		key = strconv.AppendInt(append(key, ' '), int64(position), 10)
	}
	if known, ok := d.statements.stages.Load(string(key)); ok {
		return known.(*stage) //nolint:forcetypeassert // nothing else is stored
	}
	known, _ := d.statements.stages.LoadOrStore(string(key), d.newStage(positions))
	return known.(*stage) //nolint:forcetypeassert // nothing else is stored
}

// meets returns the condition that a row t of the table and a row s of the stage are the same in these columns.
func (s *stage) joinCondition(d *descriptor, positions []int) string {
	parts := make([]string, len(positions))
	for i, position := range positions {
		parts[i] = d.columns[position].ident + " = " + s.aliases[position]
	}
	return strings.Join(parts, " and ")
}

// drop is the statement that removes the stage before the transaction ends, so that the next one has the name to itself.
func (s *stage) drop() string { return "drop table " + s.name }

// errUnstaged says that rows couldn't be brought into a stage, and may well be written in another way: the role may not make
// one, or a value can only be sent in text.
var errNotStaged = errors.New("repo: the rows couldn't be staged")

// unstaged marks an error of filling a stage, unless the connection or the transaction is what has failed.
func markNotStaged(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || sqlstate.CauseOf(err) != sqlstate.Unknown ||
		sqlstate.RemedyOf(err, false) != sqlstate.NoRetry {
		return err
	}
	return fmt.Errorf("%w: %w", errNotStaged, err)
}

// fillStage makes the stage and copies rows into it, in this order. It may fail with errUnstaged.
func (w *bulkWrite[T, K]) fillStage(ctx context.Context, s *stage, positions []int, complete func(row reflect.Value)) error {
	r := w.repository
	if _, err := r.exec(ctx, s.create, nil); err != nil {
		return markNotStaged(r.wrap(w.op, err))
	}
	source := &sliceSource{rows: w.values, positions: positions, row: reflect.New(r.d.typ).Elem(), complete: complete}
	_, err := copyRows(ctx, r.tx, s.path, s.columns, source.next)
	return markNotStaged(r.d.wrapCopy(w.op, err, source.position, s.columns))
}

// sliceSource hands out rows of a slice in some order. Each is a completed copy: the slice's own are not touched.
type sliceSource struct {
	rows      reflect.Value
	positions []int
	row       reflect.Value
	complete  func(row reflect.Value)
	sent      int
}

func (s *sliceSource) next() (reflect.Value, error) {
	if s.sent == len(s.positions) {
		return reflect.Value{}, errNoMoreRows
	}
	s.row.Set(s.rows.Index(s.positions[s.sent]))
	s.complete(s.row)
	s.sent++
	return s.row, nil
}

// position returns the position of the row with this number in the COPY, that of the last one for -1.
func (s *sliceSource) position(number int) int {
	if number < 0 {
		number = s.sent - 1
	}
	if number < 0 || number >= len(s.positions) {
		return -1
	}
	return s.positions[number]
}

// stages reports whether so many rows are staged.
func (d *descriptor) stages(rows int) bool {
	from := d.stageFrom
	if from == 0 {
		from = stageFrom
	}
	return from > 0 && rows >= from
}
