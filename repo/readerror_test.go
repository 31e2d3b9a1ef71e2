package repo_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// term has a column whose default no time.Time can hold.
type term struct {
	ID   int64     `db:"id,pk"`
	Ends time.Time `db:"ends,default"`
	Note string
}

func TestReadError_StoredRowIsReportedAsCommitted(t *testing.T) {
	t.Parallel()
	m := newManager(t, `create table terms (id bigint primary key, ends timestamptz not null default 'infinity', note text not null unique
		deferrable initially deferred)`)
	terms := newRepo[term, int64](t, m, "terms")
	ctx := t.Context()
	requireRead := func(err error) {
		t.Helper()
		var read *repo.ReadError
		require.ErrorAs(t, err, &read)
		assert.Equal(t, []string{"terms", "ends", "Ends"}, []string{read.Table, read.Column, read.Field})
	}
	var id int64
	for name, write := range map[string]func(ctx context.Context, id int64) error{
		"create": func(ctx context.Context, id int64) error { return terms.Create(ctx, &term{ID: id, Note: "create"}) },
		"upsert": func(ctx context.Context, id int64) error {
			return second(terms.Upsert(ctx, &term{ID: id, Note: "upsert"}))
		},
		"create of many": func(ctx context.Context, id int64) error {
			return terms.CreateMany(ctx, []term{{ID: id, Note: "create of many"}})
		},
		"batch": func(ctx context.Context, id int64) error {
			var batch repo.Batch
			terms.In(&batch).Create(&term{ID: id, Note: "batch"})
			return batch.Send(ctx)
		},
		"update": func(ctx context.Context, id int64) error {
			_, err := m.Exec(ctx, "insert into terms values ($1, 'infinity', 'before')", id)
			require.NoError(t, err)
			return second(terms.Patch(ctx, id, []repo.Change{repo.Set("note", "update")}))
		},
	} {
		id++
		err := write(ctx, id)
		require.ErrorAs(t, err, new(*txn.CommittedError), name)
		requireRead(err)
		stored, err := repo.QueryOne[string](ctx, m, "select note from terms where id = $1", id)
		require.NoError(t, err, name)
		assert.Equal(t, name, stored)
		err = m.Do(ctx, func(ctx context.Context) error { return write(ctx, id+100) })
		require.NotErrorAs(t, err, new(*txn.CommittedError), name)
		requireRead(err)
		require.ErrorIs(t, write(ctx, id+200), repo.ErrConstraint, "refused at the commit: %s", name)
	}
	n, err := terms.Count(ctx)
	require.NoError(t, err)
	assert.Equal(t, int64(6), n, "with the row of the update that was refused")
}

// host has a field into which the driver can't read its column.
type host struct {
	ID   int64 `db:"id,pk"`
	Addr string
}

func TestReadError_NothingIsSentForAColumnThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table hosts (id bigint primary key, addr inet)", "insert into hosts values (1)")
	hosts := newRepo[host, int64](t, m, "hosts")
	ctx := t.Context()
	row := func() *host { return &host{ID: 2, Addr: "10.0.0.1"} }
	var batch repo.Batch
	hosts.In(&batch).Create(row())
	for name, err := range map[string]error{
		"create": hosts.Create(ctx, row()), "create many": hosts.CreateMany(ctx, []host{*row()}), "batch": batch.Send(ctx),
		"upsert": second(hosts.Upsert(ctx, row())), "upsert many": second(hosts.UpsertMany(ctx, []host{*row()})),
		"update": hosts.Update(ctx, row()), "update many": hosts.UpdateMany(ctx, []host{*row()}),
		"patch":  second(hosts.Patch(ctx, 1, []repo.Change{repo.Set("addr", "10.0.0.1")})),
		"copy":   second(hosts.CopyMany(ctx, []host{*row()})),
		"import": second(hosts.Import(ctx, sequenceOf(*row()))),
	} {
		var read *repo.ReadError
		require.ErrorAs(t, err, &read, name)
		require.NotErrorAs(t, err, new(*txn.CommittedError), name)
		want := []string{"hosts", "addr", "Addr", "string", "inet"}
		assert.Equal(t, want, []string{read.Table, read.Column, read.Field, read.GoType, read.Type})
		require.ErrorContains(t, err, "can't be read into field Addr of type string: use a type into which the driver reads inet")
	}
	stored, err := repo.Pluck[*string](ctx, m, "select addr::text from hosts")
	require.NoError(t, err)
	assert.Equal(t, []*string{nil}, stored)
}

