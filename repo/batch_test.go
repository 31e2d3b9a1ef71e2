package repo_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Part has a key with two columns.
type Part struct {
	Shelf string `db:"shelf,pk"`
	Place int    `db:"place,pk"`
	Name  string
}

type PartKey struct {
	Shelf string
	Place int
}

const partsDDL = "create table parts (shelf text, place integer, name text not null check (name <> ''), primary key (shelf, place))"

// value returns a result's value and fails the test if there is an error.
func value[V any](t *testing.T, result *repo.Result[V]) V {
	t.Helper()
	v, err := result.Value()
	require.NoError(t, err)
	return v
}

func TestBatch_SendsAllCallsInOneRoundTrip(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), usersDDL, partsDDL)
	users, parts := newRepo[User, uuid.UUID](t, m, "users"), newRepo[Part, PartKey](t, m, "parts")
	rows := create(t, users, "a", "b", "c")
	require.NoError(t, second(repo.CheckSchema(t.Context(), m, parts.Model()))) // reads the columns
	run := func(ctx context.Context) error {
		var batch repo.Batch
		u, p := users.In(&batch), parts.In(&batch)
		screw, nut := &Part{Shelf: "s", Place: 1, Name: "screw"}, &Part{Shelf: "s", Place: 2, Name: "nut"}
		user := u.Get(rows[0].ID)
		locked := u.Get(rows[1].ID, repo.ForUpdate())
		last := u.First(repo.Desc("email"))
		some := u.Find(repo.Gte("age", 1), repo.Asc("email"))
		created, another := p.Create(screw), p.Create(nut)
		many := p.GetMany([]PartKey{{"s", 2}, {"s", 1}})
		list := u.GetMany([]uuid.UUID{rows[2].ID, rows[0].ID})
		none := u.GetMany(nil)
		number, exists := u.Count(repo.Gt("age", 0)), u.Exists(repo.Eq("email", "z"))
		gone, never := p.Delete(PartKey{"s", 1}), p.HardDelete(PartKey{"t", 1})
		alsoGone := p.HardDelete(PartKey{"s", 2})
		_, err := user.Value()
		require.ErrorContains(t, err, "has not been sent")
		count.drain()
		if err := batch.Send(ctx); err != nil {
			return err
		}
		assert.Equal(t, []string{"batch"}, count.drain())
		assert.Equal(t, "a", value(t, user).Email)
		assert.Equal(t, "b", value(t, locked).Email)
		assert.Equal(t, "c", value(t, last).Email)
		assert.Equal(t, []string{"b", "c"}, emails(value(t, some)))
		assert.Same(t, screw, value(t, created))
		assert.Same(t, nut, value(t, another))
		assert.Equal(t, []Part{*nut, *screw}, value(t, many))
		assert.Equal(t, []string{"c", "a"}, emails(value(t, list)))
		assert.Equal(t, []User{}, value(t, none))
		assert.Equal(t, int64(2), value(t, number))
		assert.False(t, value(t, exists))
		assert.True(t, value(t, gone))
		assert.False(t, value(t, never))
		assert.True(t, value(t, alsoGone))
		return nil
	}
	require.NoError(t, run(t.Context()))
	require.NoError(t, m.Do(t.Context(), run))
}

func TestBatch_MissingRowIsNoFailure(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	require.NoError(t, second(m.Exec(t.Context(), partsDDL)))
	parts := newRepo[Part, PartKey](t, m, "parts")
	rows := create(t, users, "a")
	var batch repo.Batch
	u := users.In(&batch)
	absent, first := u.Get(uuid.New()), u.First(repo.Eq("email", "z"))
	some, two := u.GetMany([]uuid.UUID{uuid.New(), rows[0].ID}), parts.In(&batch).GetMany([]PartKey{{"a", 1}, {"b", 2}})
	there := u.Get(rows[0].ID)
	require.NoError(t, batch.Send(t.Context()))
	for _, result := range []*repo.Result[*User]{absent, first} {
		row, err := result.Value()
		require.ErrorIs(t, err, repo.ErrNotFound)
		assert.Nil(t, row)
	}
	found, err := some.Value()
	assert.Equal(t, []string{"a"}, emails(found))
	var missing *repo.MissingError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []int{0}, missing.Indexes)
	_, err = two.Value()
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []int{0, 1}, missing.Indexes)
	assert.Equal(t, "a", value(t, there).Email)
}

