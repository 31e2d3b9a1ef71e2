package repo_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// readSlow reads the first row of a query without a row plan.
func readSlow[T any](t *testing.T, m *txn.Manager, sql string, extra ...any) (T, error) {
	t.Helper()
	model, err := repo.ModelOf[T, int64]("any")
	require.NoError(t, err)
	rows, err := m.Query(t.Context(), sql)
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next(), rows.Err())
	return repo.ReadSlow[T](model, rows, extra...)
}

// folder contains itself in a column that is one value.
type folder struct {
	ID     int64 `db:"id,pk"`
	Name   string
	Parent *folder `db:"parent,json"`
}

// beside has a column that is one value beside a column with its name as a prefix.
type beside struct {
	ID    int64          `db:"id,pk"`
	Name  sql.NullString `db:"name"`
	Other struct {
		String string
	} `db:"name"`
}

type street struct {
	Street string
	City   *string
}

// nested has a struct that stays nil when all its columns are NULL.
type nested struct {
	ID   int64 `db:"id,pk"`
	Home *street
}

func TestSlowReader_UsesScanyUnlessItCannotReadTheModel(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	for _, one := range []struct {
		model func() (repo.Model, error)
		scany bool
	}{
		{func() (repo.Model, error) { return repo.ModelOf[Thing, int64]("t") }, true},
		{func() (repo.Model, error) { return repo.ModelOf[Everything, int64]("t") }, true},
		{func() (repo.Model, error) { return repo.ModelOf[folder, int64]("t") }, false},
		{func() (repo.Model, error) { return repo.ModelOf[beside, int64]("t") }, false},
		{func() (repo.Model, error) { return repo.ModelOf[nested, int64]("t") }, false},
	} {
		model, err := one.model()
		require.NoError(t, err)
		assert.Equal(t, one.scany, repo.ScanyReads(model), model)
	}

	var inserted bool
	var text *string
	thing, err := readSlow[Thing](t, m, "select 1::bigint as id, 2::bigint as count, 'a' as label, true, 'x'", &inserted, &text)
	require.NoError(t, err)
	label, x := "a", "x"
	assert.Equal(t, Thing{ID: 1, Count: 2, Label: &label}, thing)
	assert.True(t, inserted)
	assert.Equal(t, &x, text)
	_, err = readSlow[Thing](t, m, "select 1::bigint as id, null::bigint as count, 'a' as label")
	require.ErrorContains(t, err, "scany: scan row into struct fields")

	sub, err := readSlow[folder](t, m, `select 1::bigint as id, 'a' as name, '{"ID": 2, "Name": "b"}'::jsonb as parent`)
	require.NoError(t, err)
	assert.Equal(t, folder{ID: 1, Name: "a", Parent: &folder{ID: 2, Name: "b"}}, sub)

	both, err := readSlow[beside](t, m, `select 1::bigint as id, 'a' as name, 'b' as "name.string", false`, &inserted)
	require.NoError(t, err)
	assert.Equal(t, sql.NullString{String: "a", Valid: true}, both.Name)
	assert.Equal(t, "b", both.Other.String)
	assert.False(t, inserted)

	none, err := readSlow[nested](t, m, `select 1::bigint as id, null as "home.street", null as "home.city"`)
	require.NoError(t, err)
	assert.Nil(t, none.Home)
	some, err := readSlow[nested](t, m, `select 1::bigint as id, 's' as "home.street", null as "home.city"`)
	require.NoError(t, err)
	assert.Equal(t, &street{Street: "s"}, some.Home)
	_, err = readSlow[nested](t, m, `select 1::bigint as id, null as "home.street", 'c' as "home.city"`)
	require.ErrorContains(t, err, `cannot scan NULL of column "home.street" into field Home.Street`)
}

func TestRepository_ReadsModelThatContainsItselfAsJSON(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table folders (id bigint primary key, name text not null, parent jsonb)")
	folders := newRepo[folder, int64](t, m, "folders")
	want := folder{ID: 2, Name: "b", Parent: &folder{ID: 1, Name: "a"}}
	row := want
	require.NoError(t, folders.Create(t.Context(), &row))
	got, err := folders.Get(t.Context(), 2)
	require.NoError(t, err)
	assert.Equal(t, want, *got)
	queried, err := repo.QueryOne[folder](t.Context(), m, "select id, name, parent from folders")
	require.NoError(t, err)
	assert.Equal(t, want, queried)
}
