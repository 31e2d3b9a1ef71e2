package repo_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestGetMany_KeepsOrderAndReportsMissingKeys(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	rows := create(t, users, "a", "b", "c")
	require.NoError(t, users.Delete(ctx, rows[1].ID))
	found, err := users.GetMany(ctx, []uuid.UUID{rows[2].ID, rows[0].ID, rows[2].ID})
	require.NoError(t, err)
	assert.Equal(t, []string{"c", "a", "c"}, emails(found))

	found, err = users.GetMany(ctx, []uuid.UUID{rows[2].ID, uuid.New(), rows[1].ID, rows[0].ID})
	require.ErrorIs(t, err, repo.ErrNotFound)
	var missing *repo.MissingError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, []int{1, 2}, missing.Indexes)
	require.EqualError(t, err, "repo: 2 of 4 keys not found in users (first at index 1)")
	assert.Equal(t, []string{"c", "a"}, emails(found))

	found, err = users.GetMany(ctx, []uuid.UUID{rows[1].ID}, repo.WithDeleted())
	require.NoError(t, err)
	assert.Len(t, found, 1)
	found, err = users.GetMany(ctx, nil)
	require.NoError(t, err)
	assert.Empty(t, found)
	_, err = users.GetMany(ctx, []uuid.UUID{rows[1].ID}, repo.Limit(1))
	require.ErrorIs(t, err, repo.ErrQuery)
}

type Moment struct {
	At   time.Time `db:"at,pk"`
	Note string
}

func TestGetMany_SupportsAllKeyTypes(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table moments (at timestamptz primary key, note text not null)",
		"create table pairs (left_id bigint, right_id text, note text not null, primary key (left_id, right_id))")
	moments, pairs := newRepo[Moment, time.Time](t, m, "moments"), newRepo[LeftRight, pairKey](t, m, "pairs")
	ctx := t.Context()
	now := time.Now()
	require.NoError(t, moments.CreateMany(ctx, []Moment{{now, "a"}, {now.Add(time.Hour), "b"}}))
	found, err := moments.GetMany(ctx, []time.Time{now.Add(time.Hour).UTC(), now.UTC()})
	require.NoError(t, err)
	assert.Equal(t, "b", found[0].Note)
	assert.Equal(t, "a", found[1].Note)

	require.NoError(t, pairs.CreateMany(ctx, []LeftRight{{1, "a", "x"}, {1, "b", "y"}}))
	some, err := pairs.GetMany(ctx, []pairKey{{"b", 1}, {"b", 2}, {"a", 1}})
	require.ErrorIs(t, err, repo.ErrNotFound)
	assert.Equal(t, []LeftRight{{1, "b", "y"}, {1, "a", "x"}}, some)
	_, err = pairs.GetMany(ctx, []pairKey{{"b", 1}}, repo.Asc("note"))
	require.ErrorIs(t, err, repo.ErrQuery)
	n, err := pairs.DeleteMany(ctx, []pairKey{{"b", 1}, {"b", 2}})
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
}

func TestAll_ReleasesTheConnectionWhenTheLoopEnds(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	ctx := t.Context()
	create(t, users, "a", "b", "c")
	var got []string
	for user, err := range users.All(ctx, repo.Asc("email")) {
		require.NoError(t, err)
		got = append(got, user.Email)
	}
	assert.Equal(t, []string{"a", "b", "c"}, got)

	for range 10 { // more loops than connections
		for user, err := range users.All(ctx, repo.Asc("email")) {
			require.NoError(t, err)
			assert.Equal(t, "a", user.Email)
			break
		}
	}
	require.Panics(t, func() {
		for _, err := range users.All(ctx) {
			panic(err)
		}
	})
	assert.Zero(t, m.DB().Pool().Stat().AcquiredConns(), "no connection is held")

	require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
		for _, err := range users.All(ctx) {
			require.NoError(t, err)
			_, inner := users.Count(ctx)
			require.ErrorIs(t, inner, txn.ErrConcurrentUse)
			break
		}
		count, err := users.Count(ctx)
		require.NoError(t, err)
		assert.EqualValues(t, 3, count, "the transaction is usable")
		return nil
	}))

	failures := func(users *repo.Repository[User, uuid.UUID], opts ...repo.QueryOption) (failed error) {
		for user, err := range users.All(ctx, opts...) {
			if err != nil {
				require.NoError(t, failed)
				require.Nil(t, user)
				failed = err
			}
		}
		return failed
	}
	require.ErrorIs(t, failures(users, repo.Eq("nothing", 1)), repo.ErrQuery)
	require.ErrorContains(t, failures(users, repo.Where("1 / (age - 2) > -5"), repo.Asc("age")), "22012")
	_, err := m.Exec(ctx, "alter table users alter column status drop not null; update users set status = null where email = 'b'")
	require.NoError(t, err)
	require.ErrorContains(t, failures(users, repo.Asc("email")), `NULL of column "status"`)
}