func TestBatch_FailureNamesTheCallAndWritesNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, partsDDL, usersDDL)
	parts, users := newRepo[Part, PartKey](t, m, "parts"), newRepo[User, uuid.UUID](t, m, "users")
	lost := newRepo[Thing, int64](t, m, "things")
	require.NoError(t, parts.Create(t.Context(), &Part{"s", 1, "taken"}))
	for _, c := range []struct {
		name  string
		add   func(batch *repo.Batch)
		call  string
		is    error
		words string
	}{
		{"constraint", func(b *repo.Batch) { parts.In(b).Create(&Part{"s", 1, "again"}) }, "Create of parts", repo.ErrConstraint, "parts_pkey"},
		{"invalid value", func(b *repo.Batch) { parts.In(b).Count(repo.Where("1 / (place - 1) > 0")) }, "Count of parts", nil, "SQLSTATE 22012"},
		{"missing table", func(b *repo.Batch) { lost.In(b).Find() }, "Find of things", nil, `relation "things" does not exist`},
		{"invalid argument", func(b *repo.Batch) { users.In(b).Find(repo.Eq("age", struct{}{})) }, "Find of users", nil, "can't be sent"},
		{"invalid filter", func(b *repo.Batch) { users.In(b).Exists(repo.Eq("colour", 1)) }, "Exists of users", repo.ErrQuery, "no column"},
		{"invalid option", func(b *repo.Batch) { users.In(b).GetMany([]uuid.UUID{{}}, repo.Limit(1)) }, "GetMany of users", repo.ErrQuery, "not an order"},
		{"nil row", func(b *repo.Batch) { users.In(b).Create(nil) }, "Create of users", repo.ErrQuery, "nil"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run := func(ctx context.Context) error {
				var batch repo.Batch
				row := &Part{"s", 2, "new"}
				before := parts.In(&batch).Create(row)
				c.add(&batch)
				after := users.In(&batch).Count()
				err := batch.Send(ctx)
				var failure *repo.BatchError
				require.ErrorAs(t, err, &failure)
				assert.Equal(t, 1, failure.Index)
				assert.Equal(t, c.call, failure.Call)
				require.ErrorContains(t, err, "repo: call at index 1 of the batch, "+c.call+": ")
				require.ErrorContains(t, err, c.words)
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
				}
				_, beforeErr := before.Value()
				_, afterErr := after.Value()
				assert.Equal(t, []error{err, err}, []error{beforeErr, afterErr})
				return err
			}
			require.Error(t, run(t.Context()))
			require.Error(t, m.Do(t.Context(), run))
			exists, err := parts.Exists(t.Context(), repo.Eq("place", 2))
			require.NoError(t, err)
			assert.False(t, exists)
		})
	}
}

func TestBatch_ReportsWhyItCantBeSent(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	_, others := newUsers(t)
	var empty, twice, mixed, late repo.Batch
	require.NoError(t, empty.Send(t.Context()))

	users.In(&twice).Count()
	require.NoError(t, twice.Send(t.Context()))
	require.ErrorContains(t, twice.Send(t.Context()), "repo: batch: a batch can be sent only once")

	users.In(&mixed).Count()
	others.In(&mixed).Count()
	require.ErrorContains(t, mixed.Send(t.Context()), "index 1 of the batch, Count of users: the call is for another database")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	number := users.In(&late).Count()
	err := late.Send(ctx)
	require.ErrorIs(t, err, context.Canceled)
	var failure *repo.BatchError
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, -1, failure.Index)
	_, valueErr := number.Value()
	assert.Equal(t, err, valueErr)

	var cut repo.Batch
	users.In(&cut).Count(repo.Where("pg_terminate_backend(pg_backend_pid())"))
	create(t, users, "a")
	err = cut.Send(t.Context())
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, -1, failure.Index, "a lost connection is not attributed to a call: %v", err)
	_ = m
}

func TestBatch_RetriesAfterATableChange(t *testing.T) {
	t.Parallel()
	m := newManager(t, thingsDDL, partsDDL)
	things, parts := newRepo[Thing, int64](t, m, "things"), newRepo[Part, PartKey](t, m, "parts")
	require.NoError(t, things.Create(t.Context(), &Thing{ID: 1, Count: 2}))
	require.NoError(t, parts.Create(t.Context(), &Part{"s", 1, "screw"}))
	for _, typ := range []string{"bigint", "smallint"} {
		var batch repo.Batch
		many := parts.In(&batch).GetMany([]PartKey{{"s", 1}, {"s", 2}})
		absent, thing := things.In(&batch).Get(2), things.In(&batch).Get(1)
		require.NoError(t, batch.Send(t.Context()))
		rows, err := many.Value()
		require.ErrorIs(t, err, repo.ErrNotFound)
		assert.Len(t, rows, 1)
		_, err = absent.Value()
		require.ErrorIs(t, err, repo.ErrNotFound)
		assert.Equal(t, int64(2), value(t, thing).Count)
		require.NoError(t, second(m.Exec(t.Context(), "alter table things alter column count type "+typ)))
	}
}

func TestBatch_ScanErrorReportsTheCommit(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table parts (shelf text, place integer, name text, primary key (shelf, place))",
		"insert into parts values ('s', 9, null)")
	parts := newRepo[Part, PartKey](t, m, "parts")
	run := func(ctx context.Context) error {
		var batch repo.Batch
		parts.In(&batch).Get(PartKey{"s", 9})
		parts.In(&batch).Create(&Part{"s", 1, "screw"})
		err := batch.Send(ctx)
		var failure *repo.BatchError
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, 0, failure.Index)
		require.ErrorContains(t, err, `NULL of column "name" can't be read into field Name of type string`)
		return err
	}
	require.NotErrorAs(t, m.Do(t.Context(), run), new(*txn.CommittedError))
	n, err := parts.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), n, "the transaction was rolled back")
	require.ErrorAs(t, run(t.Context()), new(*txn.CommittedError))
	n, err = parts.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(2), n)
}
