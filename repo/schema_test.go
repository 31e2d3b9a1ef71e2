package repo_test

import (
	"database/sql"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func modelOf[T, K any](tb testing.TB, table string, opts ...repo.Option) repo.Model {
	tb.Helper()
	model, err := repo.ModelOf[T, K](table, opts...)
	require.NoError(tb, err)
	return model
}

// errorsOf returns the findings that are more than advice.
func errorsOf(found []repo.Finding) []repo.Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f repo.Finding) bool { return f.Severity == repo.SeverityAdvice })
}

type Drift struct {
	ID      int64     `db:"id,pk"`
	Made    uuid.UUID `db:"made,default"`
	Total   int       `db:"total,generated"`
	Written int
	Name    string
	Age     int
	Ref     uuid.UUID
	Doc     Settings `db:"doc,json"`
	Missing *time.Time
}

func TestCheckSchema_FindsAllProblemsInOneRoundTrip(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), usersDDL, `create schema app`,
		`create table app.drift (id bigint, made uuid not null, total int, written int generated always as (1) stored, name text,
			age text not null, ref bigint not null, doc text not null, extra int not null, lax int)`)
	drift := modelOf[Drift, int64](t, "app.drift", repo.OnConflict("name"))
	count.drain()
	found, err := repo.CheckSchema(t.Context(), m, modelOf[User, uuid.UUID](t, "users", repo.OnConflict("email")), drift,
		modelOf[Plain, int64](t, "app.plain"))
	require.NoError(t, err)
	assert.Len(t, count.drain(), 1)

	type result struct {
		problem repo.Problem
		column  string
	}
	var got []result
	for _, f := range errorsOf(found) {
		got = append(got, result{f.Problem, f.Column})
		assert.Contains(t, f.Text, "repo: table app.")
		if f.Problem == repo.MissingTable {
			assert.Equal(t, `create table "app"."plain" ("id" bigint generated always as identity, "note" text not null, primary key ("id"))`, f.Fix)
			continue
		}
		assert.Equal(t, "app.drift", f.Table)
	}
	assert.ElementsMatch(t, []result{
		{repo.NullableColumn, "id"},
		{repo.MissingDefault, "made"},
		{repo.NullableColumn, "total"},
		{repo.MissingDefault, "total"},
		{repo.NullableColumn, "written"},
		{repo.MissingDefault, "written"},
		{repo.NullableColumn, "name"},
		{repo.TypeMismatch, "age"},
		{repo.TypeMismatch, "ref"},
		{repo.TypeMismatch, "doc"},
		{repo.MissingColumn, "missing"},
		{repo.MissingDefault, "extra"},
		{repo.MissingKey, "id"},
		{repo.MissingUnique, "name"},
		{repo.MissingTable, ""},
	}, got)
}

func TestCheckSchema_NamesTheColumnThatWasMeant(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table misspelled (id bigint primary key, created_at timestamptz not null, email text)")
	type misspelled struct {
		ID        int64     `db:"id,pk"`
		CreatedAt time.Time `db:"craeted_at"`
		Phone     *string
	}
	found, err := repo.CheckSchema(t.Context(), m, modelOf[misspelled, int64](t, "misspelled"))
	require.NoError(t, err)
	found = errorsOf(found)
	require.Len(t, found, 2, "the column that was meant isn't reported as one without a field")
	assert.Equal(t, `repo: table misspelled has no column "craeted_at", which field CreatedAt needs: did you mean "created_at"?`, found[0].String())
	assert.Equal(t, `alter table "misspelled" add column "phone" text`, found[1].Fix)
}

