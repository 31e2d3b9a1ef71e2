package fxtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

func TestAssertUsesIndex_PassesWithIndex(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t)
	_, err := db.Pool().Exec(t.Context(), `create table people (id int primary key, name text, email text unique);
		insert into people select n, 'name ' || n, 'email ' || n from generate_series(1, 3) n;
		analyze people`)
	require.NoError(t, err)

	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"select * from people where id = $1", []any{1}},
		{"select name from people where email = $1 or id = $2", []any{"x", 1}},
		{"select a.name from people a join people b using (id) where a.id = 1", nil},
		{"update people set name = 'x' where id = any($1)", []any{[]int{1, 2}}},
		{"delete from people where email = $1", []any{"email 1"}},
		{"select relname from pg_class, people where relpages >= 0 and people.id = 1", nil},
	} {
		assert.True(t, fxtest.AssertUsesIndex(t, db, statement.sql, statement.args...), statement.sql)
	}
	var left int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select count(*) from people where name like 'name %'").Scan(&left))
	assert.Equal(t, 3, left, "the statements are not executed")
	var setting string
	require.NoError(t, db.Pool().QueryRow(t.Context(), "show enable_seqscan").Scan(&setting))
	assert.Equal(t, "on", setting)
}

func TestAssertUsesIndex_FailsWithoutIndex(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t)
	_, err := db.Pool().Exec(t.Context(), "create table people (id int primary key, name text)")
	require.NoError(t, err)

	assert.Equal(t, []string{"fxtest: sequential scan of public.people in: select * from people where name = $1\n" +
		"plan:\n  Seq Scan on people, filter (people.name = 'x'::text)"},
		testrecorder.Errors(t, func(tb testing.TB) {
			assert.False(t, fxtest.AssertUsesIndex(tb, db, "select *\n\tfrom people where name = $1", "x"))
		}))
	for sql, want := range map[string]string{
		"select 1": "fxtest: no index is used in: select 1\nplan:\n  Result",
		"select from people a join people b on a.name = b.name where a.id = 1": "sequential scan of public.people",
		"select from nowhere": "fxtest: explain select from nowhere: ",
	} {
		messages := testrecorder.Errors(t, func(tb testing.TB) { fxtest.AssertUsesIndex(tb, db, sql) })
		require.Len(t, messages, 1)
		assert.Contains(t, messages[0], want)
	}
}
