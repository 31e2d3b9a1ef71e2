package typetest_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	tt "github.com/rdsfx-go/rdsfx/internal/testtypes"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// model is a struct type with a field of each of several Go types.
type model struct {
	typ    reflect.Type
	access func(*txn.Manager, string) (access, error)
}

func modelOf[T any]() model { return model{reflect.TypeFor[T](), newAccess[T]} }

func models() []model {
	return []model{
		modelOf[integers](), modelOf[nullable](), modelOf[words](), modelOf[numbers](), modelOf[times](), modelOf[identities](),
		modelOf[lists](), modelOf[documents](), modelOf[shapes](),
	}
}

// field is a field of a model with its column.
type field struct {
	model
	tt.GoType

	name string
}

// fields returns the fields of a model except its key and the extra one. In half of the tables the extra column has a type without a
// binary form, so that a COPY is text.
func (m model) fields(t *testing.T) []field {
	t.Helper()
	var list []field
	for i := 2; i < m.typ.NumField(); i++ {
		f := m.typ.Field(i)
		goType, ok := tt.Find(f.Type, strings.HasSuffix(f.Tag.Get("db"), ",json"))
		require.True(t, ok, "%v.%s has a type that isn't in the table", m.typ, f.Name)
		list = append(list, field{m, goType, strings.ToLower(f.Name)})
	}
	return list
}

// fieldOf returns the field of a column.
func fieldOf(row reflect.Value, column string) reflect.Value {
	return row.FieldByName(strings.ToUpper(column))
}

// A row stores the same whichever way it travels, in every exec mode, and is read the same. That holds for every Go type in every
// column type. The reference is a prepared INSERT by pgx into a column of the base type.
//
// A run tries the same sample of the cells, in some ways and modes. SEED selects another sample. RDSFX_REPO_TYPES=all tries every
// cell in every way and mode. It tries every value that a cell can hold in the default mode, and a random choice of the others.
//
//nolint:tparallel // run waits for the parallel subtests
func TestTypes_AreStoredAndReadTheSameInEveryWay(t *testing.T) {
	t.Parallel()
	s := newSuite(t)
	s.checkPage(t, s.run(t))
}

// thorough are cells that every run tries in every mode, because their ways or modes once differed.
var thorough = []string{
	"uint8 in integer", "*string in name", "string in date", "string in box", "float64 in real", "[]float64 in real[]",
	"int64 in double precision", "pgtype.Numeric in numeric(8,2)", "*string in d_status", "*string in pair", "*string in hstore",
	"*string in regclass", "pgtype.Text in integer[]", "[16]byte in d_int[]", "pgtype.Text in integer",
}

func isThorough(g tt.GoType, c tt.Column) bool {
	return slices.Contains(thorough, fmt.Sprintf("%s in %s", g, c.Type))
}

// run tests all cells and returns their results by Go type and column type.
func (s *suite) run(t *testing.T) map[string]map[string]result {
	t.Helper()
	results, covered := map[string]map[string]result{}, 0
	var mu sync.Mutex
	t.Run("types", func(t *testing.T) {
		for _, m := range models() {
			for _, f := range m.fields(t) {
				covered++
				t.Run(f.String(), func(t *testing.T) {
					t.Parallel()
					found := s.runField(t, f)
					mu.Lock()
					defer mu.Unlock()
					results[f.String()] = found
				})
			}
		}
	})
	require.Len(t, tt.GoTypes(), covered, "each type of the table is in a model")
	return results
}

// sample is the ratio of cells, and again of those that store nothing, from which a short run takes one.
const sample = 8

