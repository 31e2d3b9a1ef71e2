package repo_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestEachMethodTakesTheRoundTripsItStates(t *testing.T) {
	t.Parallel()
	count := &counter{}
	m := managerOf(t, newDB(t, tracer(count)), usersDDL, itemsDDL)
	users := newRepo[User, uuid.UUID](t, m, "users", repo.OnConflict("email"))
	keyed := newRepo[User, uuid.UUID](t, m, "users", repo.WithKeys(uuid.New))
	items := newRepo[Item, int](t, m, "items")
	ctx := t.Context()
	rows := create(t, users, "a", "b", "c", "d", "e")
	require.NoError(t, items.CreateMany(ctx, []Item{{ID: 1}, {ID: 2}}))
	row := &rows[0]
	set := []repo.Change{repo.Set("age", 1)}
	list := []string{"batch", "batch", "commit"} // the first is how txn begins
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
		}, []string{"batch", "batch", "commit"}},
		{"CreateMany with keys", func(ctx context.Context) error {
			return keyed.CreateMany(ctx, []User{{Email: "k1"}, {Email: "k2"}})
		}, []string{"batch", "batch", "commit"}},
		{"UpdateMany", func(ctx context.Context) error {
			fresh, err := users.Get(ctx, rows[3].ID)
			require.NoError(t, err)
			return users.UpdateMany(ctx, []User{*fresh})
		}, append([]string{"one"}, list...)},
		{"UpsertMany", func(ctx context.Context) error {
			return second(users.UpsertMany(ctx, []User{{Email: "m1"}, {Email: "m3"}}))
		}, list},
		{"DeleteMany", func(ctx context.Context) error {
			return second(users.DeleteMany(ctx, []uuid.UUID{rows[3].ID, rows[4].ID}))
		}, []string{"batch"}},
		{"Query", func(ctx context.Context) error { return second(repo.Query[int](ctx, m, "select 1")) }, one},
		{"QueryOne", func(ctx context.Context) error { return second(repo.QueryOne[int](ctx, m, "select 1")) }, one},
		{"Pluck", func(ctx context.Context) error { return second(repo.Pluck[int](ctx, m, "select 1")) }, one},
		{"CheckSchema", func(ctx context.Context) error { return second(repo.CheckSchema(ctx, m, users.Model(), items.Model())) }, one},
	} {
		count.take()
		require.NoError(t, c.call(ctx), c.name)
		sent := count.take()
		for i, text := range sent {
			if text != "batch" && text != "commit" {
				sent[i] = "one"
			}
		}
		assert.Equal(t, c.want, sent, c.name)
	}
}
