package repo_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Slot is a row that can be refused for every reason.
type Slot struct {
	ID     int64 `db:"id,pk"`
	Owner  int64
	Code   string
	Price  int
	Note   *string
	During int
}

const slotsDDL = `create extension btree_gist;
create table owners (id bigint primary key);
insert into owners values (1);
create table slots (id bigint primary key, owner bigint not null references owners, code varchar(8) not null unique,
	price integer not null check (price < 1000), note text not null, during integer not null, exclude using gist (during with =));
create function refuse() returns trigger language plpgsql as $$begin
	if new.note = tg_argv[0] then
		raise exception 'refused' using errcode = tg_argv[1];
	end if;
	return new;
end$$;
create trigger refuse before insert or update on slots for each row execute function refuse('before', 'UX001');
create trigger refuse_late after insert or update on slots for each row execute function refuse('after', 'P0001')`

func slots(n int) []Slot {
	rows := make([]Slot, n)
	note := "fine"
	for i := range rows {
		rows[i] = Slot{ID: int64(i), Owner: 1, Code: fmt.Sprint("c", i), Note: &note, During: i}
	}
	return rows
}

// refusals spoil the row at the index.
func refusals() map[string]func(rows []Slot, at int) {
	before, after := "before", "after"
	return map[string]func(rows []Slot, at int){
		"foreign key":      func(rows []Slot, at int) { rows[at].Owner = 404 },
		"check":            func(rows []Slot, at int) { rows[at].Price = 1000 },
		"not null":         func(rows []Slot, at int) { rows[at].Note = nil },
		"unique":           func(rows []Slot, at int) { rows[at].Code = rows[0].Code },
		"exclusion":        func(rows []Slot, at int) { rows[at].During = rows[0].During },
		"too long":         func(rows []Slot, at int) { rows[at].Code = "much too long" },
		"cannot be sent":   func(rows []Slot, at int) { rows[at].Price = 1 << 40 },
		"before trigger":   func(rows []Slot, at int) { rows[at].Note = &before },
		"after trigger":    func(rows []Slot, at int) { rows[at].Note = &after },
		"unique, the last": func(rows []Slot, at int) { rows[at].Code = rows[at-1].Code },
	}
}

// slotWrites are the ways in which several rows are written.
func slotWrites() map[string]func(context.Context, *repo.Repository[Slot, int64], []Slot) error {
	return map[string]func(context.Context, *repo.Repository[Slot, int64], []Slot) error{
		"CreateMany": func(ctx context.Context, r *repo.Repository[Slot, int64], rows []Slot) error {
			return r.CreateMany(ctx, rows)
		},
		"UpsertMany": func(ctx context.Context, r *repo.Repository[Slot, int64], rows []Slot) error {
			return second(r.UpsertMany(ctx, rows))
		},
		"CopyMany": func(ctx context.Context, r *repo.Repository[Slot, int64], rows []Slot) error {
			return second(r.CopyMany(ctx, rows))
		},
		"Import": func(ctx context.Context, r *repo.Repository[Slot, int64], rows []Slot) error {
			return second(r.Import(ctx, sequence(len(rows), func(i int) (Slot, error) { return rows[i], nil })))
		},
		"UpdateMany": func(ctx context.Context, r *repo.Repository[Slot, int64], rows []Slot) error {
			if err := r.CreateMany(ctx, slots(len(rows))); err != nil {
				return err
			}
			return r.UpdateMany(ctx, rows)
		},
	}
}

func TestBulkWrites_NameTheRefusedRow(t *testing.T) {
	t.Parallel()
	db := fxtest.DB(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 1}}))
	m := managerOf(t, db, slotsDDL)
	r := newRepo[Slot, int64](t, m, "slots")
	for way, write := range slotWrites() {
		for reason, spoil := range refusals() {
			for _, n := range []int{3, 300, 1500} {
				if n > 300 && way != "Import" {
					continue
				}
				name := fmt.Sprintf("%s, %s, %d rows", way, reason, n)
				at := n * 2 / 3
				rows := slots(n)
				spoil(rows, at)
				requireIndex(t, write(t.Context(), r, rows), at, name)
				if way == "UpdateMany" {
					requireUnchanged(t, r, n, name)
				}
				inside := m.Do(t.Context(), func(ctx context.Context) error {
					require.NoError(t, r.Create(ctx, &Slot{ID: -1, Owner: 1, Code: "outer", Note: rows[0].Note, During: -1}))
					return m.Do(ctx, func(ctx context.Context) error { return write(ctx, r, rows) }, txn.Nested())
				})
				requireIndex(t, inside, at, name+" in a transaction")
				count, err := r.Count(t.Context())
				require.NoError(t, err)
				require.Zero(t, count, name)
			}
		}
	}
}

