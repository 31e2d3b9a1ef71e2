package repo_test

import (
	"database/sql/driver"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

type (
	word  string
	level int
	// amount is a decimal as many libraries have it: its driver value is text.
	amount struct{ cents int64 } //nolint:recvcheck // Scan changes it
	// ticket is a string whose driver value is another text.
	ticket string //nolint:recvcheck // Scan changes it
)

func (a amount) Value() (driver.Value, error) {
	return fmt.Sprintf("%d.%02d", a.cents/100, a.cents%100), nil
}

func (a *amount) Scan(src any) error {
	var units, cents int64
	_, err := fmt.Sscanf(fmt.Sprint(src), "%d.%02d", &units, &cents)
	a.cents = units*100 + cents
	return err
}

func (v ticket) Value() (driver.Value, error) { return "t" + string(v), nil }

func (v *ticket) Scan(src any) error {
	*v = ticket(fmt.Sprint(src)[1:])
	return nil
}

// Listed has a field of a type and a list of it.
type Listed[V any] struct {
	ID   int64 `db:"id,pk"`
	V    V
	List []V
}

// listOperators checks every operator on a table whose columns v and list have this type.
func listOperators[V any](columnType string, a, b, c V) func(t *testing.T, m *txn.Manager, table string) {
	return func(t *testing.T, m *txn.Manager, table string) {
		t.Helper()
		anyOf := "v = any($1)"
		if enum, ok := overEnum[columnType]; ok {
			anyOf = "v::" + enum + " = any($1)" // the server compares a domain over an enum only as the enum
		}
		ctx := t.Context()
		_, err := m.Exec(ctx, fmt.Sprintf("create table %s (id bigint primary key, v %s unique, list %[2]s[])", table, columnType))
		require.NoError(t, err)
		r := newRepo[Listed[V], int64](t, m, table)
		stored := []Listed[V]{{1, a, []V{a, b}}, {2, b, []V{b}}, {3, c, []V{c}}}
		require.NoError(t, r.CreateMany(ctx, stored))
		all, err := r.Find(ctx, repo.OrderBy("id"))
		require.NoError(t, err)
		assert.Equal(t, stored, all)
		list, pointers, mixed := []V{a, b}, []*V{&a, nil, &b}, []any{a, nil, b}
		for name, check := range map[string]struct {
			filter repo.Filter
			want   []int64
		}{
			"Eq":                   {repo.Eq("v", a), []int64{1}},
			"Eq pointer":           {repo.Eq("v", &a), []int64{1}},
			"NotEq":                {repo.NotEq("v", a), []int64{2, 3}},
			"In":                   {repo.In("v", list...), []int64{1, 2}},
			"In, pointers":         {repo.In("v", pointers...), []int64{1, 2}},
			"In, any":              {repo.In("v", mixed...), []int64{1, 2}},
			"NotIn":                {repo.NotIn("v", list...), []int64{3}},
			"NotIn, pointers":      {repo.NotIn("v", pointers...), []int64{3}},
			"Between":              {repo.Between("v", a, b), []int64{1, 2}},
			"Where any":            {repo.Where(anyOf, list), []int64{1, 2}},
			"Where any, pointers":  {repo.Where(anyOf, pointers), []int64{1, 2}},
			"Where any, any":       {repo.Where(anyOf, mixed), []int64{1, 2}},
			"Where any, FlatArray": {repo.Where(anyOf, pgtype.FlatArray[V](list)), []int64{1, 2}},
			"ArrayContains":        {repo.ArrayContains("list", list...), []int64{1}},
			"ArrayOverlaps":        {repo.ArrayOverlaps("list", b, c), []int64{1, 2, 3}},
			"Eq of a list":         {repo.Eq("list", list), []int64{1}},
			"In, empty":            {repo.In[V]("v"), []int64{}},
		} {
			got, err := repo.Column[int64](ctx, r, "id", check.filter, repo.OrderBy("id"))
			if assert.NoError(t, err, name) {
				assert.Equal(t, check.want, got, name)
			}
		}
		changed, err := r.Patch(ctx, 1, []repo.Change{repo.Set("list", []V{c, a})})
		require.NoError(t, err)
		assert.Equal(t, []V{c, a}, changed.List)
		changed, err = r.Patch(ctx, 1, []repo.Change{repo.Set("list", nil)})
		require.NoError(t, err)
		assert.Nil(t, changed.List)
		result, err := r.Upsert(ctx, &Listed[V]{ID: 9, V: a, List: []V{b}}, repo.OnConflict("v"))
		require.NoError(t, err)
		assert.Equal(t, repo.Updated, result)
		results, err := r.UpsertMany(ctx, []Listed[V]{{ID: 8, V: a, List: []V{}}, {ID: 7, V: b}}, repo.OnConflict("v"), repo.DoNothing())
		require.NoError(t, err)
		assert.Equal(t, []repo.UpsertResult{repo.Unchanged, repo.Unchanged}, results)
		read, err := r.Get(ctx, 1)
		require.NoError(t, err)
		assert.Equal(t, []V{b}, read.List)
		staged := newRepo[Listed[V], int64](t, m, table, repo.WithStagingThreshold(1))
		results, err = staged.UpsertMany(ctx, []Listed[V]{{ID: 8, V: a, List: []V{}}, {ID: 7, V: b}},
			repo.OnConflict("v"), repo.DoNothing())
		require.NoError(t, err)
		assert.Equal(t, []repo.UpsertResult{repo.Unchanged, repo.Unchanged}, results)
		first, err := r.Page(ctx, "", 2, repo.Asc("v"))
		require.NoError(t, err)
		last, err := r.Page(ctx, first.Next, 2, repo.Asc("v"))
		require.NoError(t, err)
		assert.Len(t, append(first.Rows, last.Rows...), 3)
	}
}

// overEnum are the domains over enums, with their enums.
var overEnum = map[string]string{"letters": "letter", "stages": "stage"}

// Any operator that works for a value works for a list of values: for registered types and for others.
func TestLists_WorkWhereASingleValueDoes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC).Local()
	ids := [3]uuid.UUID{{1}, {2}, {3}}
	cells := map[string]func(*testing.T, *txn.Manager, string){}
	words := func(column string, columnType string) {
		cells["string, "+column] = listOperators(columnType, "a", "b", "c")
		cells["named string, "+column] = listOperators(columnType, word("a"), word("b"), word("c"))
	}
	for _, column := range []string{"text", "varchar(9)", "citext", "letter", "letters", "folded"} {
		words(column, column)
	}
	for _, column := range []string{"text", "tickets", "citext", "stage", "stages"} {
		cells["Valuer, "+column] = listOperators(column, ticket("a"), ticket("b"), ticket("c"))
	}
	for _, column := range []string{"int", "bigint", "smallint", "numbers", "numeric"} {
		cells["named int, "+column] = listOperators(column, level(1), level(2), level(3))
		cells["int64, "+column] = listOperators(column, int64(1), int64(2), int64(3))
	}
	for _, column := range []string{"numeric", "amounts"} {
		cells["decimal, "+column] = listOperators(column, amount{150}, amount{225}, amount{399})
	}
	for _, column := range []string{"uuid", "keys"} {
		cells["uuid, "+column] = listOperators(column, ids[0], ids[1], ids[2])
	}
	addresses := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fe80::1")}
	for _, column := range []string{"inet", "addresses"} {
		cells["netip, "+column] = listOperators(column, addresses[0], addresses[1], addresses[2])
	}
	for _, column := range []string{"timestamptz", "times"} {
		cells["time, "+column] = listOperators(column, at, at.Add(time.Second), at.Add(time.Hour))
	}
	for _, column := range []string{"bytea", "blobs"} {
		cells["[]byte, "+column] = listOperators(column, []byte{0, 1}, []byte{2, '"', '\\'}, []byte("null"))
	}
	const ddl = `create extension citext; create type letter as enum ('a', 'b', 'c'); create domain letters as letter;
		create type stage as enum ('ta', 'tb', 'tc'); create domain stages as stage; create domain folded as citext;
		create domain tickets as text;
		create domain numbers as int; create domain amounts as numeric(10, 2); create domain keys as uuid;
		create domain addresses as inet; create domain times as timestamptz; create domain blobs as bytea`
	types := pgfx.WithTypes("citext", "letter", "letters", "stage", "stages", "folded", "tickets", "numbers",
		"amounts", "keys", "addresses", "times", "blobs")
	for name, with := range map[string]struct {
		config pgfx.Config
		opts   []pgfx.Option
	}{
		"unregistered":    {},
		"registered":      {opts: []pgfx.Option{types}},
		"stock codecs":    {config: pgfx.Config{DisableFastCodecs: true}},
		"exec":            {config: pgfx.Config{ExecMode: pgfx.ExecUntyped}},
		"simple protocol": {config: pgfx.Config{ExecMode: pgfx.ExecSimple}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with.config.Pool.MaxConns = 4
			m := managerOf(t, fxtest.DB(t, fxtest.Config(with.config), fxtest.Pool(with.opts...), fxtest.SQL(ddl)))
			n := 0
			for cell, check := range cells {
				n++
				table := fmt.Sprintf("t%d", n)
				t.Run(cell, func(t *testing.T) {
					t.Parallel()
					check(t, m, table)
				})
			}
		})
	}
}

