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

// stage is a temporary table into which rows are copied, and from which one statement writes them into the model's table. It
// has no constraints and is dropped with the transaction at the latest. The number of each row in the COPY travels with it, so
// the server alone decides which rows of the table belong to it.
//
// In statements the table is called t and the stage s, and all columns are qualified. Names of the model can't be confused with
// these. An alias hides the name of its table, and a qualified name never means a column alone.
type stage struct {
	from    string // the stage with its alias, for a FROM clause
	name    string // quoted
	path    pgx.Identifier
	columns []*column // as the model's, but named c0, c1 and so on, and the row's number
	// aliases are the names of the model's columns in statements with the stage, by position.
	aliases map[int]string
	create  string
}

// ordinal is the name of the row's number in a statement with a stage.
const ordinal = "s.n"

// stageFrom is the default of [WithStagingThreshold].
const stageFrom = 256

// newStage describes a stage for the columns at these positions of the model. The same columns always give the same
// statements.
func (d *descriptor) newStage(positions []int) *stage {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(d.table))
	s := &stage{aliases: make(map[int]string, len(positions))}
	var selected strings.Builder
	for i, position := range positions {
		c := d.columns[position]
		_, _ = sum.Write([]byte(c.ident))
		name := "c" + strconv.Itoa(i)
		selected.WriteString(c.ident + " as " + name + ", ")
		s.aliases[position] = "s." + name
		c.name, c.ident = name, name
		s.columns = append(s.columns, &c)
	}
	s.columns = append(s.columns, &column{name: "n", ident: "n", ordinal: true})
	s.path = pgx.Identifier{"pg_temp", "rdsfx_" + hex.EncodeToString(sum.Sum(nil))}
	s.name = s.path.Sanitize()
	s.from = s.name + " as s"
	s.create = "create temp table " + s.path[1:].Sanitize() + " on commit drop as select " + selected.String() + "null::bigint as n from " +
		d.table + " with no data"
	return s
}

// stageOf returns the stage for columns, from a cache.
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

// joinCondition returns the condition that a row of the table t and a row of the stage are equal in these columns.
func (s *stage) joinCondition(d *descriptor, positions []int) string {
	parts := make([]string, len(positions))
	for i, position := range positions {
		parts[i] = d.operand("t."+d.columns[position].ident, position) + " = " + d.operand(s.aliases[position], position)
	}
	return strings.Join(parts, conjunction)
}

// drop returns the statement that drops the stage before the transaction ends, so its name can be used again.
func (s *stage) drop() string { return "drop table " + s.name }

// errNotStaged reports that rows couldn't be copied into a stage but may be written in another way. The login user may not create
// temporary tables, or a value can only be sent as text.
var errNotStaged = errors.New("repo: the rows can't be staged")

// markNotStaged marks an error of filling a stage, unless the connection or the transaction has failed.
func markNotStaged(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || sqlstate.CauseOf(err) != sqlstate.Unknown ||
		sqlstate.RemedyOf(err, false) != sqlstate.NoRetry {
		return err
	}
	return fmt.Errorf("%w: %w", errNotStaged, err)
}

// fillStage creates the stage and copies rows into it, in this order. It may return errNotStaged.
func (w *bulkWrite) fillStage(ctx context.Context, s *stage, positions []int, complete func(row reflect.Value)) error {
	r := w.repository
	if _, err := r.exec(ctx, s.create, nil); err != nil {
		return markNotStaged(r.wrap(w.op, err))
	}
	source := &sliceSource{rows: w.values, positions: positions, row: reflect.New(r.d.typ).Elem(), complete: complete}
	_, err := copyRows(ctx, r.tx, copyTarget{s.path, s.columns, r.d, w.live}, source.next)
	return markNotStaged(r.d.wrapCopy(w.op, err, source.position, s.columns))
}

// sliceSource is a rowSource of a slice's rows in some order. It returns completed copies; the slice is unchanged.
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

// position returns the position of the row with this number in the COPY, of the last one for -1.
func (s *sliceSource) position(number int) int {
	if number < 0 {
		number = s.sent - 1
	}
	if number < 0 || number >= len(s.positions) {
		return -1
	}
	return s.positions[number]
}

// stages reports whether a bulk write of so many rows is staged.
func (d *descriptor) stages(rows int) bool {
	from := d.stageFrom
	if from == 0 {
		from = stageFrom
	}
	return from > 0 && rows >= from
}
