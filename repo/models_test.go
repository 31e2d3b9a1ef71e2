package repo_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// fieldKind is a field type with column types to combine it with and a generator of values.
type fieldKind struct {
	typ     reflect.Type
	role    string
	columns []string // the first one fits the field type; most of the others do, too
	value   func(r *rand.Rand) any
}

func kind[V any](columns string, value func(r *rand.Rand) V) fieldKind {
	return fieldKind{reflect.TypeFor[V](), "", strings.Split(columns, ";"), func(r *rand.Rand) any { return value(r) }}
}

func (k fieldKind) as(role string) fieldKind {
	k.role = role
	return k
}

type (
	statusText string
	grade      int16
)

func randomString(r *rand.Rand) string {
	return pick(r, "", "sad", "happy", " blank ", "1", "-7.5", "true", "2024-02-29", "{1,2}", `{"a": [1, null]}`, "漢字 🎈", `quote ' " \`,
		"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", strings.Repeat("long ", 60))
}

// fieldKinds returns the field kinds of random models.
func fieldKinds() []fieldKind {
	ints := func(r *rand.Rand) int64 {
		return pick(r, 0, 1, -1, 7, 99, math.MaxInt16, math.MaxInt32, pick(r, math.MinInt64, r.Int64()))
	}
	return []fieldKind{
		kind("text;text;text;varchar(300);char(9);status;jsonb;integer;uuid;date;text[]", randomString),
		kind("text;varchar(20);status;bytea", func(r *rand.Rand) *string { return maybe(r, randomString(r)) }),
		kind("text;varchar(5);inet", func(r *rand.Rand) sql.NullString {
			return sql.NullString{String: randomString(r), Valid: r.IntN(2) == 0}
		}),
		kind("text;jsonb", func(r *rand.Rand) pgtype.Text { return pgtype.Text{String: randomString(r), Valid: r.IntN(2) == 0} }),
		kind("status;status;text;integer", func(r *rand.Rand) statusText { return pick[statusText](r, "sad", "happy", "none") }),
		kind("bigint;bigint;integer;smallint;numeric;text;double precision", ints),
		kind("bigint;integer;numeric(5);timestamptz", func(r *rand.Rand) int { return int(ints(r)) }),
		kind("integer;bigint;smallint;text", func(r *rand.Rand) int32 { return int32(ints(r)) }),
		kind("smallint;integer;boolean", func(r *rand.Rand) grade { return grade(ints(r)) }),
		kind("bigint;smallint", func(r *rand.Rand) *int64 { return maybe(r, ints(r)) }),
		kind("bigint;integer;numeric", func(r *rand.Rand) uint32 { return uint32(ints(r)) }),
		kind("bigint;integer", func(r *rand.Rand) sql.NullInt64 { return sql.NullInt64{Int64: ints(r), Valid: r.IntN(2) == 0} }),
		kind("boolean;boolean;text;integer", func(r *rand.Rand) bool { return r.IntN(2) == 0 }),
		kind("boolean", func(r *rand.Rand) *bool { return maybe(r, true) }),
		kind("double precision;double precision;real;numeric;text", func(r *rand.Rand) float64 {
			return pick(r, 0, -1.5, math.Inf(1), math.MaxFloat64, math.SmallestNonzeroFloat64, math.Copysign(0, -1), r.NormFloat64())
		}),
		kind("real;double precision;integer", func(r *rand.Rand) float32 { return pick(r, 0, -1.5, math.MaxFloat32, float32(r.NormFloat64())) }),
		kind("numeric;numeric(8,2);text", func(r *rand.Rand) pgtype.Numeric {
			return pick(r, pgtype.Numeric{}, pgtype.Numeric{NaN: true, Valid: true},
				pgtype.Numeric{Int: big.NewInt(r.Int64N(1e8)), Exp: -5, Valid: true})
		}),
		kind("bytea;bytea;text;jsonb", func(r *rand.Rand) []byte { return pick(r, nil, []byte{}, []byte{0, 255, '\\'}, []byte("{}")) }),
		kind("uuid;uuid;text;bytea", func(r *rand.Rand) uuid.UUID { return pick(r, uuid.UUID{}, randomUUID(r)) }),
		kind("uuid;text", func(r *rand.Rand) *uuid.UUID { return maybe(r, randomUUID(r)) }),
		kind("uuid", func(r *rand.Rand) uuid.NullUUID { return uuid.NullUUID{UUID: randomUUID(r), Valid: r.IntN(2) == 0} }),
		kind("timestamptz;timestamptz;timestamptz(0);timestamp;date;text", randomTime),
		kind("timestamptz;date", func(r *rand.Rand) *time.Time { return maybe(r, randomTime(r)) }),
		kind("timestamptz", func(r *rand.Rand) sql.NullTime { return sql.NullTime{Time: randomTime(r), Valid: r.IntN(2) == 0} }),
		kind("timestamp;timestamptz", func(r *rand.Rand) pgtype.Timestamp {
			return pick(r, pgtype.Timestamp{}, pgtype.Timestamp{Time: time.Unix(r.Int64N(4e9), 5000).UTC(), Valid: true},
				pgtype.Timestamp{InfinityModifier: pgtype.NegativeInfinity, Valid: true})
		}),
		kind("date;timestamptz", func(r *rand.Rand) pgtype.Date {
			return pick(r, pgtype.Date{}, pgtype.Date{Time: time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), Valid: true})
		}),
		kind("interval;interval;bigint;text", func(r *rand.Rand) time.Duration {
			return pick(r, 0, time.Duration(r.Int64N(1e15)), -time.Hour, time.Nanosecond)
		}),
		kind("inet;cidr;text", func(r *rand.Rand) netip.Addr {
			return pick(r, netip.MustParseAddr("::1"), netip.MustParseAddr("10.0.0.1"))
		}),
		kind("int4range;int8range", func(r *rand.Rand) pgtype.Range[pgtype.Int4] {
			return pick(r, pgtype.Range[pgtype.Int4]{}, pgtype.Range[pgtype.Int4]{
				Lower: pgtype.Int4{Int32: 1, Valid: true}, LowerType: pgtype.Exclusive, UpperType: pgtype.Unbounded, Valid: true,
			})
		}),
		kind("text[];text[];varchar(3)[];text;jsonb", func(r *rand.Rand) []string { return pick(r, nil, []string{}, []string{randomString(r), "a,b"}) }),
		kind("integer[];bigint[];smallint[]", func(r *rand.Rand) []int32 { return pick(r, nil, []int32{}, []int32{1, math.MinInt32}) }),
		kind("bigint[];bigint[]", func(r *rand.Rand) [][]int64 { return pick(r, nil, [][]int64{{1, 2}, {3, 4}}) }),
		kind("uuid[]", func(r *rand.Rand) []uuid.UUID { return pick(r, nil, []uuid.UUID{randomUUID(r), {}}) }),
		kind("text[]", func(r *rand.Rand) []*string { return pick(r, nil, []*string{nil, maybe(r, "x")}) }),
		kind("jsonb;json;text", func(r *rand.Rand) json.RawMessage {
			return pick(r, nil, json.RawMessage(`{"a": [1, null]}`), json.RawMessage(`"x"`))
		}),
		kind("jsonb;json;text", func(r *rand.Rand) map[string]any {
			return pick(r, nil, map[string]any{}, map[string]any{"a": []any{1.5, nil, "x"}})
		}).as("json"),
		kind("jsonb;json", func(r *rand.Rand) Settings {
			return Settings{Theme: randomString(r), Flags: pick(r, nil, map[string]bool{"x": true})}
		}).as("json"),
		kind("jsonb", func(r *rand.Rand) []Settings { return pick(r, nil, []Settings{}, []Settings{{Theme: "ü"}}) }).as("json"),
		kind("jsonb", func(r *rand.Rand) *Settings { return maybe(r, Settings{Theme: "x"}) }).as("json"),
	}
}

func randomUUID(r *rand.Rand) (id uuid.UUID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// randomModel is a struct type that is created at run time, with its table.
type randomModel struct {
	typ     reflect.Type
	columns []string // names
	paths   [][]int  // of their fields
	kinds   []fieldKind
	notNull []bool
	ddl     string // of the table's columns
}

const keyColumns = 1

func newRandomModel(r *rand.Rand) *randomModel {
	m := &randomModel{}
	var fields []reflect.StructField
	var ddl []string
	kinds := fieldKinds()
	add := func(k fieldKind, roles, column string) {
		i := len(fields)
		name := pick(r, "f", "F", "select", "from ", `quo"te`, "ünï", "per%cent", "$1", "q?", "a.b", ":x", "@y") + strconv.Itoa(i)
		tag := name + roles
		if k.role != "" {
			tag += "," + k.role
		}
		fields = append(fields, reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: k.typ, Tag: reflect.StructTag("db:" + strconv.Quote(tag)),
		})
		m.columns, m.paths, m.kinds = append(m.columns, name), append(m.paths, []int{i}), append(m.kinds, k)
		m.notNull = append(m.notNull, strings.HasPrefix(column, "json") && strings.HasSuffix(column, "not null"))
		ddl = append(ddl, pgx.Identifier{name}.Sanitize()+" "+column)
	}
	key := pick(r,
		kind("bigint;integer;numeric", func(r *rand.Rand) int64 { return r.Int64N(1 << 31) }),
		kind("uuid;text", randomUUID),
		kind("text;varchar(90)", func(r *rand.Rand) string { return randomUUID(r).String() }),
		kind("timestamptz", func(r *rand.Rand) time.Time { return time.Unix(r.Int64N(4e9), 0) }))
	add(key, ",pk", pick(r, key.columns...)+" primary key")
	for range 1 + r.IntN(12) {
		k := pick(r, kinds...)
		column := k.columns[0]
		if r.IntN(4) == 0 {
			column = pick(r, k.columns...)
		}
		if r.IntN(8) == 0 {
			column += " not null"
		}
		add(k, "", column)
	}
	if r.IntN(3) == 0 { // a nested struct
		i := len(fields)
		fields = append(fields, reflect.StructField{Name: "Home", Type: reflect.TypeFor[Address]()})
		text := func(r *rand.Rand) any { return randomString(r) }
		textN := func(r *rand.Rand) any { return maybe(r, randomString(r)) }
		m.columns, m.notNull = append(m.columns, "home.street", "home.city"), append(m.notNull, false, false)
		m.paths = append(m.paths, []int{i, 0}, []int{i, 1})
		m.kinds = append(m.kinds, fieldKind{value: text}, fieldKind{value: textN})
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
		row.FieldByIndex(path).Set(reflect.ValueOf(m.kinds[i].value(r)))
	}
	return row
}

