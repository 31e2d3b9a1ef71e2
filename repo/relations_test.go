package repo_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Good is a row of every kind of relation.
type Good struct {
	ID      int64 `db:"id,pk"`
	Code    string
	Price   int
	Version int64 `db:"version,version"`
}

const goodColumns = "(id bigint primary key, code text not null unique, price integer not null check (price < 1000), version bigint not null)"

func goods(from, n int) []Good {
	rows := make([]Good, n)
	for i := range rows {
		rows[i] = Good{ID: int64(from + i), Code: fmt.Sprintf("code%d", from+i), Price: i % 900}
	}
	return rows
}

// relationKinds are the relations that a repository may write to, by DDL.
func relationKinds() map[string][]string {
	table := "create table base " + goodColumns
	return map[string][]string{
		"a table":          {"create table goods " + goodColumns},
		"a view":           {table, "create view goods as select id, code, price, version from base"},
		"a view of a view": {table, "create view inner_goods as select * from base", "create view goods as select * from inner_goods where price >= 0"},
		"a view with names of system columns": {
			table, "create view goods as select id, code, price, version, 1 as xmax, 2 as tableoid, 3 as ctid from base",
		},
		"a partitioned table": {
			"create table goods (id bigint primary key, code text not null, price integer not null check (price < 1000), version bigint not null) " +
				"partition by range (id)",
			"create table goods_low partition of goods for values from (minvalue) to (3)",
			"create table goods_high partition of goods for values from (3) to (maxvalue)",
		},
		"a parent with children": {"create table goods " + goodColumns, "create table more_goods () inherits (goods)"},
		"a table with a rule that adds": {
			"create table goods " + goodColumns, "create table log (id bigint)",
			"create rule log_deleted as on delete to goods do also insert into log values (old.id)",
		},
		"a table with triggers": {
			"create table goods " + goodColumns,
			"create function keep() returns trigger language plpgsql as 'begin return new; end'",
			"create trigger keep before insert or update on goods for each row execute function keep()",
		},
		"a table with row-level security": {
			"create table goods " + goodColumns, "alter table goods enable row level security", "alter table goods force row level security",
			"create policy everything on goods using (price < 900) with check (price < 900)",
		},
	}
}

func TestRepository_WritesEveryKindOfRelation(t *testing.T) {
	t.Parallel()
	for name, ddl := range relationKinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{4, 400} {
				checkRelation(t, newManager(t, ddl...), n)
			}
		})
	}
}

func checkRelation(t *testing.T, m *txn.Manager, n int) {
	t.Helper()
	r, ctx := newRepo[Good, int64](t, m, "goods"), t.Context()
	first := &Good{ID: 0, Code: "code0"}
	result, err := r.Upsert(ctx, first)
	require.NoError(t, err)
	assert.Equal(t, repo.Inserted, result)
	result, err = r.Upsert(ctx, &Good{ID: 0, Code: "code0"}, repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, repo.Unchanged, result)
	result, err = r.Upsert(ctx, first)
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, result)
	assert.Equal(t, int64(2), first.Version)

	require.NoError(t, r.CreateMany(ctx, goods(1, n)))
	results, err := r.UpsertMany(ctx, goods(n/2, n))
	require.NoError(t, err)
	for i := range results {
		want := repo.Updated
		if n/2+i > n {
			want = repo.Inserted
		}
		assert.Equal(t, want, results[i], i)
	}
	results, err = r.UpsertMany(ctx, goods(n, n), repo.DoNothing())
	require.NoError(t, err)
	for i := range results {
		want := repo.Unchanged
		if n+i >= n/2+n {
			want = repo.Inserted
		}
		assert.Equal(t, want, results[i], i)
	}
	rows, err := r.Find(ctx, repo.Asc("id"), repo.Limit(n))
	require.NoError(t, err)
	for i := range rows {
		rows[i].Price = 7
	}
	require.NoError(t, r.UpdateMany(ctx, rows))
	sum, err := r.Count(ctx, repo.Eq("price", 7))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, sum, int64(n))
	require.NoError(t, r.Delete(ctx, 1))
	deleted, err := r.DeleteMany(ctx, []int64{1, 2, 3})
	require.NoError(t, err)
	assert.Equal(t, int64(2), deleted)
}

func TestUpsert_ViewThatReplacesATable(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table goods "+goodColumns)
	r, ctx := newRepo[Good, int64](t, m, "goods"), t.Context()
	require.NoError(t, second(r.Upsert(ctx, &Good{ID: 1})))
	for _, ddl := range []string{"alter table goods rename to base", "create view goods as select * from base"} {
		_, err := m.Exec(ctx, ddl)
		require.NoError(t, err)
	}
	_, err := r.Upsert(ctx, &Good{ID: 1})
	require.Error(t, err, "the statement was made for a table")
	result, err := r.Upsert(ctx, &Good{ID: 1})
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, result)
}

