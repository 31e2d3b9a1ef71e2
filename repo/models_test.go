package repo_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	tt "github.com/rdsfx-go/rdsfx/internal/testtypes"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// modelField is a Go type in a column type, both of the tables in package testtypes.
type modelField struct {
	tt.GoType

	column  tt.Column
	notNull bool
	value   func(r *rand.Rand) any // nil for the value of the table
}

func goType[V any](asJSON bool) tt.GoType {
	found, ok := tt.Find(reflect.TypeFor[V](), asJSON)
	if !ok {
		panic(reflect.TypeFor[V]())
	}
	return found
}

// random returns a value for the field that the repository doesn't refuse (see tt.Column.IsNoBits).
func (f *modelField) random(r *rand.Rand) any {
	if f.value != nil {
		return f.value(r)
	}
	for {
		if value := f.Random(r, f.column); !f.column.IsNoBits(value) {
			return value
		}
	}
}

// isRarelyBits reports whether random would search for a value for long, or forever.
func (f *modelField) isRarelyBits(r *rand.Rand) bool {
	for range 20 {
		if !f.column.IsNoBits(f.Random(r, f.column)) {
			return false
		}
	}
	return true
}

func randomUUID(r *rand.Rand) (id uuid.UUID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// columnOf returns the entry of a column type.
func columnOf(columns []tt.Column, typ string) tt.Column {
	for _, c := range columns {
		if c.Type == typ {
			return c
		}
	}
	panic(typ)
}

// randomKey returns the field of a key.
func randomKey(r *rand.Rand, columns []tt.Column) modelField {
	key := func(g tt.GoType, value func(r *rand.Rand) any, types ...string) modelField {
		return modelField{g, columnOf(columns, pick(r, types...)), false, value}
	}
	return pick(r,
		key(goType[int64](false), func(r *rand.Rand) any { return r.Int64N(1 << 31) }, "bigint", "integer", "numeric", "d_int"),
		key(goType[uuid.UUID](false), func(r *rand.Rand) any { return randomUUID(r) }, "uuid", "text", "d_uuid"),
		key(goType[string](false), func(r *rand.Rand) any { return randomUUID(r).String() }, "text", "d_text"),
		key(goType[time.Time](false), func(r *rand.Rand) any { return time.Unix(r.Int64N(4e9), 0) }, "timestamptz", "d_timestamptz"))
}

// randomField returns a field with a column that fits it, mostly the type's own.
func randomField(r *rand.Rand, columns []tt.Column) modelField {
	for {
		f := modelField{GoType: pick(r, tt.GoTypes()...), notNull: r.IntN(8) == 0}
		if f.column = columnOf(columns, f.Native); r.IntN(3) == 0 {
			f.column = pick(r, columns...)
		}
		if f.Fits(f.column) && !f.isRarelyBits(r) {
			return f
		}
	}
}

// randomModel is a struct type that is created at run time, with its table.
type randomModel struct {
	typ    reflect.Type
	names  []string // of the columns
	paths  [][]int  // of their fields
	fields []modelField
	ddl    string // of the table's columns
}

const keyColumns = 1

func newRandomModel(r *rand.Rand, columns []tt.Column) *randomModel {
	m := &randomModel{}
	var fields []reflect.StructField
	var ddl []string
	add := func(f modelField, roles, constraint string) {
		i := len(fields)
		name := pick(r, "f", "F", "select", "from ", `quo"te`, "ünï", "per%cent", "$1", "q?", "a.b", ":x", "@y") + strconv.Itoa(i)
		tag := name + roles
		if f.JSON {
			tag += ",json"
		}
		fields = append(fields, reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: f.Type, Tag: reflect.StructTag("db:" + strconv.Quote(tag)),
		})
		m.names, m.paths, m.fields = append(m.names, name), append(m.paths, []int{i}), append(m.fields, f)
		ddl = append(ddl, pgx.Identifier{name}.Sanitize()+" "+f.column.Type+constraint)
	}
	add(randomKey(r, columns), ",pk", " primary key")
	for range 1 + r.IntN(12) {
		if f := randomField(r, columns); f.notNull {
			add(f, "", " not null")
		} else {
			add(f, "", "")
		}
	}
	if r.IntN(3) == 0 { // a nested struct
		i := len(fields)
		fields = append(fields, reflect.StructField{Name: "Home", Type: reflect.TypeFor[Address]()})
		text := columnOf(columns, "text")
		m.names, m.paths = append(m.names, "home.street", "home.city"), append(m.paths, []int{i, 0}, []int{i, 1})
		m.fields = append(m.fields,
			modelField{GoType: goType[string](false), column: text}, modelField{GoType: goType[*string](false), column: text})
		ddl = append(ddl, `"home.street" text`, `"home.city" varchar(300)`)
	}
	ddl = append(ddl, `"one more" integer not null default 7`, `"and another" text`)
	r.Shuffle(len(ddl), func(i, j int) { ddl[i], ddl[j] = ddl[j], ddl[i] })
	m.typ, m.ddl = reflect.StructOf(fields), strings.Join(ddl, ", ")
	return m
}