func TestColumn_ReadsOneColumn(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	create(t, users, "a", "b", "c")
	list, err := repo.Column[string](t.Context(), users, "email", repo.Desc("email"), repo.Gt("age", 0))
	require.NoError(t, err)
	assert.Equal(t, []string{"c", "b"}, list)
	none, err := repo.Column[*string](t.Context(), users, "name", repo.Limit(1))
	require.NoError(t, err)
	assert.Equal(t, []*string{nil}, none)
	_, err = repo.Column[string](t.Context(), users, "nothing")
	require.ErrorIs(t, err, repo.ErrQuery)
	_, err = repo.Column[int](t.Context(), users, "email")
	require.ErrorContains(t, err, "repo: read users: ")
}

func TestClaim_WorkersGetDifferentRows(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	ctx := t.Context()
	create(t, users, "a", "b", "c")
	require.NoError(t, m.Do(ctx, func(tx1 context.Context) error {
		mine, err := users.Claim(tx1, 2, repo.Asc("email"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "b"}, emails(mine))
		require.ErrorContains(t, m.Do(ctx, func(tx2 context.Context) error {
			_, err := users.Lock(tx2, mine[0].ID, repo.NoWait)
			return err
		}), "55P03")
		return m.Do(ctx, func(tx2 context.Context) error {
			others, err := users.Claim(tx2, 2, repo.Asc("email"))
			require.NoError(t, err)
			assert.Equal(t, []string{"c"}, emails(others))
			return nil
		})
	}))
	_, err := users.Claim(ctx, 1)
	require.ErrorContains(t, err, "Claim needs a transaction")
	_, err = users.Lock(ctx, uuid.New())
	require.ErrorContains(t, err, "Lock needs a transaction")
}

func TestPatch_ChangesSomeColumns(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	ada := create(t, users, "ada")[0]
	got, err := users.Patch(ctx, ada.ID, []repo.Change{
		repo.Set("name", "Ada"), repo.SetExpr("age", "age + $1::int * $1", 3), repo.Set("settings", Settings{Theme: "dark"}),
	})
	require.NoError(t, err)
	assert.Equal(t, "Ada", *got.Name)
	assert.Equal(t, 9, got.Age)
	assert.Equal(t, "dark", got.Settings.Theme)
	assert.Equal(t, "ada", got.Email)
	assert.EqualValues(t, 2, got.Version)
	assert.True(t, got.UpdatedAt.After(ada.UpdatedAt))

	name := []repo.Change{repo.Set("name", nil)}
	_, err = users.Patch(ctx, ada.ID, name, repo.Eq("version", 1))
	require.ErrorIs(t, err, repo.ErrNotFound)
	_, err = users.Patch(ctx, uuid.New(), name)
	require.ErrorIs(t, err, repo.ErrNotFound)
	_, err = users.Patch(ctx, ada.ID, name, nil)
	require.ErrorIs(t, err, repo.ErrQuery)
	for want, changes := range map[string][]repo.Change{
		"there are no changes": nil,
		"set twice":            {repo.Set("age", 1), repo.Set("age", 2)},
		"no column":            {repo.Set("nothing", 1)},
		`column "id" can't`:    {repo.Set("id", uuid.New())},
		`column "version"`:     {repo.Set("version", 1)},
		`column "shout"`:       {repo.Set("shout", "X")},
		"doesn't close":        {repo.SetExpr("age", "(1")},
	} {
		_, err := users.Patch(ctx, ada.ID, changes)
		require.ErrorIs(t, err, repo.ErrQuery)
		require.ErrorContains(t, err, want)
	}
}

func TestUpdateWhere_RequiresAFilter(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]repo.Option{"server clock": nil, "application clock": {repo.WithClock(time.Now)}} {
		m, users := newUsers(t, opts...)
		ctx := t.Context()
		create(t, users, "a", "b", "c")
		older := []repo.Change{repo.SetExpr("age", "age + 10")}
		for _, none := range [][]repo.Filter{nil, {repo.And()}, {repo.And(repo.And()), repo.WithDeleted()}} {
			_, err := users.UpdateWhere(ctx, older, none...)
			require.ErrorIs(t, err, repo.ErrQuery)
			require.ErrorContains(t, err, "AllRows")
			_, err = users.DeleteWhere(ctx, none...)
			require.ErrorContains(t, err, "AllRows")
		}
		n, err := users.UpdateWhere(ctx, older, repo.In("email", "a", "b"))
		require.NoError(t, err)
		assert.EqualValues(t, 2, n, name)
		n, err = users.UpdateWhere(ctx, older, repo.AllRows())
		require.NoError(t, err)
		assert.EqualValues(t, 3, n)
		n, err = users.DeleteWhere(ctx, repo.Gt("age", 15))
		require.NoError(t, err)
		assert.EqualValues(t, 2, n)
		found, err := users.Find(ctx, repo.OnlyDeleted(), repo.Asc("email"))
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "b"}, emails(found))
		assert.EqualValues(t, 4, found[0].Version)
		assert.Equal(t, *found[0].DeletedAt, found[0].UpdatedAt)

		plain := newRepo[Tag, string](t, managerOf(t, m.DB(), "create table tags (name text primary key)"), "tags")
		require.NoError(t, plain.CreateMany(ctx, []Tag{{"x"}, {"y"}}))
		n, err = plain.DeleteWhere(ctx, repo.AllRows())
		require.NoError(t, err)
		assert.EqualValues(t, 2, n)
	}
}

