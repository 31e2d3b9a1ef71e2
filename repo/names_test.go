package repo_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// Alias has a column for each name that the library's own statements give to relations and columns.
type Alias struct {
	C0       int64  `db:"c0,pk"`
	C1       string `db:"c1"`
	T        string `db:"t"`
	S        string `db:"s"`
	N        int    `db:"n"`
	Before   string
	Excluded string
	Excl2    string `db:"excluded_"`
	Locked   string
	Position string
	Name     string
	Ordinal  string
	Old, New string
	Count    string
	C        string     `db:"c"`
	Version  int64      `db:"version,version"`
	Updated  time.Time  `db:"now,updated"`
	Deleted  *time.Time `db:"exists,softdelete"`
	Made     string     `db:"default,default"`
}

const aliasDDL = `(c0 bigint primary key, c1 text not null unique, t text not null, s text not null, n integer not null,
	before text not null, excluded text not null,
	excluded_ text not null, locked text not null, "position" text not null, name text not null, ordinal text not null,
	old text not null, new text not null, count text not null, c text not null, version bigint not null, now timestamptz not null,
	"exists" timestamptz, "default" text not null default 'made')`

func aliases(n int) []Alias {
	rows := make([]Alias, n)
	for i := range rows {
		rows[i] = Alias{C0: int64(i), C1: strings.Repeat("x", i), T: "t", N: n - i}
	}
	return rows
}

func TestRepository_NamesAreNotConfused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"t", "s", "n", "c0", "before", "before_", "excluded", "excluded_", "locked", "old", "new", "evil.excluded", "evil.before", "evil.s", "k",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := pgx.Identifier(strings.Split(name, ".")).Sanitize()
			for way, threshold := range map[string]int{"few": -1, "many": 1} {
				m := newManager(t, "create schema evil", "create table "+table+aliasDDL)
				r := newRepo[Alias, int64](t, m, name, repo.WithStagingThreshold(threshold))
				checkAliases(t, r, way)
			}
		})
	}
}

// checkAliases runs every kind of statement.
func checkAliases(t *testing.T, r *repo.Repository[Alias, int64], way string) {
	t.Helper()
	ctx := t.Context()
	rows := aliases(8)
	require.NoError(t, r.CreateMany(ctx, rows), way)
	for i := range rows {
		assert.Equal(t, "made", rows[i].Made)
		rows[i].S, rows[i].Excluded = "changed", "changed"
	}
	require.NoError(t, r.UpdateMany(ctx, rows), way)
	for i := range rows {
		assert.Equal(t, int64(i), rows[i].C0)
		assert.Equal(t, int64(2), rows[i].Version)
		rows[i].S = "again"
	}
	results, err := r.UpsertMany(ctx, append(rows, Alias{C0: 100, C1: "new"}))
	require.NoError(t, err, way)
	want := []repo.UpsertResult{
		repo.Updated, repo.Updated, repo.Updated, repo.Updated, repo.Updated, repo.Updated, repo.Updated, repo.Updated, repo.Inserted,
	}
	assert.Equal(t, want, results, way)
	results, err = r.UpsertMany(ctx, []Alias{{C0: 101, C1: "new"}, {C0: 102, C1: "newer"}}, repo.OnConflict("c1"), repo.DoNothing())
	require.NoError(t, err, way)
	assert.Equal(t, []repo.UpsertResult{repo.Unchanged, repo.Inserted}, results, way)

	row := &Alias{C0: 7, C1: "seven"}
	result, err := r.Upsert(ctx, row)
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, result, way)
	assert.Equal(t, int64(4), row.Version)
	result, err = r.Upsert(ctx, &Alias{C0: 8, C1: "eight"})
	require.NoError(t, err)
	assert.Equal(t, repo.Inserted, result, way)
	result, err = r.Upsert(ctx, &Alias{C0: 9, C1: "eight"}, repo.OnConflict("c1"), repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, repo.Unchanged, result, way)

	require.NoError(t, r.Update(ctx, row))
	require.NoError(t, r.Delete(ctx, 7))
	_, err = r.UpsertMany(ctx, []Alias{{C0: 7}})
	require.ErrorIs(t, err, repo.ErrDeleted)
	result, err = r.Upsert(ctx, &Alias{C0: 7, C1: "restored"}, repo.RestoreDeleted())
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, result)
	_, err = r.Patch(ctx, 1, []repo.Change{repo.SetExpr("s", "s || t"), repo.Set("t", "t2")}, repo.Where("n > $1", 0))
	require.NoError(t, err)
	_, err = r.UpdateWhere(ctx, []repo.Change{repo.Set("count", "1")}, repo.Eq("c0", 2))
	require.NoError(t, err)
	found, err := r.GetMany(ctx, []int64{2, 1})
	require.NoError(t, err)
	assert.Equal(t, []string{"1", ""}, []string{found[0].Count, found[1].Count})
	assert.Equal(t, "againt", found[1].S)
	n, err := r.CopyMany(ctx, []Alias{{C0: 200, C1: "copied"}, {C0: 201, C1: "copied too"}})
	require.NoError(t, err)
	assert.Equal(t, int64(2), n)
	_, err = r.Import(ctx, sequence(3, func(i int) (Alias, error) { return Alias{C0: int64(300 + i%2), C1: string(rune('a' + i))}, nil }),
		repo.OnRowError(nil))
	require.NoError(t, err)
	page, err := r.Page(ctx, "", 5, repo.Desc("s"), repo.Asc("n"), repo.WithTotal())
	require.NoError(t, err)
	page, err = r.Page(ctx, page.Next, 5, repo.Desc("s"), repo.Asc("n"))
	require.NoError(t, err)
	assert.Len(t, page.Rows, 5)
	var batch repo.Batch
	in := r.In(&batch)
	created := in.Create(&Alias{C0: 400, C1: "in a batch"})
	in.GetMany([]int64{1, 2})
	gone := in.Delete(2)
	require.NoError(t, batch.Send(ctx))
	assert.Equal(t, int64(1), value(t, created).Version)
	assert.True(t, value(t, gone))
	deleted, err := r.DeleteMany(ctx, []int64{1, 3})
	require.NoError(t, err)
	assert.Equal(t, int64(2), deleted)
	require.NoError(t, r.Restore(ctx, 1))
	require.NoError(t, r.HardDelete(ctx, 1))
	require.NoError(t, second(r.DeleteWhere(ctx, repo.AllRows())))
}