// args returns a row's values as hand-written code passes them to pgx.
func (m *randomModel) args(t *testing.T, row reflect.Value) []any {
	t.Helper()
	args := make([]any, len(m.paths))
	for i, path := range m.paths {
		f := row.FieldByIndex(path)
		nilled := f.Kind() == reflect.Pointer || f.Kind() == reflect.Map || f.Kind() == reflect.Slice && f.Type().Elem().Kind() != reflect.Uint8
		switch {
		case m.notNull[i] && nilled && f.IsNil(): // JSON's null is read as nil
			args[i] = "null"
		case m.kinds[i].role == "":
			args[i] = f.Interface()
		case f.Kind() != reflect.Struct && f.IsNil():
		default:
			data, err := json.Marshal(f.Interface())
			require.NoError(t, err)
			args[i] = string(data)
		}
	}
	return args
}

func (m *randomModel) list() string {
	idents := make([]string, len(m.columns))
	for i, name := range m.columns {
		idents[i] = pgx.Identifier{name}.Sanitize()
	}
	return strings.Join(idents, ", ")
}

// insert returns the INSERT statement of hand-written code.
func (m *randomModel) insert(table string) string {
	numbers := make([]string, len(m.columns))
	for i := range numbers {
		numbers[i] = "$" + strconv.Itoa(i+1)
	}
	return "insert into " + table + " (" + m.list() + ") values (" + strings.Join(numbers, ", ") + ")"
}