// row returns a random row.
func (m *randomModel) row(r *rand.Rand) reflect.Value {
	row := reflect.New(m.typ).Elem()
	for i, path := range m.paths {
		if value := reflect.ValueOf(m.fields[i].random(r)); value.IsValid() {
			row.FieldByIndex(path).Set(value)
		}
	}
	return row
}

// args returns a row's values as hand-written code passes them to pgx.
func (m *randomModel) args(t *testing.T, row reflect.Value) []any {
	t.Helper()
	args := make([]any, len(m.paths))
	for i, path := range m.paths {
		f, field := row.FieldByIndex(path), &m.fields[i]
		nilled := f.Kind() == reflect.Pointer || f.Kind() == reflect.Map || f.Kind() == reflect.Slice && f.Type().Elem().Kind() != reflect.Uint8
		if field.notNull && (field.column.Base == "json" || field.column.Base == "jsonb") && nilled && f.IsNil() {
			args[i] = "null" // JSON's null is read as nil
			continue
		}
		var err error
		args[i], err = field.Arg(f.Interface(), field.column)
		require.NoError(t, err)
	}
	return args
}

// placeholder returns the placeholder of a column's value. The driver doesn't know domains.
func (m *randomModel) placeholder(i int) string {
	text := "$" + strconv.Itoa(i+1)
	if c := m.fields[i].column; c.Type != c.Base {
		text += "::" + c.Base
	}
	return text
}

func (m *randomModel) list() string {
	idents := make([]string, len(m.names))
	for i, name := range m.names {
		idents[i] = pgx.Identifier{name}.Sanitize()
	}
	return strings.Join(idents, ", ")
}

// insert returns the INSERT statement of hand-written code.
func (m *randomModel) insert(table string) string {
	numbers := make([]string, len(m.names))
	for i := range numbers {
		numbers[i] = m.placeholder(i)
	}
	return "insert into " + table + " (" + m.list() + ") values (" + strings.Join(numbers, ", ") + ")"
}

func (m *randomModel) update(table string) string {
	var set []string
	for i, name := range m.names[keyColumns:] {
		set = append(set, pgx.Identifier{name}.Sanitize()+" = "+m.placeholder(i+keyColumns))
	}
	return "update " + table + " set " + strings.Join(set, ", ") + " where " + m.byKey()
}

// byKey returns the condition that selects a row by its key.
func (m *randomModel) byKey() string {
	return pgx.Identifier{m.names[0]}.Sanitize() + " = " + m.placeholder(0)
}