// small is an integer of the kind whose slices are bytes, and code one with its own text.
type (
	small uint8
	code  uint8
)

func (c code) Value() (driver.Value, error) { return "c" + strconv.Itoa(int(c)), nil }

type Bytes struct {
	ID   int64 `db:"id,pk"`
	N    small
	Code string
	List []int16
}

func TestIn_SendsSmallIntegersAsNumbers(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table bytes (id bigint primary key, n smallint not null, code text not null, list smallint[])")
	r := newRepo[Bytes, int64](t, m, "bytes")
	ctx := t.Context()
	require.NoError(t, r.CreateMany(ctx, []Bytes{{1, 1, "c1", []int16{1, 2}}, {2, 92, "c2", []int16{3}}, {3, 255, "c3", nil}}))
	for name, check := range map[string]struct {
		filter repo.Filter
		want   []int64
	}{
		"In":            {repo.In[uint8]("n", 92, 255), []int64{2, 3}},
		"In, named":     {repo.In[small]("n", 1), []int64{1}},
		"In, any":       {repo.In[any]("n", uint8(1), uint8(92)), []int64{1, 2}},
		"In, pointers":  {repo.In("n", new(uint8(92))), []int64{2}},
		"In, none":      {repo.In[uint8]("n"), []int64{}},
		"In, Valuer":    {repo.In[code]("code", 1, 3), []int64{1, 3}},
		"NotIn":         {repo.NotIn[uint8]("n", 92), []int64{1, 3}},
		"NotIn, none":   {repo.NotIn[small]("n"), []int64{1, 2, 3}},
		"ArrayContains": {repo.ArrayContains[uint8]("list", 1, 2), []int64{1}},
		"ArrayOverlaps": {repo.ArrayOverlaps[small]("list", 2, 3), []int64{1, 2}},
	} {
		got, err := repo.Column[int64](ctx, r, "id", check.filter, repo.OrderBy("id"))
		if assert.NoError(t, err, name) {
			assert.Equal(t, check.want, got, name)
		}
	}
}