func (m *randomModel) update(table string) string {
	var set []string
	for i, name := range m.columns[keyColumns:] {
		set = append(set, pgx.Identifier{name}.Sanitize()+" = $"+strconv.Itoa(i+keyColumns+1))
	}
	return "update " + table + " set " + strings.Join(set, ", ") + " where " + pgx.Identifier{m.columns[0]}.Sanitize() + " = $1"
}

// This test creates random struct types with tables that mostly fit them. It writes random rows with hand-written SQL and with the
// repository, and reads them with scany and with the repository. Both must store and read the same, or both must fail.
// The environment variable SEED repeats a run, RDSFX_REPO_MODELS sets the number of models.
func TestRandomModels_MatchHandWrittenSQLAndScany(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = given
	}
	models := 30
	if given, err := strconv.Atoi(os.Getenv("RDSFX_REPO_MODELS")); err == nil {
		models = given
	}
	t.Logf("SEED=%d", seed)
	m := newManager(t, "create type status as enum ('sad', 'happy')")
	var all tally
	for i := range models {
		c := &comparison{t: t, m: m, r: rand.New(rand.NewPCG(seed, uint64(i))), tally: &all, number: strconv.Itoa(i)}
		c.name = fmt.Sprintf("SEED=%d model %d", seed, i)
		c.run()
		if t.Failed() {
			return
		}
	}
	t.Logf("%+v", all)
	require.Positive(t, all.Written)
	require.Positive(t, all.Read)
	require.Positive(t, all.Rejected, "the random rows include some that don't fit")
}

