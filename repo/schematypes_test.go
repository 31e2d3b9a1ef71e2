package repo_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
)

func TestCheckSchema_PlansFieldsOfTypesThatTheDriverLacks(t *testing.T) {
	t.Parallel()
	type kinds struct {
		ID    int64 `db:"id,pk"`
		Attrs map[string]*string
		Word  word
		Words []word
		Fold  *word
		Many  []*string
		Any   any
	}
	const ddl = `create extension hstore; create extension citext; create type feeling as enum ('a');
		create table kinds (id bigint primary key,
		attrs hstore, word feeling not null, words feeling[], fold citext, many feeling[], "any" feeling)`
	m := managerOf(t, fxtest.DB(t, fxtest.SQL(ddl)))
	model, err := repo.ModelOf[kinds, int64]("kinds")
	require.NoError(t, err)
	for _, q := range []repo.Querier{m, m.DB().Pool()} {
		findings, err := repo.CheckSchema(t.Context(), q, model)
		require.NoError(t, err)
		require.Len(t, findings, 1)
		assert.Equal(t, repo.UnregisteredType, findings[0].Problem)
		assert.Equal(t, "attrs", findings[0].Column)
		assert.Contains(t, findings[0].Text, `column "attrs" of type hstore`)
		assert.Contains(t, findings[0].Text, `register it with pgfx.WithTypes("hstore")`)
	}
	m = managerOf(t, fxtest.DB(t, fxtest.SQL(ddl), fxtest.Pool(pgfx.WithTypes("hstore", "feeling", "citext"))))
	findings, err := repo.CheckSchema(t.Context(), m, model)
	require.NoError(t, err)
	assert.Empty(t, findings)

	type wrong struct {
		ID    int64 `db:"id,pk"`
		Attrs chanless
	}
	_, err = m.Exec(t.Context(), "create table wrong (id bigint primary key, attrs hstore not null)")
	require.NoError(t, err)
	model, err = repo.ModelOf[wrong, int64]("wrong")
	require.NoError(t, err)
	findings, err = repo.CheckSchema(t.Context(), m, model)
	require.NoError(t, err)
	require.Len(t, findings, 1)
	assert.Equal(t, repo.TypeMismatch, findings[0].Problem)
}

type chanless int

func TestModel_RefusesNullTypesThatCannotBeConverted(t *testing.T) {
	t.Parallel()
	type bad struct {
		ID   int64 `db:"id,pk"`
		Tags sql.Null[[]string]
	}
	_, err := repo.ModelOf[bad, int64]("bad")
	require.ErrorContains(t, err, "field Tags has type sql.Null[[]string], which package database/sql can neither read nor write: use *[]string")
	type good struct {
		ID   int64 `db:"id,pk"`
		At   sql.Null[time.Time]
		Data sql.Null[[]byte]
		Name sql.Null[string]
	}
	_, err = repo.ModelOf[good, int64]("good")
	require.NoError(t, err)
}