// runField tests a field in all column types.
func (s *suite) runField(t *testing.T, f field) map[string]result {
	t.Helper()
	conn := s.connect(t)
	hash := fnv.New64()
	_, _ = hash.Write([]byte(f.String()))
	r := rand.New(rand.NewPCG(s.seed, hash.Sum64()))
	var cells []*cell
	for i, column := range s.columns {
		left := !s.full && !*update && r.IntN(sample) > 0 && column.Type != f.Native && !isThorough(f.GoType, column)
		if !f.Fits(column) || left {
			continue
		}
		table := fmt.Sprintf("%s_%s_%d", f.typ.Name(), f.name, i)
		c := &cell{suite: s, field: f, r: r, conn: conn, column: column, reference: reference(i), table: table}
		c.insertReference(t)
		cells = append(cells, c)
	}
	if !s.full && !*update {
		cells = slices.DeleteFunc(cells, func(c *cell) bool { return !c.stores() && r.IntN(sample) > 0 })
	}
	createTables(t, conn, cells)
	results := map[string]result{}
	for _, c := range cells {
		results[c.column.Type] = c.run(t)
	}
	return results
}

// zeros are defaults that a field can hold which can't hold NULL.
var zeros = map[string]string{
	"smallint": "0", "integer": "0", "bigint": "0", "real": "0", "double precision": "0", "numeric": "0.00", "boolean": "false",
	"text": "t", "interval": "0", "timestamptz": "epoch", "uuid": "00000000-0000-0000-0000-000000000000", "inet": "0.0.0.0",
	"cidr": "0.0.0.0/0", "integer[]": "{0,0,0}", "jsonb": "null",
}

// TestModels_ReadTheirZeros makes sure that only the field of a cell can fail.
func TestModels_ReadTheirZeros(t *testing.T) {
	t.Parallel()
	s := newSuite(t)
	conn := s.connect(t)
	for _, m := range models() {
		c := &cell{suite: s, field: field{model: m}, r: rand.New(rand.NewPCG(s.seed, 0)), table: m.typ.Name()}
		createTables(t, conn, []*cell{c})
		_, err := conn.Exec(t.Context(), "insert into "+c.table+" (id) values (1)")
		require.NoError(t, err)
		a := c.open(t, s.names[0])
		_, err = a.read(t.Context(), "Get", 1)
		require.NoError(t, err, m.typ)
		require.NoError(t, a.write(t.Context(), "Create", c.rows(2, []*valueCase{{}}), ""), m.typ)
	}
}

func createTables(t *testing.T, conn *pgx.Conn, cells []*cell) {
	t.Helper()
	var ddl strings.Builder
	for _, c := range cells {
		extra := []string{"text", "pg_lsn"}[c.r.IntN(2)]
		ddl.WriteString("create unlogged table " + c.table + " (id bigint primary key, extra " + extra + " default '0/0'")
		for _, f := range c.fields(t) {
			typ := f.Native
			if zero := zeros[f.Native]; zero != "" {
				typ += " default '" + zero + "'"
			}
			if f.name == c.name {
				typ = c.column.Type
			}
			ddl.WriteString(", " + f.name + " " + typ)
		}
		ddl.WriteString(");")
	}
	_, err := conn.Exec(t.Context(), ddl.String())
	require.NoError(t, err)
}

// cell is a Go type in a column type.
type cell struct {
	*suite
	field

	r                *rand.Rand
	conn             *pgx.Conn // of plain pgx
	column           tt.Column
	reference, table string
	cases            []*valueCase
	fixed            int    // cases that are in the table
	mode             string // that is tried
	// unreadable is set if the repository refuses the field's type in this column, in the mode that is tried.
	unreadable bool
	lastID     int64
}

// valueCase is a value, and what becomes of it.
type valueCase struct {
	value any
	arg   any // of hand-written code
	id    int64
	// stored is the text of the stored value, nil for NULL. refused is the class of the error if it isn't stored.
	stored  *string
	refused string
	// read is what is read. unread is set if reading it fails, in the mode that is tried.
	read   reflect.Value
	unread bool
	// unsent is set if plain pgx can't encode the value.
	unsent bool
	// onlyRead is set for a row that is inserted by SQL only.
	onlyRead bool
}

// stores reports whether the column can store any value but NULL.
func (c *cell) stores() bool {
	return slices.ContainsFunc(c.cases, func(v *valueCase) bool { return v.stored != nil })
}