func TestUpdateMany_IsAtomic(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	rows := create(t, users, "a", "b", "c", "d")
	for i := range rows {
		rows[i].Age += 100
	}
	require.NoError(t, users.UpdateMany(ctx, rows))
	found, err := users.Find(ctx, repo.Asc("email"))
	require.NoError(t, err)
	assert.Equal(t, found, rows)

	for want, modify := range map[string]func([]User){
		"repo: row at index 2 for users: stale":              func(rows []User) { rows[2].Version-- },
		"repo: row at index 1 for users: no such row in":     func(rows []User) { rows[1].ID = uuid.New() },
		"check constraint users_age_check of users violated": func(rows []User) { rows[3].Age = -1 },
		"invalid row for users at index":                     func(rows []User) { rows[3].ID = rows[0].ID },
		"violated by the row at index 0":                     func(rows []User) { rows[0].Age = -1 },
	} {
		changed := slices.Clone(rows)
		for i := range changed {
			changed[i].Email += "!"
		}
		modify(changed)
		kept := slices.Clone(changed)
		require.ErrorContains(t, users.UpdateMany(ctx, changed), want)
		assert.Equal(t, kept, changed)
		now, err := users.Find(ctx, repo.Asc("email"))
		require.NoError(t, err)
		assert.Equal(t, found, now, "no row is changed")
	}
	require.NoError(t, users.UpdateMany(ctx, nil))
	tags := newRepo[Tag, string](t, newManager(t), "tags")
	require.ErrorIs(t, tags.UpdateMany(ctx, []Tag{{"x"}}), repo.ErrQuery)
}

func TestUpsertMany_ReturnsOneResultPerRow(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.OnConflict("email"))
	ctx := t.Context()
	old := create(t, users, "b", "d")
	rows := []User{{Email: "d", Age: 4}, {Email: "a", Age: 1}, {Email: "b", Age: 2}, {Email: "c", Age: 3}}
	outcomes, err := users.UpsertMany(ctx, rows)
	require.NoError(t, err)
	assert.Equal(t, []repo.UpsertResult{repo.Updated, repo.Inserted, repo.Updated, repo.Inserted}, outcomes)
	assert.Equal(t, old[1].ID, rows[0].ID)
	assert.Equal(t, old[0].ID, rows[2].ID)
	found, err := users.Find(ctx, repo.In("email", "a", "b", "c", "d"), repo.Asc("age"))
	require.NoError(t, err)
	assert.Equal(t, []User{rows[1], rows[2], rows[3], rows[0]}, found)

	again := []User{{Email: "e", Age: 5}, {Email: "a", Age: 9}}
	outcomes, err = users.UpsertMany(ctx, again, repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, []repo.UpsertResult{repo.Inserted, repo.Unchanged}, outcomes)
	assert.Equal(t, 1, again[1].Age)

	require.NoError(t, users.Delete(ctx, found[0].ID))
	_, err = users.UpsertMany(ctx, []User{{Email: "f"}, {Email: "a"}})
	require.ErrorIs(t, err, repo.ErrDeleted)
	require.ErrorContains(t, err, "repo: row at index 1 for users: the row is soft-deleted")
	exists, err := users.Exists(ctx, repo.Eq("email", "f"))
	require.NoError(t, err)
	assert.False(t, exists)
	_, err = users.UpsertMany(ctx, []User{{Email: "f"}, {Email: "f"}})
	require.ErrorIs(t, err, repo.ErrInvalid)
	_, err = users.UpsertMany(ctx, []User{{}}, repo.OnConflict("id"))
	require.ErrorIs(t, err, repo.ErrQuery)
	none, err := users.UpsertMany(ctx, nil)
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestBulkWrites_ConcurrentOrdersDoNotDeadlock(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.OnConflict("email"))
	rows := make([]User, 200)
	for i := range rows {
		rows[i] = User{Email: strconv.Itoa(i)}
	}
	require.NoError(t, users.CreateMany(t.Context(), rows))
	var wait sync.WaitGroup
	for range 4 {
		mine := slices.Clone(rows)
		rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		wait.Go(func() {
			_, err := users.UpsertMany(t.Context(), mine)
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	keys := make([]uuid.UUID, len(rows))
	for i := range rows {
		keys[i] = rows[i].ID
	}
	var mu sync.Mutex
	var total int64
	for range 4 {
		mine := slices.Clone(keys)
		rand.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		wait.Go(func() {
			n, err := users.DeleteMany(t.Context(), mine)
			assert.NoError(t, err) //nolint:testifylint // require must run on the test goroutine
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	wait.Wait()
	assert.EqualValues(t, len(rows), total)
	n, err := users.DeleteMany(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, n)
}