// modelPools opens a pool of each exec mode on a database with every column type that the server has. The first has the default mode.
func modelPools(t *testing.T) (pools []*txn.Manager, columns []tt.Column) {
	t.Helper()
	first := newDB(t)
	url := first.Pool().Config().ConnConfig.ConnString()
	m := managerOf(t, first, strings.Split(tt.DDL, ";")...)
	missing := map[string]bool{}
	for _, c := range tt.Columns() {
		if c.Extension != "" && !missing[c.Extension] {
			_, err := m.Exec(t.Context(), "create extension if not exists "+c.Extension)
			missing[c.Extension] = err != nil
		}
		if !missing[c.Extension] {
			columns = append(columns, c)
		}
	}
	pools = append(pools, m)
	for _, config := range []pgfx.Config{
		{ExecMode: pgfx.ExecCacheDescribe},
		{ExecMode: pgfx.ExecDescribe},
		{ExecMode: pgfx.ExecUntyped},
		{ExecMode: pgfx.ExecSimple},
		{DisableFastCodecs: true},
	} {
		config.URL, config.Pool.MaxConns = url, 2
		db, err := pgfx.Open(config)
		require.NoError(t, err)
		require.NoError(t, db.Start(t.Context()))
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
			defer cancel()
			require.NoError(t, db.Close(ctx))
		})
		pools = append(pools, managerOf(t, db))
	}
	return pools, columns
}

// This test creates random struct types with tables that mostly fit them, of the tables of types in package testtypes. It writes random
// rows with hand-written SQL and with the repository, in a random exec mode, and reads them with scany and with the repository. Both
// must store and read the same, or both must fail.
// The environment variable SEED repeats a run, RDSFX_REPO_MODELS sets the number of models, MODEL runs one.
func TestRandomModels_MatchHandWrittenSQLAndScany(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = given
	}
	first, end := 0, 30
	if given, err := strconv.Atoi(os.Getenv("RDSFX_REPO_MODELS")); err == nil {
		end = given
	}
	if given, err := strconv.Atoi(os.Getenv("MODEL")); err == nil {
		first, end = given, given+1
	}
	t.Logf("SEED=%d", seed)
	pools, columns := modelPools(t)
	var all tally
	for i := first; i < end; i++ {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		c := &comparison{t: t, hand: pools[0], m: pick(r, pools...), r: r, tally: &all, number: strconv.Itoa(i), columns: columns}
		c.name = fmt.Sprintf("SEED=%d model %d", seed, i)
		c.run()
		if t.Failed() {
			return
		}
	}
	t.Logf("%+v", all)
	if end-first == 1 {
		return
	}
	require.Positive(t, all.Written)
	require.Positive(t, all.Read)
	require.Positive(t, all.Rejected, "the random rows include some that don't fit")
	require.Positive(t, all.Unreadable, "some models have columns that can't be read into their fields")
}

// tally counts outcomes.
type tally struct{ Written, Rejected, Copied, CopyRejected, Updated, Read, ReadFailed, Unreadable int }

// comparison is the test of one model.
type comparison struct {
	t *testing.T
	// hand is the pool of hand-written SQL, m that of the repository.
	hand, m *txn.Manager
	r       *rand.Rand
	tally   *tally
	// name and number identify the model.
	name, number string
	columns      []tt.Column
	model        *randomModel
}

func (c *comparison) exec(sql string) {
	c.t.Helper()
	_, err := c.hand.Exec(c.t.Context(), sql)
	require.NoError(c.t, err, c.name+": "+sql)
}

// bothSucceed requires that hand-written SQL and the repository either both succeed or both fail.
func (c *comparison) bothSucceed(operation string, hand, ours error) bool {
	c.t.Helper()
	if (hand == nil) != (ours == nil) {
		c.t.Fatalf("%s: %s:\nhand-written: %v\nrepository: %v\n%v\n%s", c.name, operation, hand, ours, c.model.typ, c.model.ddl)
	}
	return hand == nil
}