// insertReference inserts the values into a column of the base type with plain pgx.
func (c *cell) insertReference(t *testing.T) {
	t.Helper()
	values := c.Values(c.column)
	c.fixed = len(values)
	for range 2 {
		values = append(values, c.Random(c.r, c.column))
	}
	for _, value := range values {
		arg, err := c.Arg(value, c.column)
		require.NoError(t, err)
		v := &valueCase{value: value, arg: arg}
		if c.column.IsNoBits(arg) {
			v.refused = "ValueError"
			c.cases = append(c.cases, v)
			continue
		}
		err = c.conn.QueryRow(t.Context(), "insert into "+c.reference+" (v) values ($1) returning id, v::text", arg).Scan(&v.id, &v.stored)
		if err != nil {
			_, answered := errors.AsType[*pgconn.PgError](err)
			v.refused, v.unsent = classOfReference(err), !answered
		}
		c.cases = append(c.cases, v)
	}
	null := &valueCase{onlyRead: true}
	require.NoError(t, c.conn.QueryRow(t.Context(), "insert into "+c.reference+" default values returning id").Scan(&null.id))
	c.cases = append(c.cases, null)
}

// classOfReference returns the class of error that a repository returns where plain pgx fails.
func classOfReference(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok, pg.Code[:2] == "22":
		return "ValueError"
	case pg.Code[:2] == "23":
		return "ConstraintError"
	}
	return "other " + pg.Code
}

// classOf returns the class of an error of a repository.
func classOf(err error) string {
	if err == nil {
		return ""
	}
	if _, ok := errors.AsType[*txn.CommittedError](err); ok {
		return "CommittedError"
	}
	if _, ok := errors.AsType[*repo.ReadError](err); ok {
		return "ReadError"
	}
	if _, ok := errors.AsType[*repo.ConstraintError](err); ok {
		return "ConstraintError"
	}
	if errors.Is(err, repo.ErrValue) {
		return "ValueError"
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "other " + pg.Code
	}
	return "other " + err.Error()
}

// nextID returns the first of some new keys.
func (c *cell) nextID() int64 {
	c.lastID += 100
	return c.lastID
}

// run tests the cell.
func (c *cell) run(t *testing.T) result {
	t.Helper()
	first := c.open(t, c.names[0])
	c.mode = c.names[0]
	c.copyReference(t)
	c.sendMore(t, first)
	c.enter(t, first)
	modes, allWays, allReads := c.names, ways(), reads()
	if !c.full {
		c.r.Shuffle(len(allWays), func(i, j int) { allWays[i], allWays[j] = allWays[j], allWays[i] })
		allWays = allWays[:3]
	}
	if !c.tryAll() {
		modes = []string{c.names[c.r.IntN(len(c.names))]}
		c.r.Shuffle(len(allReads), func(i, j int) { allReads[i], allReads[j] = allReads[j], allReads[i] })
		allReads = allReads[:2]
	}
	for _, mode := range modes {
		a := c.open(t, mode)
		c.mode = mode
		if c.readsOtherwise(mode) {
			c.enter(t, a)
		}
		for _, read := range allReads {
			c.checkRead(t, a, read)
		}
		if c.stores() {
			c.checkFilters(t, a)
			c.checkPages(t, a)
		}
		for _, w := range allWays {
			c.checkWay(t, a, w)
		}
	}
	c.mode = c.names[0]
	c.enter(t, first)
	return c.result(t, first)
}

// readsOtherwise reports whether a mode may refuse to read what others read: it reads text, or it lacks codecs. The values
// that are read have to be the same.
func (c *cell) readsOtherwise(mode string) bool {
	return mode == "exec" || mode == "simple_protocol" || mode == "stock codecs"
}

//nolint:ireturn // see access
func (c *cell) open(t *testing.T, mode string) access {
	t.Helper()
	a, err := c.access(c.pools[mode], c.table)
	require.NoError(t, err)
	return a
}

// tryAll reports whether every value is tried by every read in every mode.
func (c *cell) tryAll() bool { return c.full || isThorough(c.GoType, c.column) }

// failf reports a difference from hand-written SQL, from another way or from the default mode. check is the way, the read or the
// filter, "pages" or "mode".
func (c *cell) failf(t *testing.T, check, format string, args ...any) {
	t.Helper()
	t.Errorf("%s in %s: %s, %s: %s (SEED=%d)", c.GoType, c.column.Type, c.mode, check, fmt.Sprintf(format, args...), c.seed)
}