func TestCheckSchema_AdvisesOfValuesThatDoNotFit(t *testing.T) {
	t.Parallel()
	m := newManager(t, `create domain small as integer; create table limits (id bigint primary key,
		wide int, narrow bigint not null, list smallint[], domained small, unsigned int, fits bigint, big bigint, money numeric(8, 2),
		whole numeric(20),
		float numeric, short numeric(9, 3), half real, rest double precision, span interval, at timestamptz(0), exact timestamp,
		never text not null, never_null text not null, defaulted text not null default '', doc jsonb not null,
		made int generated always as (1) stored,
		version int not null)`)
	type limits struct {
		ID        int64 `db:"id,pk"`
		Wide      *int64
		Narrow    int16
		List      []int32
		Domained  *int
		Unsigned  *uint32
		Fits      *uint32
		Big       *uint64
		Money     *int
		Whole     *uint64
		Float     *float64
		Short     *float64
		Half      *float64
		Rest      *float32
		Span      *time.Duration
		At        *time.Time
		Exact     *time.Time
		Never     *string
		NeverNull sql.NullString
		Defaulted *string   `db:"defaulted,default"`
		Doc       *Settings `db:"doc,json"`
		Made      *int64    `db:"made,generated"`
		Version   int64     `db:"version,version"`
	}
	model := modelOf[limits, int64](t, "limits")
	found, err := repo.CheckSchema(t.Context(), m, model)
	require.NoError(t, err)
	got := map[string][]repo.Problem{}
	fixes := map[string]string{}
	for _, f := range found {
		got[f.Column] = append(got[f.Column], f.Problem)
		fixes[f.Column] += f.Fix
		assert.Equal(t, repo.SeverityAdvice, f.Severity, f.String())
		assert.Contains(t, f.Text, `column "`+f.Column+`"`)
	}
	assert.Equal(t, map[string][]repo.Problem{
		"wide":       {repo.Overflow},
		"narrow":     {repo.Overflow},
		"list":       {repo.Overflow},
		"domained":   {repo.Overflow},
		"unsigned":   {repo.Overflow},
		"big":        {repo.Overflow},
		"money":      {repo.Overflow, repo.Overflow}, // too large, and fractions
		"float":      {repo.LostPrecision},
		"half":       {repo.LostPrecision},
		"rest":       {repo.LostPrecision},
		"span":       {repo.LostPrecision},
		"at":         {repo.LostPrecision},
		"never":      {repo.NeverNull},
		"never_null": {repo.NeverNull},
	}, got)
	assert.Equal(t, `alter table "limits" alter column "list" type integer[]`, fixes["list"])
	assert.Equal(t, `alter table "limits" alter column "big" type numeric(20)`, fixes["big"])
	assert.Equal(t, "advice", found[0].Severity.String())
	assert.Equal(t, "error", repo.SeverityError.String())
	for _, f := range found {
		if f.Fix != "" {
			_, err := m.Exec(t.Context(), f.Fix)
			require.NoError(t, err, f.Fix)
		}
	}
	found, err = repo.CheckSchema(t.Context(), m, model)
	require.NoError(t, err)
	for _, f := range found {
		assert.Contains(t, []string{"narrow", "float", "rest", "span"}, f.Column, "has no fix in SQL: %s", f)
	}
}

func TestCheckSchema_RefusesKeysOfADomainOverAnEnum(t *testing.T) {
	t.Parallel()
	type Labelled struct {
		Name string `db:"name,pk"`
	}
	m := newManager(t, "create type label as enum ('a'); create domain labels as label; create table labelled (name labels primary key)")
	model := modelOf[Labelled, string](t, "labelled")
	found, err := repo.CheckSchema(t.Context(), m, model)
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, repo.TypeMismatch, found[0].Problem)
	assert.Contains(t, found[0].Text, "a domain over an enum")
	_, err = m.Exec(t.Context(), found[0].Fix)
	require.NoError(t, err)
	found, err = repo.CheckSchema(t.Context(), m, model)
	require.NoError(t, err)
	assert.Empty(t, found)
}

