package repo_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/georgysavva/scany/v2/pgxscan"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// requireScanyResult requires that a query returns the same rows as scany, or an error if scany returns one.
func requireScanyResult[U any](t *testing.T, m *txn.Manager, sql string) {
	t.Helper()
	query := fmt.Sprintf("%v from %s", reflect.TypeFor[U](), sql)
	want := []U{}
	wantErr := pgxscan.Select(t.Context(), m, &want, sql)
	got, err := repo.Query[U](t.Context(), m, sql)
	if wantErr != nil {
		require.Error(t, err, query)
	} else {
		require.NoError(t, err, query)
		assert.Equal(t, want, got, query)
	}
	var wantOne U
	wantErr = pgxscan.Get(t.Context(), m, &wantOne, sql)
	gotOne, err := repo.QueryOne[U](t.Context(), m, sql)
	if wantErr != nil {
		require.Error(t, err, query)
		return
	}
	require.NoError(t, err, query)
	assert.Equal(t, wantOne, gotOne, query)
}

func TestQuery_MatchesScany(t *testing.T) {
	t.Parallel()
	type base struct {
		ID      int64
		Created time.Time
	}
	type address struct {
		Street string
		City   *string
	}
	type flat struct {
		base

		Name  string `db:"name,unknown_role"`
		Email *string
	}
	type deep struct {
		ID    int64 `db:"id,pk"`
		Where address
		Also  *address
		Skip  string `db:"-"`
		Doc   json.RawMessage
		Key   uuid.UUID
	}
	type tagged struct {
		base `db:"base"`

		Other address `db:"o"`
	}
	m := newManager(t)
	for _, sql := range []string{
		"select 1::bigint as id",
		"select timestamptz '2024-02-29 12:00Z' as created, 2::bigint as id, 'x' as name, null as email",
		"select 'x'::text as name, 3::bigint as id, 'e' as email",
		"select 3::bigint as id, 4::bigint as id",
		"select 3::bigint as id, 'x' as unknown",
		"select null::bigint as id",
		"select n::bigint as id from generate_series(1, 40) n",
		"select n::bigint as id from generate_series(1, 0) n",
		"select (5 - n)::bigint as id, 1 / (n - 3) as name from generate_series(1, 5) n",
		`select 's' as "where.street", 'c' as "where.city", 5::bigint as id`,
		`select 's' as "where.street", null as "also.street", 5::bigint as id`,
		`select 's' as "also.street", 'c' as "also.city", '{"a": 1}'::jsonb as doc, gen_random_uuid() is not null as key`,
		`select '{"a": 1}'::jsonb as doc, '11111111-2222-3333-4444-555555555555'::uuid as key`,
		`select 'x' as "where"`, "select 'x' as skip", "select 'x' as \"Name\"",
		`select 7::bigint as "base.id", 's' as "o.street"`,
		"select", "select 'x'", "syntax error",
		"select " + strings.Repeat("1::bigint as id, ", 3) + "2 as id",
	} {
		requireScanyResult[flat](t, m, sql)
		requireScanyResult[deep](t, m, sql)
		requireScanyResult[tagged](t, m, sql)
		requireScanyResult[*deep](t, m, sql)
		requireScanyResult[base](t, m, sql)
		requireScanyResult[map[string]any](t, m, sql)
		requireScanyResult[int64](t, m, sql)
	}
}

func TestQuery_FollowsColumnOrderAndTypes(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL, "insert into things values (1, 2, 'a')")
	type row struct {
		ID    int64
		Label string
		Count int64
	}
	for i := range 200 { // more column orders and types than the cache holds
		columns := []string{"id", "label", "count"}
		columns[0], columns[i%3] = columns[i%3], columns[0]
		got, err := repo.QueryOne[row](t.Context(), m, "select "+strings.Join(columns, ", ")+" from things")
		require.NoError(t, err)
		assert.Equal(t, row{1, "a", 2}, got)
		if i%50 == 0 {
			require.NoError(t, second(m.Exec(t.Context(), "alter table things alter column count type "+[]string{"bigint", "smallint"}[i/50%2])))
		}
	}
}
