package repo_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// serverVersion returns the server's version, such as 150004.
func serverVersion(t *testing.T, m *txn.Manager) int {
	t.Helper()
	version, err := repo.QueryOne[int](t.Context(), m, "select current_setting('server_version_num')::int")
	require.NoError(t, err)
	return version
}

type leg struct {
	ID   int64  `db:"id,pk,generated"`
	Plan *int64 `db:"plan"`
	Leg  int64  `db:"leg"`
	Note string
}

func newLegs(t *testing.T, unique string, opts ...repo.Option) (*txn.Manager, *repo.Repository[leg, int64]) {
	t.Helper()
	m := newManager(t)
	if strings.Contains(unique, "nulls not distinct") && serverVersion(t, m) < 150000 {
		t.Skip("NULLS NOT DISTINCT came with PostgreSQL 15")
	}
	_, err := m.Exec(t.Context(), "create table legs (id bigint primary key generated always as identity, plan bigint, leg bigint not null, "+
		"note text not null, constraint legs_key unique "+unique+" (plan, leg))")
	require.NoError(t, err)
	return m, newRepo[leg, int64](t, m, "legs", append(opts, repo.OnConflict("plan", "leg"))...)
}

// withoutPlan returns rows of which each is NULL in a column of the conflict target.
func withoutPlan(n int) []leg {
	rows := make([]leg, n)
	for i := range rows {
		rows[i] = leg{Leg: int64(i)}
	}
	return rows
}

func TestUpsert_NullsNotDistinct(t *testing.T) {
	t.Parallel()
	for _, target := range []repo.UpsertOption{repo.OnConflict("plan", "leg"), repo.OnConstraint("legs_key")} {
		_, legs := newLegs(t, "nulls not distinct")
		ctx := t.Context()
		first := &leg{Leg: 1, Note: "first"}
		result, err := legs.Upsert(ctx, first, target, repo.DoNothing())
		require.NoError(t, err)
		assert.Equal(t, repo.Inserted, result)
		again := &leg{Leg: 1, Note: "second"}
		result, err = legs.Upsert(ctx, again, target, repo.DoNothing())
		require.NoError(t, err)
		assert.Equal(t, repo.Unchanged, result)
		assert.Equal(t, first, again)
		result, err = legs.Upsert(ctx, again, target)
		require.NoError(t, err)
		assert.Equal(t, repo.Updated, result)
		for _, n := range []int{2, 40, 300} {
			results, err := legs.UpsertMany(ctx, withoutPlan(n), target, repo.DoNothing())
			require.NoError(t, err, n)
			assert.Equal(t, repo.Unchanged, results[1])
			rows := withoutPlan(n)
			rows[n-1].Leg = 0
			for _, opts := range [][]repo.UpsertOption{{target}, {target, repo.DoNothing()}} {
				_, err = legs.UpsertMany(ctx, rows, opts...)
				requireDuplicate(t, err, n-1, "conflict columns as the row at index 0")
			}
		}
	}
}

func requireDuplicate(t *testing.T, err error, index int, text string) {
	t.Helper()
	invalid, ok := errors.AsType[*repo.InvalidError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, index, invalid.Index)
	require.ErrorContains(t, err, text)
}

func TestUpsert_NullsDistinct(t *testing.T) {
	t.Parallel()
	m, legs := newLegs(t, "")
	ctx := t.Context()
	for _, n := range []int{2, 300} {
		results, err := legs.UpsertMany(ctx, append(withoutPlan(n), withoutPlan(n)...), repo.DoNothing())
		require.NoError(t, err)
		assert.NotContains(t, results, repo.Unchanged)
	}
	_, err := m.Exec(ctx, `create function refuse() returns trigger language plpgsql as 'begin return null; end';
		create trigger refuse before insert on legs for each row execute function refuse()`)
	require.NoError(t, err)
	_, err = legs.Upsert(ctx, &leg{Leg: 1}, repo.DoNothing())
	require.ErrorIs(t, err, repo.ErrSuppressed, "the other row with NULL is no conflict")
}

// keyed is a row with a key of a type that the server compares in another way than Go.
type keyed[K any] struct {
	Key   K `db:"key,pk"`
	Value int
}