func TestCheckSchema_FixesRepairTheSchema(t *testing.T) {
	t.Parallel()
	m := newManager(t, `create table drift (id bigint, made uuid not null, total int not null generated always as (1) stored, name text,
			age text not null, ref text not null, extra int not null)`)
	type Fixable struct {
		ID      int64     `db:"id,pk"`
		Made    uuid.UUID `db:"made,default"`
		Total   int       `db:"total,generated"`
		Name    string
		Age     int
		Ref     uuid.UUID
		Doc     Settings `db:"doc,json"`
		Missing *time.Time
		Rank    int `db:"rank,version"`
		Tags    []string
		Count   int `db:"count,default"`
	}
	models := []repo.Model{
		modelOf[Fixable, int64](t, "drift", repo.OnConflict("name")), modelOf[User, uuid.UUID](t, "new_users", repo.OnConflict("email")),
		modelOf[LeftRight, pairKey](t, "pairs"), modelOf[Flagged, int](t, "flagged"),
		modelOf[Plain, int64](t, "plain"),
	}
	for range 2 {
		found, err := repo.CheckSchema(t.Context(), m, models...)
		require.NoError(t, err)
		for _, f := range found {
			if f.Fix == "" {
				continue
			}
			assert.Contains(t, f.String(), "to fix it: "+f.Fix)
			_, err := m.Exec(t.Context(), f.Fix)
			require.NoError(t, err, f.Fix)
		}
	}
	found, err := repo.CheckSchema(t.Context(), m, models...)
	require.NoError(t, err)
	for _, f := range found { // there is no fix for a generated column, because its expression is unknown
		assert.Equal(t, "shout", f.Column, f.String())
		assert.Equal(t, f.Text, f.String())
	}
}

func TestCheckSchema_AcceptsMatchingModels(t *testing.T) {
	t.Parallel()
	m := newManager(t, usersDDL, "create view seen as select id, note from (values (1::bigint, 'x')) v (id, note)",
		"create type status as enum ('sad', 'happy')", "create domain short as varchar(5) not null",
		`create table kinds (id int primary key, status public.status not null, short public.short, at timestamp not null, day date,
			during tstzrange, n numeric,
			raw bytea, list int[], u uuid, ip inet, d interval, j json, extra int not null default 1, a text not null, b text not null)`,
		"create unique index on kinds (b, a)", "create unique index on kinds (a) where b <> ''",
		"alter table kinds add constraint one unique (status)")
	type Kinds struct {
		ID     int `db:"id,pk"`
		Status string
		Short  string
		At     time.Time
		Day    *time.Time
		During pgtype.Range[pgtype.Timestamptz]
		N      *float64
		Raw    []byte
		List   []int32
		U      *uuid.UUID
		IP     *netip.Addr
		D      *time.Duration
		J      map[string]any `db:"j,json"`
		A, B   string
	}
	users := modelOf[User, uuid.UUID](t, "users", repo.OnConflict("email"))
	kinds := []repo.Model{
		modelOf[Kinds, int](t, "public.kinds", repo.OnConflict("a", "b")),
		modelOf[Kinds, int](t, "kinds", repo.OnConflict("a").Where("b <> ''")),
		modelOf[Kinds, int](t, "kinds", repo.OnConstraint("one")),
		modelOf[Plain, int64](t, "seen"), users,
	}
	found, err := repo.CheckSchema(t.Context(), m, kinds...)
	require.NoError(t, err)
	assert.Empty(t, errorsOf(found))

	found, err = repo.CheckSchema(t.Context(), m,
		modelOf[Kinds, int](t, "kinds", repo.OnConflict("a")), modelOf[Kinds, int](t, "kinds", repo.OnConstraint("two")))
	require.NoError(t, err)
	assert.Len(t, errorsOf(found), 2, "neither a partial index nor another constraint suffices")

	found, err = repo.CheckSchema(t.Context(), m)
	require.NoError(t, err)
	assert.Empty(t, found)
	_, err = repo.CheckSchema(t.Context(), m, repo.Model{})
	require.ErrorContains(t, err, "create it with ModelOf")
}
