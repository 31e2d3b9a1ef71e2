package repo_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
)

func TestQuery_ReadsStructsMapsAndValues(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	ctx := t.Context()
	type Row struct {
		N       int
		Address Address
	}
	rows, err := repo.Query[Row](ctx, m, `select n, 's' as "address.street", null as "address.city" from generate_series(1, $1) n`, 2)
	require.NoError(t, err)
	assert.Equal(t, []Row{{1, Address{Street: "s"}}, {2, Address{Street: "s"}}}, rows)

	pointers, err := repo.Query[*Address](ctx, m, "select @street as street", pgx.NamedArgs{"street": "x"})
	require.NoError(t, err)
	assert.Equal(t, []*Address{{Street: "x"}}, pointers)

	maps, err := repo.Query[map[string]any](ctx, m, "select 1 as a, 'x' as b")
	require.NoError(t, err)
	assert.Equal(t, []map[string]any{{"a": int32(1), "b": "x"}}, maps)

	numbers, err := repo.Query[int](ctx, m, "select n from generate_series(1, 3) n")
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2, 3}, numbers)

	times, err := repo.Query[time.Time](ctx, m, "select 'epoch'::timestamptz")
	require.NoError(t, err)
	assert.True(t, times[0].Equal(time.Unix(0, 0)))

	one, err := repo.QueryOne[Row](ctx, m, "select 7 as n")
	require.NoError(t, err)
	assert.Equal(t, Row{N: 7}, one)
	when, err := repo.QueryOne[*time.Time](ctx, m, "select null::timestamptz")
	require.NoError(t, err)
	assert.Nil(t, when)
	words, err := repo.Pluck[string](ctx, m, "select unnest(array['a','b'])")
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, words)

	empty, err := repo.Query[Row](ctx, m, "select 1 as n where false")
	require.NoError(t, err)
	assert.Equal(t, []Row{}, empty)
	none, err := repo.Pluck[string](ctx, m, "select 'x' where false")
	require.NoError(t, err)
	assert.Equal(t, []string{}, none)
}

func TestQuery_ReportsScanErrors(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	ctx := t.Context()
	type Row struct{ N int }
	_, err := repo.QueryOne[Row](ctx, m, "select 1 as n where false")
	require.ErrorIs(t, err, repo.ErrNotFound)
	_, err = repo.QueryOne[time.Time](ctx, m, "select now() where false")
	require.ErrorIs(t, err, repo.ErrNotFound)
	for want, sql := range map[string]string{
		"expected 1 row, got: 2":           "select n from generate_series(1, 2) n",
		"column: 'other': no correspond":   "select 1 as n, 2 as other",
		"duplicate column":                 "select 1 as n, 2 as n",
		`NULL of column "n" can't be read`: "select null::int as n",
		"42601":                            "selekt",
	} {
		_, err := repo.QueryOne[Row](ctx, m, sql)
		require.ErrorContains(t, err, want)
		assert.Regexp(t, "^repo: query: ", err.Error())
	}
	_, err = repo.Query[Node](ctx, m, "select 1 as id")
	require.ErrorContains(t, err, "repo_test.Node contains itself")
	_, err = repo.QueryOne[Node](ctx, m, "select 1 as id")
	require.ErrorContains(t, err, "repo_test.Node contains itself", "the cached error is returned too")
	_, err = repo.Query[int](ctx, m, "select $1::int", struct{ S string }{"hush-hush"})
	require.ErrorContains(t, err, "the argument for $1 can't be sent")
	assert.NotContains(t, err.Error(), "hush-hush")
	_, err = repo.Pluck[int](ctx, m, "select $1::text::int", "hush-hush")
	require.ErrorContains(t, err, "22P02")
	assert.NotContains(t, err.Error(), "hush-hush")
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err = repo.Pluck[int](done, m, "select 1")
	require.ErrorIs(t, err, context.Canceled)
}

// collect reads at most limit rows of a stream. A negative limit means all rows.
func collect[U any](ctx context.Context, q repo.Querier, limit int, sql string, args ...any) (found []U, err error) {
	for row, failed := range repo.Stream[U](ctx, q, sql, args...) {
		if failed != nil {
			return found, failed
		}
		if found = append(found, row); len(found) == limit {
			break
		}
	}
	return found, nil
}