func TestUpsert_TableThatDoesNotExist(t *testing.T) {
	t.Parallel()
	r := newRepo[Good, int64](t, newManager(t), "goods")
	_, err := r.Upsert(t.Context(), &Good{ID: 1})
	require.ErrorContains(t, err, "create it in a migration")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Upsert(ctx, &Good{ID: 1})
	require.ErrorIs(t, err, context.Canceled)
}

func TestCopyMany_RelationsThatRefuseCopy(t *testing.T) {
	t.Parallel()
	for name, ddl := range relationKinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManager(t, ddl...)
			r, ctx := newRepo[Good, int64](t, m, "goods"), t.Context()
			n, err := r.CopyMany(ctx, goods(0, 1200))
			require.NoError(t, err)
			assert.Equal(t, int64(1200), n)
			n, err = r.Import(ctx, sequence(3, func(i int) (Good, error) { return Good{ID: int64(5000 + i), Code: fmt.Sprint("x", i)}, nil }))
			require.NoError(t, err)
			assert.Equal(t, int64(3), n)
			rows := goods(2000, 1200)
			rows[1100].Price = 1000
			_, err = r.CopyMany(ctx, rows)
			requireIndex(t, err, 1100, name)
			count, err := r.Count(ctx)
			require.NoError(t, err)
			assert.Equal(t, int64(1203), count)
		})
	}
}

// PostgreSQL refuses ON CONFLICT for a table with such a rule, and COPY ignores the rule.
func TestCreate_RulesForInsertsAreFollowedInEveryWay(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		"create rule log_inserted as on insert to goods do also insert into log values (new.id)",
		"create rule log_inserted as on insert to goods do instead insert into log values (new.id) returning id, 'x'::text, 1, 1::bigint",
	} {
		m := newManager(t, "create table goods "+goodColumns, "create table log (id bigint)", rule)
		r, ctx := newRepo[Good, int64](t, m, "goods"), t.Context()
		require.NoError(t, r.Create(ctx, &Good{ID: 1, Code: "one"}))
		var batch repo.Batch
		r.In(&batch).Create(&Good{ID: 2, Code: "two"})
		require.NoError(t, batch.Send(ctx))
		require.NoError(t, r.CreateMany(ctx, goods(3, 4)))
		require.NoError(t, second(r.CopyMany(ctx, goods(7, 3))))
		require.NoError(t, second(r.Import(ctx, sequenceOf(goods(10, 3)...))))
		logged, err := repo.Pluck[int64](ctx, m, "select id from log order by id")
		require.NoError(t, err)
		assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, logged, rule)
	}
}

// wideGood has a field that is wider than its column.
type wideGood struct {
	ID      int64 `db:"id,pk"`
	Code    string
	Price   int64
	Version int64 `db:"version,version"`
}

func TestCopyMany_RowSecurityWithoutThePrivilegeToSelect(t *testing.T) {
	t.Parallel()
	role := "inserter_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	m := newManager(t, "create table goods "+goodColumns, "alter table goods enable row level security",
		"create policy cheap on goods for insert with check (price < 900)", "create role "+role, "grant insert on goods to "+role)
	t.Cleanup(func() {
		_, err := m.Exec(context.WithoutCancel(t.Context()), "drop owned by "+role+"; drop role "+role, pgx.QueryExecModeSimpleProtocol)
		assert.NoError(t, err)
	})
	r := newRepo[wideGood, int64](t, m, "goods")
	as := func(rows ...wideGood) error {
		return m.Do(t.Context(), func(ctx context.Context) error {
			_, err := m.Exec(ctx, "set local role "+role)
			require.NoError(t, err)
			return second(r.CopyMany(ctx, rows))
		})
	}
	require.NoError(t, as(wideGood{ID: 1, Code: "a"}, wideGood{ID: 2, Code: "b"}))
	count, err := r.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(2), count)
	refused := as(wideGood{ID: 3, Code: "c"}, wideGood{ID: 4, Code: "d", Price: 950})
	requireIndex(t, refused, 1, "the policy")
	unsent := as(wideGood{ID: 3, Code: "c"}, wideGood{ID: 4, Code: "d", Price: 1 << 40})
	requireIndex(t, unsent, 1, "a value that can't be sent")
	require.ErrorIs(t, unsent, repo.ErrValue)
	require.ErrorContains(t, unsent, "price")
}
