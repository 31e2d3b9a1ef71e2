package repo_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestRepository_RoundTripsPerMethod(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), usersDDL, itemsDDL, eventsDDL,
		"create table pairs (left_id bigint, right_id text, note text not null, primary key (left_id, right_id))")
	users := newRepo[User, uuid.UUID](t, m, "users", repo.OnConflict("email"))
	keyed := newRepo[User, uuid.UUID](t, m, "users", repo.WithKeys(uuid.New))
	items := newRepo[Item, int](t, m, "items")
	events := newRepo[Event, uuid.UUID](t, m, "events", repo.WithKeys(uuid.New))
	pairs := newRepo[LeftRight, pairKey](t, m, "pairs")
	ctx := t.Context()
	models := []repo.Model{users.Model(), keyed.Model(), items.Model(), events.Model(), pairs.Model()}
	require.NoError(t, second(repo.CheckSchema(ctx, m, models...))) // reads the columns
	stored := manyEvents(300)
	require.NoError(t, events.CreateMany(ctx, stored))
	rows := create(t, users, "a", "b", "c", "d", "e")
	require.NoError(t, items.CreateMany(ctx, []Item{{ID: 1}, {ID: 2}}))
	row := &rows[0]
	set := []repo.Change{repo.Set("age", 1)}
	const stage = "copy a stage"
	list := []string{"batch", "batch", "commit"} // the first batch begins the transaction
	one := []string{"one"}
	for _, c := range []struct {
		name string
		call func(context.Context) error
		want []string
	}{
		{"Get", func(ctx context.Context) error { return second(users.Get(ctx, row.ID)) }, one},
		{"Get with options", func(ctx context.Context) error { return second(users.Get(ctx, row.ID, repo.WithDeleted())) }, one},
		{"GetMany", func(ctx context.Context) error { return second(users.GetMany(ctx, []uuid.UUID{row.ID, rows[1].ID})) }, one},
		{"First", func(ctx context.Context) error { return second(users.First(ctx)) }, one},
		{"Find", func(ctx context.Context) error { return second(users.Find(ctx)) }, one},
		{"All", func(ctx context.Context) error {
			for _, err := range users.All(ctx) {
				require.NoError(t, err)
			}
			return nil
		}, one},
		{"Page", func(ctx context.Context) error { return second(items.Page(ctx, "", 1)) }, one},
		{"Page with total", func(ctx context.Context) error { return second(items.Page(ctx, "", 1, repo.WithTotal())) }, []string{"one", "one"}},
		{"Column", func(ctx context.Context) error { return second(repo.Column[string](ctx, users, "email")) }, one},
		{"Count", func(ctx context.Context) error { return second(users.Count(ctx)) }, one},
		{"Exists", func(ctx context.Context) error { return second(users.Exists(ctx)) }, one},
		{"Create", func(ctx context.Context) error { return users.Create(ctx, &User{Email: "x"}) }, one},
		{"Update", func(ctx context.Context) error { return users.Update(ctx, row) }, one},
		{"Update of nothing", func(ctx context.Context) error {
			require.ErrorIs(t, users.Update(ctx, &User{ID: uuid.New()}), repo.ErrNotFound)
			return nil
		}, []string{"one", "one"}},
		{"Patch", func(ctx context.Context) error { return second(users.Patch(ctx, row.ID, set)) }, one},
		{"UpdateWhere", func(ctx context.Context) error { return second(users.UpdateWhere(ctx, set, repo.AllRows())) }, one},
		{"Upsert", func(ctx context.Context) error { return second(users.Upsert(ctx, &User{Email: "y"})) }, one},
		{"Upsert, do nothing", func(ctx context.Context) error {
			return second(users.Upsert(ctx, &User{Email: "y"}, repo.DoNothing()))
		}, []string{"one", "one"}},
		{"Delete", func(ctx context.Context) error { return users.Delete(ctx, rows[1].ID) }, one},
		{"Restore", func(ctx context.Context) error { return users.Restore(ctx, rows[1].ID) }, one},
		{"HardDelete", func(ctx context.Context) error { return users.HardDelete(ctx, rows[1].ID) }, one},
		{"DeleteWhere", func(ctx context.Context) error { return second(users.DeleteWhere(ctx, repo.Eq("email", "c"))) }, one},
		{"CreateMany", func(ctx context.Context) error {
			return users.CreateMany(ctx, []User{{Email: "m1"}, {Email: "m2"}})
		}, list},
		{"CreateMany with keys", func(ctx context.Context) error {
			return keyed.CreateMany(ctx, []User{{Email: "k1"}, {Email: "k2"}})
		}, list},
		{"UpdateMany", func(ctx context.Context) error {
			fresh, err := users.Get(ctx, rows[3].ID)
			require.NoError(t, err)
			return users.UpdateMany(ctx, []User{*fresh})
		}, []string{"one", "batch"}},
		{"UpsertMany", func(ctx context.Context) error {
			return second(users.UpsertMany(ctx, []User{{Email: "m1"}, {Email: "m3"}}))
		}, list},
		{"DeleteMany", func(ctx context.Context) error {
			return second(users.DeleteMany(ctx, []uuid.UUID{rows[3].ID, rows[4].ID}))
		}, []string{"batch"}},
		{"CreateMany of one", func(ctx context.Context) error { return users.CreateMany(ctx, []User{{Email: "m4"}}) }, []string{"batch"}},
		{"CreateMany of 100", func(ctx context.Context) error {
			return users.CreateMany(ctx, manyUsers("c"))
		}, list},
		{"CreateMany of 300, staged", func(ctx context.Context) error {
			return users.CreateMany(ctx, append(append(manyUsers("g"), manyUsers("h")...), manyUsers("i")...))
		}, []string{"batch", "one", stage, "batch", "commit"}},
		{
			"CopyMany", func(ctx context.Context) error { return second(events.CopyMany(ctx, manyEvents(100))) },
			[]string{"one", `copy "events"`},
		}, // and the query for the column types of COPY
		{"Import", func(ctx context.Context) error {
			return second(users.Import(ctx, sequence(3, func(i int) (User, error) { return User{Email: "import" + strconv.Itoa(i)}, nil })))
		}, []string{"one", `copy "users"`}},
		{"Import that skips", func(ctx context.Context) error {
			return second(users.Import(ctx, sequence(3, func(i int) (User, error) { return User{Email: "s" + strconv.Itoa(i)}, nil }),
				repo.OnRowError(nil)))
		}, []string{"one", "batch", "one", `copy "users"`, "one", "commit"}},
		{"UpsertMany of 300, staged", func(ctx context.Context) error {
			return second(users.UpsertMany(ctx, append(append(manyUsers("d"), manyUsers("e")...), manyUsers("f")...)))
		}, []string{"batch", "one", stage, "batch", "commit"}},
		{
			"UpdateMany of 300, staged", func(ctx context.Context) error { return events.UpdateMany(ctx, stored) },
			[]string{"batch", "one", stage, "batch", "commit"},
		},
		{"Lock", func(ctx context.Context) error {
			return m.Do(ctx, func(ctx context.Context) error { return second(users.Lock(ctx, row.ID)) })
		}, []string{"batch", "one", "commit"}},
		{"Claim", func(ctx context.Context) error {
			return m.Do(ctx, func(ctx context.Context) error { return second(users.Claim(ctx, 2)) })
		}, []string{"batch", "one", "commit"}},
		{"GetMany of composite keys", func(ctx context.Context) error {
			_, err := pairs.GetMany(ctx, []pairKey{{"a", 1}, {"b", 2}})
			require.ErrorIs(t, err, repo.ErrNotFound)
			return nil
		}, []string{"batch"}},
		{"Stream", func(ctx context.Context) error { return second(collect[int](ctx, m, -1, "select 1")) }, one},
		{"Query", func(ctx context.Context) error { return second(repo.Query[int](ctx, m, "select 1")) }, one},
		{"QueryOne", func(ctx context.Context) error { return second(repo.QueryOne[int](ctx, m, "select 1")) }, one},
		{"Pluck", func(ctx context.Context) error { return second(repo.Pluck[int](ctx, m, "select 1")) }, one},
		{"CheckSchema", func(ctx context.Context) error { return second(repo.CheckSchema(ctx, m, users.Model(), items.Model())) }, one},
	} {
		count.drain()
		require.NoError(t, c.call(ctx), c.name)
		sent := count.drain()
		for i, text := range sent {
			switch {
			case strings.HasPrefix(text, `copy "pg_temp"`):
				sent[i] = stage
			case text != "batch" && text != "commit" && !strings.HasPrefix(text, "copy"):
				sent[i] = "one"
			}
		}
		assert.Equal(t, c.want, sent, c.name)
	}
}

func manyUsers(name string) []User {
	rows := make([]User, 100)
	for i := range rows {
		rows[i] = User{Email: name + strconv.Itoa(i)}
	}
	return rows
}