// tally counts outcomes.
type tally struct{ Written, Rejected, Copied, CopyRejected, Updated, Read, ReadFailed int }

// comparison is the test of one model.
type comparison struct {
	t     *testing.T
	m     *txn.Manager
	r     *rand.Rand
	tally *tally
	// name and number identify the model.
	name, number string
	model        *randomModel
}

func (c *comparison) exec(sql string) {
	c.t.Helper()
	_, err := c.m.Exec(c.t.Context(), sql)
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
	c.model = newRandomModel(c.r)
	hand, ours, handCopy, oursCopy := "hand"+c.number, "ours"+c.number, "hand_copy"+c.number, "ours_copy"+c.number
	like := "; create unlogged table %s (like " + hand + " including all)"
	c.exec("create unlogged table " + hand + " (" + c.model.ddl + ")" + fmt.Sprintf(strings.Repeat(like, 3), ours, handCopy, oursCopy))
	defer c.exec("drop table " + strings.Join([]string{hand, ours, handCopy, oursCopy}, ", "))
	core, err := repo.NewCore(c.m, c.model.typ, ours)
	require.NoError(c.t, err, c.name)
	copies, err := repo.NewCore(c.m, c.model.typ, oursCopy)
	require.NoError(c.t, err, c.name)
	var rows []reflect.Value
	for range 8 {
		row := c.model.row(c.r)
		args := c.model.args(c.t, row)
		_, err := c.m.Exec(ctx, c.model.insert(hand), args...)
		if count(c.bothSucceed("insert", err, core.Insert(ctx, row)), &c.tally.Written, &c.tally.Rejected); err == nil {
			rows = append(rows, row)
		}
		_, err = c.m.Exec(ctx, c.model.insert(handCopy), args...)
		count(c.bothSucceed("copy", err, copies.Copy(ctx, row)), &c.tally.Copied, &c.tally.CopyRejected)
	}
	c.sameTables(hand, ours)
	c.sameTables(handCopy, oursCopy)
	for _, row := range rows[:len(rows)/2] {
		changed := c.model.row(c.r)
		changed.Field(0).Set(row.Field(0))
		_, err := c.m.Exec(ctx, c.model.update(hand), c.model.args(c.t, changed)...)
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
	key := pgx.Identifier{c.model.columns[0]}.Sanitize()
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
		scany := pgxscan.Get(ctx, c.m, want.Interface(), "select "+c.model.list()+" from "+table+" where "+key+" = $1", row.Field(0).Interface())
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
		require.Equal(c.t, want.FieldByIndex(path).Interface(), got.FieldByIndex(path).Interface(), "%s: column %q: %v\n%s",
			c.name, c.model.columns[i], c.model.typ, c.model.ddl)
	}
}

// sameTables requires that two tables have the same content.
func (c *comparison) sameTables(a, b string) {
	c.t.Helper()
	rows := func(table string) []string {
		list, err := repo.Pluck[string](c.t.Context(), c.m, "select ("+c.model.list()+", 0)::text from "+table+" t order by 1")
		require.NoError(c.t, err, c.name)
		return list
	}
	require.Equal(c.t, rows(a), rows(b), "%s: %v\n%s", c.name, c.model.typ, c.model.ddl)
}