// requireUnchanged requires that the n rows are as they were created, and removes them.
func requireUnchanged(t *testing.T, r *repo.Repository[Slot, int64], n int, name string) {
	t.Helper()
	stored, err := r.Find(t.Context(), repo.Asc("id"))
	require.NoError(t, err)
	require.Equal(t, slots(n), stored, name)
	require.NoError(t, second(r.DeleteWhere(t.Context(), repo.AllRows())))
}

func requireIndex(t *testing.T, err error, at int, name string) {
	t.Helper()
	require.Error(t, err, name)
	index := -2
	if constraint, ok := errors.AsType[*repo.ConstraintError](err); ok {
		index = constraint.Index
	} else if row, ok := errors.AsType[*repo.RowError](err); ok {
		index = row.Index
	}
	require.Equal(t, at, index, "%s: %v", name, err)
}

func TestImport_SkipsRowsThatAreRefusedLate(t *testing.T) {
	t.Parallel()
	m := newManager(t, slotsDDL)
	r := newRepo[Slot, int64](t, m, "slots")
	rows := slots(2500)
	var want []int
	spoils := refusals()
	for _, reason := range []string{"foreign key", "after trigger", "check", "cannot be sent", "before trigger"} {
		at := 10 + 400*len(want)
		spoils[reason](rows, at)
		want = append(want, at)
	}
	var skipped []int
	source := sequence(len(rows), func(i int) (Slot, error) { return rows[i], nil })
	n, err := r.Import(t.Context(), source, repo.OnRowError(func(err error) error {
		if constraint, ok := errors.AsType[*repo.ConstraintError](err); ok {
			skipped = append(skipped, constraint.Index)
			return nil
		}
		row, ok := errors.AsType[*repo.RowError](err)
		require.True(t, ok, "%v", err)
		skipped = append(skipped, row.Index)
		return nil
	}))
	require.NoError(t, err)
	assert.Equal(t, int64(2495), n)
	assert.ElementsMatch(t, want, skipped)
}

// numbered has an identity, which the struct may give.
type numbered struct {
	ID    int64 `db:"id,pk,default"`
	Name  string
	Shout *string
}

func TestGeneratedAlways_OneAnswerInEveryWay(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table identities (id bigint primary key generated always as identity, name text not null, shout text)",
		"create table generated (id bigint primary key, name text not null, shout text generated always as (upper(name)) stored)",
		"create table owned (id bigint primary key generated always as identity, name text not null, shout text, owner bigint default 1 "+
			"references identities)")
	text := "X"
	for _, table := range []string{"identities", "generated", "owned"} {
		r, ctx := newRepo[numbered, int64](t, m, table), t.Context()
		rows := func(n int) []numbered {
			list := make([]numbered, n)
			for i := range list {
				list[i] = numbered{ID: int64(i + 1), Name: "x", Shout: &text}
			}
			return list
		}
		for _, n := range []int{1, 5, 40, 64, 300} {
			for way, write := range map[string]func() error{
				"Create":     func() error { return r.Create(ctx, &rows(1)[0]) },
				"CreateMany": func() error { return r.CreateMany(ctx, rows(n)) },
				"CopyMany":   func() error { return second(r.CopyMany(ctx, rows(n))) },
				"UpsertMany": func() error { return second(r.UpsertMany(ctx, rows(n))) },
				"Import": func() error {
					return second(r.Import(ctx, sequence(n, func(i int) (numbered, error) { return rows(n)[i], nil })))
				},
				"Import that skips": func() error {
					return second(r.Import(ctx, sequence(n, func(i int) (numbered, error) { return rows(n)[i], nil }), repo.OnRowError(nil)))
				},
			} {
				name := fmt.Sprintf("%s of %d in %s", way, n, table)
				err := write()
				require.Error(t, err, name)
				pg, ok := errors.AsType[*pgconn.PgError](err)
				require.True(t, ok, "%s: %v", name, err)
				assert.Equal(t, "428C9", pg.Code, name)
				require.ErrorContains(t, err, "give its field the role generated", name)
				count, err := r.Count(ctx)
				require.NoError(t, err)
				require.Zero(t, count, name)
			}
		}
	}
	r := newRepo[numbered, int64](t, m, "identities")
	require.NoError(t, second(r.CopyMany(t.Context(), make([]numbered, 3))))
	row := &numbered{}
	require.NoError(t, r.Create(t.Context(), row))
	assert.Equal(t, int64(4), row.ID)
}