func TestReads_ReturnWhatCanBeWrittenBack(t *testing.T) {
	t.Parallel()
	type Note struct {
		ID    int64 `db:"id,pk"`
		Body  map[string]any
		Role  map[string]any `db:"role,json"`
		Ptr   *Settings      `db:"ptr,json"`
		Raw   json.RawMessage
		Other string
	}
	m := newManager(t, `create table notes (id bigint primary key, body jsonb not null, role jsonb not null, ptr jsonb not null,
		raw jsonb not null, other text not null)`)
	const long = `{"uid": 1499366092322157987, "size": 1e400, "list": [0.10, null]}`
	ctx := t.Context()
	for _, sql := range []string{
		"insert into notes values (1, '" + long + "', '" + long + "', '{\"theme\": \"x\"}', '" + long + "', '')",
		"insert into notes values (2, 'null', 'null', 'null', 'null', '')",
	} {
		_, err := m.Exec(ctx, sql)
		require.NoError(t, err)
	}
	stored := func() []string {
		list, err := repo.Pluck[string](ctx, m, "select concat_ws(' ', body, role, ptr, raw) from notes order by id")
		require.NoError(t, err)
		return list
	}
	want := stored()
	for _, threshold := range []int{-1, 1} {
		notes := newRepo[Note, int64](t, m, "notes", repo.WithStagingThreshold(threshold))
		rows, err := notes.Find(ctx, repo.Asc("id"))
		require.NoError(t, err)
		for i := range rows {
			rows[i].Other = "changed"
			require.NoError(t, notes.Update(ctx, &rows[i]))
		}
		assert.Equal(t, want, stored())
		require.NoError(t, notes.UpdateMany(ctx, rows))
		assert.Equal(t, want, stored())
		require.NoError(t, second(notes.Patch(ctx, 2, []repo.Change{repo.Set("role", rows[1].Role), repo.Set("ptr", rows[1].Ptr)})))
		assert.Equal(t, want, stored())
		require.NoError(t, second(notes.DeleteWhere(ctx, repo.AllRows())))
		require.NoError(t, second(notes.CopyMany(ctx, rows)))
		assert.Equal(t, want, stored())
		require.NoError(t, second(notes.UpsertMany(ctx, rows)))
		assert.Equal(t, want, stored())
		require.ErrorIs(t, notes.Create(ctx, &Note{ID: 3, Raw: nil}), repo.ErrConstraint, "a nil json.RawMessage is NULL")
	}
}

func TestReads_RefuseAnIntervalWithMonths(t *testing.T) {
	t.Parallel()
	type Lease struct {
		ID   int64 `db:"id,pk"`
		Span time.Duration
	}
	for name, m := range map[string]*txn.Manager{
		"default": newManager(t),
		"stock":   managerOf(t, stockDB(t)),
	} {
		_, err := m.Exec(t.Context(), "create table leases (id bigint primary key, span interval)")
		require.NoError(t, err)
		leases := newRepo[Lease, int64](t, m, "leases")
		_, err = m.Exec(t.Context(), "insert into leases values (1, '1 month'), (2, '1 day 2 hours')")
		require.NoError(t, err)
		_, err = leases.Get(t.Context(), 1)
		var read *repo.ReadError
		require.ErrorAs(t, err, &read, name)
		assert.Equal(t, "span", read.Column)
		row, err := leases.Get(t.Context(), 2)
		require.NoError(t, err, name)
		assert.Equal(t, 26*time.Hour, row.Span)
		_, err = repo.QueryOne[time.Duration](t.Context(), m, "select span from leases where id = 1")
		require.Error(t, err, name)
	}
}

// stockDB returns a pool with pgx's codecs.
func stockDB(t *testing.T) *pgfx.DB {
	t.Helper()
	return fxtest.DB(t, fxtest.Config(pgfx.Config{DisableFastCodecs: true}))
}

// pgx reads NULL of a column that it can't read into a field with the plan of a random type, which reads some NULLs as "".
func TestReadError_NullIsNeverReadAsEmpty(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table hosts (id bigint primary key, addr inet)", "insert into hosts values (1, null)")
	hosts := newRepo[host, int64](t, m, "hosts")
	ctx := t.Context()
	const sql = "select id, addr from hosts"
	for range 20 { // the plan is random
		for name, err := range map[string]error{
			"get": second(hosts.Get(ctx, 1)), "find": second(hosts.Find(ctx)), "page": second(hosts.Page(ctx, "", 5)),
			"query": second(repo.Query[host](ctx, m, sql)), "one": second(repo.QueryOne[host](ctx, m, sql)),
		} {
			var read *repo.ReadError
			require.ErrorAs(t, err, &read, name)
			require.Equal(t, "addr", read.Column, name)
			require.ErrorContains(t, err, "NULL", name)
		}
		require.Error(t, second(repo.Column[string](ctx, hosts, "addr")))
		require.Error(t, second(repo.Pluck[string](ctx, m, "select addr from hosts")))
		values, err := repo.Column[*string](ctx, hosts, "addr")
		require.NoError(t, err)
		require.Equal(t, []*string{nil}, values)
	}
}