type Relation struct {
	ID    int64 `db:"id,pk"`
	Name  string
	Names []string
}

func TestNames_OfMoreThan63BytesAreCutAlike(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table relations (id bigint primary key, name name, names name[])")
	r := newRepo[Relation, int64](t, m, "relations", repo.WithStagingThreshold(2))
	ctx := t.Context()
	long := strings.Repeat("long", 20)
	row := func(id int64) Relation { return Relation{id, long, []string{long}} }
	one := row(1)
	require.NoError(t, r.Create(ctx, &one))
	assert.Equal(t, Relation{1, long[:63], []string{long[:63]}}, one)
	require.NoError(t, r.CreateMany(ctx, []Relation{row(2), row(3)}))
	require.NoError(t, second(r.CopyMany(ctx, []Relation{row(4), row(5)})))
	require.NoError(t, second(r.UpsertMany(ctx, []Relation{row(4), row(6)})))
	for _, filter := range []repo.Filter{repo.Eq("name", long), repo.In("name", long), repo.ArrayContains("names", long)} {
		n, err := r.Count(ctx, filter)
		require.NoError(t, err)
		assert.Equal(t, int64(6), n)
	}
}

// blank is a string that is sent as NULL if it is empty.
type blank string //nolint:recvcheck // Scan changes it