// copyReference copies the reference's rows into the cell's table. A domain may refuse some.
func (c *cell) copyReference(t *testing.T) {
	t.Helper()
	for i, v := range c.cases {
		if v.refused != "" {
			continue
		}
		sql := "insert into " + c.table + " (id, " + c.name + ") select $1::bigint, v from " + c.reference + " where id = $2"
		_, err := c.conn.Exec(t.Context(), sql, i, v.id)
		if err != nil {
			v.refused = classOfReference(err)
		}
	}
}

// enter finds out what can be read in a mode.
func (c *cell) enter(t *testing.T, a access) {
	t.Helper()
	for i, v := range c.cases {
		if v.refused != "" {
			continue
		}
		row, err := a.read(t.Context(), "Get", int64(i))
		switch class := classOf(err); class {
		case "":
			read := fieldOf(row, c.name)
			if v.read.IsValid() && !tt.Same(v.read, read) && !c.Text {
				c.failf(t, "mode", "Get reads %#v, but in the default mode %#v", read, v.read)
			}
			v.read, v.unread = read, false
		case "ReadError":
			v.unread = true
		default:
			c.failf(t, "Get", "%#v: %v", v.value, err)
		}
	}
	err := a.write(t.Context(), "Create", c.rows(c.nextID(), c.cases[:1]), c.name)
	c.unreadable = classOf(err) == "ReadError"
}

// sendMore finds the values that the pool's connections send, while plain pgx can't: lists for types that it doesn't know.
func (c *cell) sendMore(t *testing.T, a access) {
	t.Helper()
	for i, v := range c.cases {
		if !v.unsent {
			continue
		}
		id := c.nextID()
		if class := classOf(a.write(t.Context(), "UpdateWhere", c.existing(t, id, []*valueCase{v}), c.name)); class != "" {
			if class != "ReadError" {
				v.refused = class
			}
			continue
		}
		v.refused, v.stored = "", c.storedTexts(t, id, 1, true)[0]
		sql := "insert into " + c.table + " (id, " + c.name + ") select $1::bigint, " + c.name + " from " + c.table + " where id = $2"
		_, err := c.conn.Exec(t.Context(), sql, i, id)
		require.NoError(t, err)
	}
}

// existing inserts rows without values and returns the rows to write.
func (c *cell) existing(t *testing.T, id int64, cases []*valueCase) reflect.Value {
	t.Helper()
	_, err := c.conn.Exec(t.Context(), "insert into "+c.table+" (id) select generate_series($1::bigint, $2)", id, id+int64(len(cases))-1)
	require.NoError(t, err)
	return c.rows(id, cases)
}

// rows returns rows with these values.
func (c *cell) rows(id int64, cases []*valueCase) reflect.Value {
	list := reflect.MakeSlice(reflect.SliceOf(c.typ), len(cases), len(cases))
	for i, v := range cases {
		list.Index(i).Field(0).SetInt(id + int64(i))
		list.Index(i).Field(1).SetString("0/0")
		if value := reflect.ValueOf(v.value); value.IsValid() && c.name != "" {
			fieldOf(list.Index(i), c.name).Set(value)
		}
	}
	return list
}

// checkRead requires that the rows are read as by Get in the default mode.
func (c *cell) checkRead(t *testing.T, a access, read string) {
	t.Helper()
	for i, v := range c.cases {
		if v.refused != "" {
			continue
		}
		row, err := a.read(t.Context(), read, int64(i))
		switch class := classOf(err); {
		case v.unread && class == "ReadError":
		case v.unread || class != "":
			c.failf(t, read, "%v, but Get fails: %v: %#v", err, v.unread, v.value)
		case !tt.Same(v.read, fieldOf(row, c.name)):
			c.failf(t, read, "reads %#v, but Get %#v", fieldOf(row, c.name), v.read)
		}
	}
}

// last is the largest key of the reference's rows.
const last = 99