func (c *comparison) run() {
	c.t.Helper()
	ctx := c.t.Context()
	c.model = newRandomModel(c.r, c.columns)
	hand, ours, handCopy, oursCopy := "hand"+c.number, "ours"+c.number, "hand_copy"+c.number, "ours_copy"+c.number
	like := "; create unlogged table %s (like " + hand + " including all)"
	c.exec("create unlogged table " + hand + " (" + c.model.ddl + ")" + fmt.Sprintf(strings.Repeat(like, 3), ours, handCopy, oursCopy))
	defer c.exec("drop table " + strings.Join([]string{hand, ours, handCopy, oursCopy}, ", "))
	core, err := repo.NewCore(c.m, c.model.typ, ours)
	require.NoError(c.t, err, c.name)
	if core.Unreadable() != nil {
		c.tally.Unreadable++
		return // the repository refuses every write
	}
	copies, err := repo.NewCore(c.m, c.model.typ, oursCopy)
	require.NoError(c.t, err, c.name)
	var rows []reflect.Value
	for range 8 {
		row := c.model.row(c.r)
		args := c.model.args(c.t, row)
		_, err := c.hand.Exec(ctx, c.model.insert(hand), args...)
		if count(c.bothSucceed("insert", err, core.Insert(ctx, row)), &c.tally.Written, &c.tally.Rejected); err == nil {
			rows = append(rows, row)
		}
		_, err = c.hand.Exec(ctx, c.model.insert(handCopy), args...)
		count(c.bothSucceed("copy", err, copies.Copy(ctx, row)), &c.tally.Copied, &c.tally.CopyRejected)
	}
	c.sameTables(hand, ours)
	c.sameTables(handCopy, oursCopy)
	for _, row := range rows[:len(rows)/2] {
		changed := c.model.row(c.r)
		changed.Field(0).Set(row.Field(0))
		_, err := c.hand.Exec(ctx, c.model.update(hand), c.model.args(c.t, changed)...)
		if c.bothSucceed("update", err, core.Update(ctx, changed)) {
			c.tally.Updated++
		}
	}
	c.sameTables(hand, ours)
	c.read(core, ours, rows)
}

// count increments one of two counters.
func count(ok bool, successes, failures *int) {
	if ok {
		*successes++
	} else {
		*failures++
	}
}

// read reads all rows, and each row by its key, with scany and with both readers of the repository.
func (c *comparison) read(core *repo.Core, table string, rows []reflect.Value) {
	c.t.Helper()
	ctx := c.t.Context()
	key := pgx.Identifier{c.model.names[0]}.Sanitize()
	list := reflect.New(reflect.SliceOf(c.model.typ))
	scany := pgxscan.Select(ctx, c.m, list.Interface(), "select "+c.model.list()+" from "+table+" order by "+key)
	for _, plan := range []bool{true, false} {
		got, err := core.All(ctx, plan, key)
		if !c.bothSucceed("read all", scany, err) {
			continue
		}
		require.Len(c.t, got, list.Elem().Len())
		for i := range got {
			c.sameRow(list.Elem().Index(i), got[i])
		}
	}
	for _, row := range rows {
		want := reflect.New(c.model.typ)
		id, err := c.model.fields[0].Arg(row.Field(0).Interface(), c.model.fields[0].column)
		require.NoError(c.t, err)
		scany := pgxscan.Get(ctx, c.m, want.Interface(), "select "+c.model.list()+" from "+table+" where "+c.model.byKey(), id)
		for _, plan := range []bool{true, false} {
			got, err := core.Get(ctx, plan, row.Field(0))
			if count(c.bothSucceed("read", scany, err), &c.tally.Read, &c.tally.ReadFailed); err == nil {
				c.sameRow(want.Elem(), got)
			}
		}
	}
}

func (c *comparison) sameRow(want, got reflect.Value) {
	c.t.Helper()
	for i, path := range c.model.paths {
		a, b := want.FieldByIndex(path), got.FieldByIndex(path)
		require.True(c.t, tt.Same(a, b), "%s: column %q: %#v, but scany reads %#v: %v\n%s",
			c.name, c.model.names[i], b, a, c.model.typ, c.model.ddl)
	}
}

// sameTables requires that two tables have the same content.
func (c *comparison) sameTables(a, b string) {
	c.t.Helper()
	rows := func(table string) []string {
		list, err := repo.Pluck[string](c.t.Context(), c.hand, "select ("+c.model.list()+", 0)::text from "+table+" t order by 1")
		require.NoError(c.t, err, c.name)
		return list
	}
	require.Equal(c.t, rows(a), rows(b), "%s: %v\n%s", c.name, c.model.typ, c.model.ddl)
}