func (b blank) Value() (driver.Value, error) {
	if b == "" {
		return nil, nil //nolint:nilnil // NULL
	}
	return string(b), nil
}

func (b *blank) Scan(src any) error {
	text, _ := src.(string)
	*b = blank(text)
	return nil
}

// tag is a UUID that is sent as NULL if it is zero.
type tag [16]byte //nolint:recvcheck // Scan changes it

func (v tag) Value() (driver.Value, error) {
	if v == (tag{}) {
		return nil, nil //nolint:nilnil // NULL
	}
	return uuid.UUID(v).String(), nil
}

func (v *tag) Scan(src any) error { return (*uuid.UUID)(v).Scan(src) }

type Blanked struct {
	ID   int64 `db:"id,pk"`
	Note blank
	Tag  tag
	Tags pgtype.Array[string]
}

func TestFilters_MatchNullByEveryValueThatIsSentAsNull(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table blanked (id bigint primary key, note text, tag uuid, tags text[])")
	r := newRepo[Blanked, int64](t, m, "blanked")
	ctx := t.Context()
	tags := pgtype.Array[string]{Elements: []string{"a"}, Dims: []pgtype.ArrayDimension{{Length: 1, LowerBound: 1}}, Valid: true}
	full := Blanked{2, "x", tag{1}, tags}
	require.NoError(t, r.CreateMany(ctx, []Blanked{{ID: 1}, full}))
	none := blank("")
	for name, check := range map[string]struct {
		filter repo.Filter
		want   []int64
	}{
		"Eq, string kind":            {repo.Eq("note", none), []int64{1}},
		"Eq, pointer to it":          {repo.Eq("note", &none), []int64{1}},
		"Eq, array kind":             {repo.Eq("tag", tag{}), []int64{1}},
		"Eq, pgtype":                 {repo.Eq("tags", pgtype.Array[string]{}), []int64{1}},
		"Eq, nil pointer":            {repo.Eq("tag", (*uuid.UUID)(nil)), []int64{1}},
		"Eq, other values":           {repo.Eq("note", blank("x")), []int64{2}},
		"NotEq":                      {repo.NotEq("note", none), []int64{2}},
		"NotEq, other values":        {repo.NotEq("tag", tag{1}), []int64{1}},
		"In":                         {repo.In("note", none, "x"), []int64{1, 2}},
		"In, only NULL":              {repo.In("tag", tag{}), []int64{1}},
		"In, pointers":               {repo.In("note", &none), []int64{1}},
		"NotIn":                      {repo.NotIn("note", none), []int64{2}},
		"NotIn, other values":        {repo.NotIn("tag", tag{1}), []int64{1}},
		"Eq, uuid in another format": {repo.Eq("tag", &uuid.UUID{1}), []int64{2}},
	} {
		got, err := repo.Column[int64](ctx, r, "id", check.filter, repo.OrderBy("id"))
		if assert.NoError(t, err, name) {
			assert.Equal(t, check.want, got, name)
		}
	}
	_, err := r.Find(ctx, repo.Lt("note", none))
	require.ErrorIs(t, err, repo.ErrQuery)
}