func TestStream_ReadsRowsOneByOne(t *testing.T) {
	t.Parallel()
	m := managerOf(t, fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1}})))
	ctx := t.Context()
	type Row struct {
		N    int
		Text *string
	}
	const many = "select n, n::text as text from generate_series(1, 100000) n"
	rows, err := collect[Row](ctx, m, -1, "select n, nullif(n::text, @hidden) as text from generate_series(1, 3) n",
		pgx.NamedArgs{"hidden": "2"})
	require.NoError(t, err)
	one, three := "1", "3"
	assert.Equal(t, []Row{{1, &one}, {2, nil}, {3, &three}}, rows)
	numbers, err := collect[int](ctx, m, -1, "select n from generate_series(1, 3) n")
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2, 3}, numbers)
	times, err := collect[time.Time](ctx, m, -1, "select now() from generate_series(1, 3) n")
	require.NoError(t, err)
	assert.Len(t, times, 3)
	maps, err := collect[map[string]any](ctx, m, -1, "select 1 as a, 'x' as b")
	require.NoError(t, err)
	assert.Equal(t, []map[string]any{{"a": int32(1), "b": "x"}}, maps)

	for _, q := range []repo.Querier{m, m.DB().Pool()} {
		rows, err = collect[Row](ctx, q, 2, many)
		require.NoError(t, err)
		assert.Len(t, rows, 2)
		require.NoError(t, m.DB().Pool().Ping(ctx), "the only connection was released")
		assert.Panics(t, func() {
			for range repo.Stream[Row](ctx, q, many) { //nolint:errcheck // the body panics
				panic("in the body")
			}
		})
		require.NoError(t, m.DB().Pool().Ping(ctx), "the only connection was released")
		rows, err = collect[Row](ctx, q, -1, "select 6 / (4 - n) as n, null as text from generate_series(1, 9) n")
		require.ErrorContains(t, err, "22012")
		assert.Regexp(t, "^repo: query: ", err.Error())
		assert.LessOrEqual(t, len(rows), 3)
		_, err = collect[Row](ctx, q, -1, "select 1 as other")
		require.ErrorContains(t, err, "no correspond")
		_, err = collect[Node](ctx, q, -1, "select 1 as id")
		require.ErrorContains(t, err, "contains itself")
		_, err = collect[Row](ctx, q, -1, "selekt")
		require.ErrorContains(t, err, "42601")
	}
	require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
		rows, err = collect[Row](ctx, m, 2, many)
		require.NoError(t, err)
		assert.Len(t, rows, 2)
		_, err = m.Exec(ctx, "select 1")
		return err
	}), "the transaction is usable after the loop ends early")
}

func TestQuery_JoinsTheTransaction(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	boom := errors.New("boom")
	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.NoError(t, users.Create(ctx, &User{Email: "ada"}))
		n, err := repo.QueryOne[int](ctx, m, "select count(*) from users")
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		return boom
	}), boom)
	n, err := repo.QueryOne[int](t.Context(), m.DB().Pool(), "select count(*) from users")
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestStalePlan_IsRetriedOutsideTransactions(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table plain (id bigint primary key generated always as identity, note text not null)")
	r := newRepo[Plain, int64](t, m, "plain")
	ctx := t.Context()
	row := &Plain{Note: "1"}
	require.NoError(t, r.Create(ctx, row))
	alter := func(typ string) {
		_, err := m.Exec(ctx, "alter table plain alter column note type "+typ)
		require.NoError(t, err)
	}
	read := func(ctx context.Context) error {
		_, err := repo.Query[Plain](ctx, m, "select id, note from plain")
		return err
	}
	each := func() {
		for _, err := range r.All(ctx) {
			require.NoError(t, err)
		}
		for _, err := range repo.Stream[Plain](ctx, m.DB().Pool(), "select note, id from plain") {
			require.NoError(t, err)
		}
	}
	use := func() {
		require.NoError(t, second(r.Get(ctx, row.ID)))
		require.NoError(t, r.Create(ctx, &Plain{Note: "2"}))
		require.NoError(t, r.CreateMany(ctx, []Plain{{Note: "3"}}))
		require.NoError(t, read(ctx))
		each()
	}
	use()
	alter("varchar(5)")
	use()
	alter("varchar(6)")
	alter("text")
	use()
	require.NoError(t, m.Do(ctx, read))
	alter("varchar(5)")
	require.ErrorContains(t, m.Do(ctx, read), "0A000", "a transaction is aborted, so a retry is impossible")
}

func TestRepository_ToleratesAddedColumns(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	ada := create(t, users, "ada")[0]
	require.NoError(t, second(users.Get(t.Context(), ada.ID)))
	_, err := m.Exec(t.Context(), "alter table users add column extra uuid default gen_random_uuid()")
	require.NoError(t, err)
	require.NoError(t, second(users.Get(t.Context(), ada.ID)))
	require.NoError(t, users.Update(t.Context(), &ada))
	require.NoError(t, second(users.Get(t.Context(), ada.ID)))
}