// sameKeys are pairs of values that differ in Go and are the same key for the server.
func sameKeys() map[string]func(t *testing.T) {
	at := time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)
	id := uuid.NewString()
	return map[string]func(t *testing.T){
		"citext":                 checkSameKey("citext", "Key", "kEY", "other", "third"),
		"char(8)":                checkSameKey("char(8)", "key", "key  ", "other", "third"),
		"uuid in a string":       checkSameKey("uuid", id, strings.ToUpper(id), uuid.NewString(), uuid.NewString()),
		"numeric":                checkSameKey("numeric", "1", "1.00", "2", "3"),
		"text without case":      checkSameKey("text collate nocase", "Key", "kEY", "other", "third"),
		"jsonb":                  checkSameKey("jsonb", `{"a":1,"b":2}`, `{"b": 2, "a": 1.0}`, `1`, `2`),
		"domain over citext":     checkSameKey("email", "Key", "kEY", "other", "third"),
		"timestamptz":            checkSameKey("timestamptz", at, at.Add(99), at.Add(time.Second), at.Add(time.Hour)),
		"float8":                 checkSameKey("float8", 0, math.Copysign(0, -1), 1.5, 2.5),
		"float4 in a float64":    checkSameKey("float4", float64(float32(0.1)), 0.1, 1.5, 2.5),
		"bytea":                  checkSameKey("numeric(10,2)", "1.10", "1.1", "2", "3"),
		"time with another zone": checkSameKey("timestamptz", at, at.In(time.FixedZone("", 7200)), at.Add(1e9), at.Add(2e9)),
	}
}

const sameKeysDDL = `create extension citext; create domain email as citext;
	create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`

// checkSameKey checks every method that finds rows by several keys. one and same are the same key for the server.
func checkSameKey[K any](typ string, one, same, other, third K) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		m := newManager(t, sameKeysDDL, "create table keyed (key "+typ+" primary key, value integer not null)")
		r, ctx := newRepo[keyed[K], K](t, m, "keyed"), t.Context()
		rows := []keyed[K]{{one, 1}, {other, 2}}
		require.NoError(t, r.CreateMany(ctx, rows))

		_, err := r.Get(ctx, same)
		require.NoError(t, err)
		found, err := r.GetMany(ctx, []K{same, other, one, third, same})
		missing, ok := errors.AsType[*repo.MissingError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, []int{3}, missing.Indexes)
		values := func(rows []keyed[K]) (list []int) {
			for _, row := range rows {
				list = append(list, row.Value)
			}
			return list
		}
		assert.Equal(t, []int{1, 2, 1, 1}, values(found))
		found, err = r.GetMany(ctx, []K{other, same})
		require.NoError(t, err)
		assert.Equal(t, []int{2, 1}, values(found))
		var batch repo.Batch
		result := r.In(&batch).GetMany([]K{same, other, third})
		require.NoError(t, batch.Send(ctx))
		found, err = result.Value()
		require.ErrorIs(t, err, repo.ErrNotFound)
		assert.Equal(t, []int{1, 2}, values(found))

		for _, threshold := range []int{-1, 1} {
			message := fmt.Sprint("threshold ", threshold)
			many := newRepo[keyed[K], K](t, m, "keyed", repo.WithStagingThreshold(threshold))
			require.NoError(t, many.UpdateMany(ctx, []keyed[K]{{other, 20}, {same, 10}}), message)
			err = many.UpdateMany(ctx, []keyed[K]{{one, 11}, {other, 21}, {same, 12}})
			requireDuplicate(t, err, 2, "it has the same key as the row at index 0")
			results, err := many.UpsertMany(ctx, []keyed[K]{{other, 22}, {same, 13}})
			require.NoError(t, err, message)
			assert.Equal(t, []repo.UpsertResult{repo.Updated, repo.Updated}, results)
			results, err = many.UpsertMany(ctx, []keyed[K]{{other, 0}, {same, 0}}, repo.DoNothing())
			require.NoError(t, err, message)
			assert.Equal(t, []repo.UpsertResult{repo.Unchanged, repo.Unchanged}, results)
			for _, opts := range [][]repo.UpsertOption{nil, {repo.DoNothing()}} {
				_, err = many.UpsertMany(ctx, []keyed[K]{{one, 0}, {third, 0}, {same, 0}}, opts...)
				requireDuplicate(t, err, 2, "conflict columns as the row at index 0")
			}
			err = many.UpdateMany(ctx, []keyed[K]{{one, 0}, {third, 0}, {other, 0}})
			row, ok := errors.AsType[*repo.RowError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, 1, row.Index)
			require.ErrorIs(t, err, repo.ErrNotFound)
			stored, err := r.Find(ctx, repo.Asc("value"))
			require.NoError(t, err)
			assert.Equal(t, []int{13, 22}, values(stored), message)
		}
		n, err := r.DeleteMany(ctx, []K{same, third, one})
		require.NoError(t, err)
		assert.Equal(t, int64(1), n)
	}
}

func TestRepository_KeysAreComparedByTheServer(t *testing.T) {
	t.Parallel()
	for name, check := range sameKeys() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}