// byHand returns the keys that hand-written SQL finds.
func (c *cell) byHand(t *testing.T, sql string, args ...any) ([]int64, error) {
	t.Helper()
	rows, _ := c.conn.Query(t.Context(), sql, args...)
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// checkFilters requires that filters find what hand-written SQL finds.
func (c *cell) checkFilters(t *testing.T, a access) {
	t.Helper()
	cases := c.cases[:len(c.cases)-1]
	if !c.tryAll() {
		i := c.r.IntN(len(cases))
		cases = cases[i : i+1]
	}
	for _, v := range cases {
		if v.refused != "" || v.unsent || c.isMarshaled(v) {
			continue
		}
		operand := c.name
		if c.column.Type != c.column.Base { // a domain
			operand += "::" + c.column.Base
		}
		want, failed := c.byHand(t, "select id from "+c.table+" where "+operand+" = $1 and id <= $2 order by id", v.arg, last)
		if v.stored == nil {
			want, failed = c.byHand(t, "select id from "+c.table+" where "+c.name+" is not distinct from null and id <= $1 order by id", last)
		}
		if _, answered := errors.AsType[*pgconn.PgError](failed); failed != nil && !answered {
			continue // plain pgx can't send the value to a domain
		}
		filters := map[string]repo.Filter{"Eq": repo.Eq(c.name, v.value), "In": repo.In(c.name, v.value)}
		if strings.HasSuffix(c.column.Base, "[]") || c.isList() || c.JSON {
			delete(filters, "In") // a list of lists is another list
		}
		if zero := reflect.ValueOf(v.value); zero.IsValid() && zero.IsZero() && zero.Type().PkgPath() == "net/netip" {
			delete(filters, "In") // see Eq
		}
		for name, filter := range filters {
			got, err := a.find(t.Context(), repo.And(filter, repo.Lte("id", last)))
			if (failed == nil) != (err == nil) || failed == nil && !slices.Equal(want, got) {
				c.failf(t, name, "%#v: finds %v, %v, but hand-written SQL %v, %v", v.value, got, err, want, failed)
			}
		}
	}
}

// checkPages requires that pages have the order of hand-written SQL.
func (c *cell) checkPages(t *testing.T, a access) {
	t.Helper()
	if c.JSON || slices.ContainsFunc(c.cases, func(v *valueCase) bool { return v.unread }) {
		return
	}
	want, failed := c.byHand(t, "select id from "+c.table+" order by "+c.name+", id")
	got, err := a.pages(t.Context(), repo.Asc(c.name))
	if (failed == nil) != (err == nil) || failed == nil && !slices.Equal(want, got) {
		c.failf(t, "pages", "finds %v, %v, but hand-written SQL %v, %v", got, err, want, failed)
	}
}

// isList reports whether a list of the field's type is a list of lists.
func (c *cell) isList() bool {
	typ := c.Type
	if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8 {
		return c.column.Type != c.Native
	}
	return typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice
}

// isMarshaled reports whether a value that stands for NULL elsewhere is sent as a document, because it isn't a driver.Valuer.
func (c *cell) isMarshaled(v *valueCase) bool {
	_, valuer := v.value.(driver.Valuer)
	return !valuer && v.stored != nil && slices.Contains([]string{"json", "jsonb", "xml"}, c.column.Base)
}

// expected returns the class of error that a way returns for a value, and whether the row is stored.
func (c *cell) expected(w way, v *valueCase) (class string, stored bool) {
	switch {
	case c.unreadable:
		return "ReadError", false
	case v.refused != "":
		return v.refused, false
	case !v.unread, w.kind == writing:
		return "", true
	case w.kind == single:
		return "CommittedError", true
	}
	return "ReadError", false
}

// tried returns the values that are written in a way. A full run writes all in the default mode and some in the other modes. It writes
// fewer in a cell that refuses all, for a reason that doesn't depend on the value.
func (c *cell) tried() []*valueCase {
	cases := c.cases[:len(c.cases)-1]
	some, isDefault := 3, c.mode == c.names[0]
	switch {
	case !c.full, isDefault && c.stores() && !c.unreadable:
		return cases
	case c.unreadable, !isDefault && !c.stores():
		some = 1
	}
	cases = slices.Clone(cases)
	c.r.Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	return cases[:min(some, len(cases))]
}

// checkWay writes values in a way. The values that fit travel together, if the way takes several rows.
func (c *cell) checkWay(t *testing.T, a access, w way) {
	t.Helper()
	cases := c.tried()
	var good []*valueCase
	for _, v := range cases {
		if class, _ := c.expected(w, v); class == "" {
			good = append(good, v)
		}
	}
	if w.many && len(good) > 0 {
		c.write(t, a, w, good, 0)
	}
	for _, v := range cases {
		class, _ := c.expected(w, v)
		switch {
		case class == "" && w.many:
		case w.many && len(good) > 0: // the refused row is the second
			c.write(t, a, w, []*valueCase{good[0], v}, 1)
		default:
			c.write(t, a, w, []*valueCase{v}, 0)
		}
	}
}

// write writes rows of which only the one at this index may be refused.
func (c *cell) write(t *testing.T, a access, w way, cases []*valueCase, index int) {
	t.Helper()
	id := c.nextID()
	rows := c.rows(id, cases)
	if w.existing {
		rows = c.existing(t, id, cases)
	}
	err := a.write(t.Context(), w.name, rows, c.name)
	class, stored := c.expected(w, cases[index])
	if len(cases) == 1 && w.many && class == "ReadError" && !c.unreadable {
		return // one row isn't written in a transaction
	}
	if found := classOf(err); found != class {
		c.failf(t, w.name, "%#v: %q (%v), but expected is %q", cases[index].value, found, err, class)
		return
	}
	c.checkError(t, w.name, cases[index], err, index, w.many && len(cases) > 1)
	for i, text := range c.storedTexts(t, id, len(cases), w.existing) {
		want := cases[i].stored
		if !stored {
			want = nil
		}
		if !reflect.DeepEqual(want, text) {
			c.failf(t, w.name, "%#v: stores %v, but hand-written SQL %v", cases[i].value, printed(text), printed(want))
		}
	}
	if err == nil && w.kind != writing && w.name != "Patch" {
		for i, v := range cases {
			if got := fieldOf(rows.Index(i), c.name); !tt.Same(v.read, got) {
				c.failf(t, w.name, "%#v: returns %#v, but Get %#v", v.value, got, v.read)
			}
		}
	}
}

// storedTexts returns the stored values. Rows that existed stay.
func (c *cell) storedTexts(t *testing.T, id int64, n int, existing bool) []*string {
	t.Helper()
	//nolint:rowserrcheck // ForEachRow checks it
	rows, _ := c.conn.Query(t.Context(), "select "+c.name+"::text, id from "+c.table+" where id between $1 and $2", id, id+int64(n)-1)
	contents, found := make([]*string, n), 0
	var text *string
	var at int64
	_, err := pgx.ForEachRow(rows, []any{&text, &at}, func() error {
		contents[at-id], text = text, nil
		found++
		return nil
	})
	require.NoError(t, err)
	if existing {
		require.Equal(t, n, found)
	}
	return contents
}

// checkError requires that an error names the row and the column.
func (c *cell) checkError(t *testing.T, way string, v *valueCase, err error, index int, many bool) {
	t.Helper()
	if err == nil || c.unreadable {
		return
	}
	if value, ok := errors.AsType[*repo.ValueError](err); ok && value.Column != c.name && (value.Column != "" || value.Code == "") {
		c.failf(t, way, "%#v: the error names column %q: %v", v.value, value.Column, err)
	}
	if !many {
		return
	}
	found := -1
	if row, ok := errors.AsType[*repo.RowError](err); ok {
		found = row.Index
	} else if constraint, ok := errors.AsType[*repo.ConstraintError](err); ok {
		found = constraint.Index
	} else if _, ok := errors.AsType[*repo.ReadError](err); ok {
		return
	}
	if found != index && !strings.HasPrefix(classOf(err), "other") { // a statement that is wrong in itself
		c.failf(t, way, "%#v: the error names row %d: %v", v.value, found, err)
	}
}

func printed(text *string) string {
	if text == nil {
		return "NULL"
	}
	return strconv.Quote(*text)
}
