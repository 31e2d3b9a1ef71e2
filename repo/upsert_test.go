package repo_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestUpsert_DistinguishesInsertAndUpdate(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.OnConflict("email"))
	ctx := t.Context()
	ada := &User{Email: "ada", Age: 1, Status: "old"}
	outcome, err := users.Upsert(ctx, ada)
	require.NoError(t, err)
	assert.Equal(t, repo.Inserted, outcome)
	assert.Equal(t, "inserted", outcome.String())

	again := &User{Email: "ada", Age: 2}
	outcome, err = users.Upsert(ctx, again)
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, outcome)
	assert.Equal(t, ada.ID, again.ID, "the existing key is returned")
	assert.Equal(t, 2, again.Age)
	assert.Equal(t, "old", again.Status, "a column left to its default keeps its value")
	assert.EqualValues(t, 2, again.Version)
	assert.Equal(t, ada.CreatedAt, again.CreatedAt)
	assert.True(t, again.UpdatedAt.After(ada.UpdatedAt))

	count, err := users.Count(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 1, count)
}

func TestUpsert_SupportsPartitionedTables(t *testing.T) {
	t.Parallel()
	m := newManager(t, `create schema "o'neil";
		create table "o'neil".items (id int primary key, "group" int, name text, rank int, doc jsonb) partition by range (id);
		create table low partition of "o'neil".items for values from (0) to (10);
		create table high (rank int, name text, doc jsonb, "group" int, id int not null);
		alter table "o'neil".items attach partition high for values from (10) to (20)`)
	items := newRepo[Item, int](t, m, "o'neil.items")
	ctx := t.Context()
	for _, id := range []int{1, 11} {
		outcome, err := items.Upsert(ctx, &Item{ID: id})
		require.NoError(t, err)
		assert.Equal(t, repo.Inserted, outcome)
		outcome, err = items.Upsert(ctx, &Item{ID: id, Rank: 5})
		require.NoError(t, err)
		assert.Equal(t, repo.Updated, outcome)
	}
	outcomes, err := items.UpsertMany(ctx, []Item{{ID: 11}, {ID: 12}, {ID: 2}, {ID: 1}})
	require.NoError(t, err)
	assert.Equal(t, []repo.UpsertResult{repo.Updated, repo.Inserted, repo.Inserted, repo.Updated}, outcomes)
	outcome, err := items.Upsert(ctx, &Item{ID: 30})
	require.ErrorIs(t, err, repo.ErrConstraint)
	require.EqualError(t, err, "repo: check constraint of items violated: there is no partition for the row, or a trigger refuses it")
	assert.Zero(t, outcome)
}

func TestUpsert_SupportsAllConflictTargets(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	ctx := t.Context()
	id := uuid.New()
	for _, want := range []repo.UpsertResult{repo.Inserted, repo.Updated} {
		outcome, err := users.Upsert(ctx, &User{ID: id, Email: "ada"})
		require.NoError(t, err)
		assert.Equal(t, want, outcome, "by key")
		outcome, err = users.Upsert(ctx, &User{Email: "bob"}, repo.OnConstraint("users_email_key"))
		require.NoError(t, err)
		assert.Equal(t, want, outcome, "by constraint")
	}
	_, err := users.Upsert(ctx, &User{Email: "bob"})
	require.ErrorIs(t, err, repo.ErrQuery)
	require.ErrorContains(t, err, `conflict column "id" is left to the database`)
	_, err = users.Upsert(ctx, &User{ID: id, Email: "bob"})
	require.ErrorIs(t, err, repo.ErrConstraint, "the violated constraint isn't the target")

	_, err = m.Exec(ctx, `alter table users drop constraint users_email_key;
		create unique index on users (email) where deleted_at is null`)
	require.NoError(t, err)
	partial := repo.OnConflict("email").Where("deleted_at is null")
	_, err = users.Upsert(ctx, &User{Email: "bob"}, repo.OnConflict("email"))
	require.ErrorContains(t, err, "42P10")
	outcome, err := users.Upsert(ctx, &User{Email: "bob"}, partial)
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, outcome)
	bob := &User{Email: "bob"}
	outcome, err = users.Upsert(ctx, bob, partial, repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, repo.Unchanged, outcome)
	require.NoError(t, users.Delete(ctx, bob.ID))
	outcome, err = users.Upsert(ctx, &User{Email: "bob"}, partial)
	require.NoError(t, err)
	assert.Equal(t, repo.Inserted, outcome, "the partial index doesn't contain the deleted row")
}

func TestUpsert_RestoresDeletedRowsOnlyOnRequest(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.OnConflict("email"))
	ctx := t.Context()
	ada := create(t, users, "ada")[0]
	require.NoError(t, users.Delete(ctx, ada.ID))
	for _, opts := range [][]repo.UpsertOption{nil, {repo.DoNothing()}} {
		_, err := users.Upsert(ctx, &User{Email: "ada", Age: 9}, opts...)
		require.ErrorIs(t, err, repo.ErrDeleted)
	}
	got, err := users.Get(ctx, ada.ID, repo.WithDeleted())
	require.NoError(t, err)
	assert.Equal(t, 0, got.Age)

	restored := &User{Email: "ada", Age: 9}
	outcome, err := users.Upsert(ctx, restored, repo.RestoreDeleted())
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, outcome)
	got, err = users.Get(ctx, ada.ID)
	require.NoError(t, err)
	assert.Equal(t, restored, got)
}

func TestDoNothing_ReturnsTheExistingRow(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.OnConflict("email"))
	ctx := t.Context()
	ada := create(t, users, "ada")[0]
	other := &User{Email: "ada", Age: 9}
	outcome, err := users.Upsert(ctx, other, repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, repo.Unchanged, outcome)
	assert.Equal(t, ada, *other)
	outcome, err = users.Upsert(ctx, &User{Email: "bob"}, repo.DoNothing())
	require.NoError(t, err)
	assert.Equal(t, repo.Inserted, outcome)

	third := &User{Email: "ada", Age: 10}
	outcome, err = users.Upsert(ctx, third, repo.DoNothing(), repo.OnConstraint("users_email_key"))
	require.NoError(t, err)
	assert.Equal(t, repo.Unchanged, outcome)
	assert.Equal(t, ada, *third, "the columns of the constraint come from the catalog")
	many := []User{{Email: "cleo"}, {Email: "ada"}}
	outcomes, err := users.UpsertMany(ctx, many, repo.DoNothing(), repo.OnConstraint("users_email_key"))
	require.NoError(t, err)
	assert.Equal(t, []repo.UpsertResult{repo.Inserted, repo.Unchanged}, outcomes)
	assert.Equal(t, ada, many[1])

	for want, opts := range map[string][]repo.UpsertOption{
		`constraint "users_none"`: {repo.DoNothing(), repo.OnConstraint("users_none")},
		"option is nil":           {nil},
		"no column":               {repo.OnConflict("nothing")},
	} {
		_, err = users.Upsert(ctx, &User{Email: "x"}, opts...)
		require.ErrorContains(t, err, want)
	}
	_, err = users.Upsert(ctx, nil)
	require.ErrorIs(t, err, repo.ErrQuery)
}

func TestUpsert_ConcurrentCallsInsertOnce(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.OnConflict("email"))
	var (
		wait     sync.WaitGroup
		mu       sync.Mutex
		outcomes = map[repo.UpsertResult]int{}
	)
	for i := range 20 {
		wait.Go(func() {
			var opts []repo.UpsertOption
			if i%2 == 0 {
				opts = append(opts, repo.DoNothing())
			}
			outcome, err := users.Upsert(t.Context(), &User{Email: "ada"}, opts...)
			mu.Lock()
			defer mu.Unlock()
			assert.NoError(t, err)
			outcomes[outcome]++
		})
	}
	wait.Wait()
	assert.Equal(t, 1, outcomes[repo.Inserted])
}

type Tag struct {
	Name string `db:"name,pk"`
}

func TestUpsert_SupportsRowsWithOnlyAKey(t *testing.T) {
	t.Parallel()
	r := newRepo[Tag, string](t, newManager(t, `create table tags (name text primary key)`), "tags")
	for _, want := range []repo.UpsertResult{repo.Inserted, repo.Updated} {
		outcome, err := r.Upsert(t.Context(), &Tag{"x"})
		require.NoError(t, err)
		assert.Equal(t, want, outcome)
	}
}

type Checked struct {
	ID   int `db:"id,pk"`
	Note string
}

func (c *Checked) Validate(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return must(c.Note != "", "Note is empty")
}

type Account struct {
	ID      int `db:"id,pk"`
	Balance int
}

func (a Account) Validate() error { return must(a.Balance >= 0, "Balance is negative") }

type ruleError string

func (e ruleError) Error() string { return string(e) }

func must(ok bool, rule string) error {
	if ok {
		return nil
	}
	return ruleError(rule)
}

func TestValidation_RunsBeforeEveryFullWrite(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table checked (id int primary key, note text not null)", "create table accounts (id int primary key, balance int)")
	checked := newRepo[Checked, int](t, m, "checked", repo.WithValidator(func(_ context.Context, c *Checked) error {
		return must(c.ID > 0, "ID must be positive")
	}))
	ctx := t.Context()
	_, upsertErr := checked.Upsert(ctx, &Checked{})
	for _, err := range []error{checked.Create(ctx, &Checked{}), checked.Update(ctx, &Checked{}), upsertErr} {
		require.ErrorIs(t, err, repo.ErrInvalid)
		require.ErrorIs(t, err, ruleError("Note is empty"))
		require.ErrorIs(t, err, ruleError("ID must be positive"), "all errors are returned")
	}
	err := checked.CreateMany(ctx, []Checked{{ID: 1, Note: "x"}, {ID: 2}})
	var invalid *repo.InvalidError
	require.ErrorAs(t, err, &invalid)
	assert.Equal(t, 1, invalid.Index)
	require.EqualError(t, err, "repo: invalid row for checked at index 1: Note is empty")
	count, err := checked.Count(ctx)
	require.NoError(t, err)
	assert.Zero(t, count)

	accounts := newRepo[Account, int](t, m, "accounts")
	require.ErrorIs(t, accounts.Create(ctx, &Account{ID: 1, Balance: -1}), repo.ErrInvalid)
	require.NoError(t, accounts.Create(ctx, &Account{ID: 1, Balance: 1}))
}

func TestUpsert_TargetsHaveSeparateStatements(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	row := create(t, users, "a")[0]
	again := User{ID: row.ID, Email: "b"}
	outcome, err := users.Upsert(t.Context(), &again)
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, outcome)
	other := User{ID: uuid.New(), Email: "b", Age: 7}
	outcome, err = users.Upsert(t.Context(), &other, repo.OnConflict("email"))
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, outcome)
	assert.Equal(t, row.ID, other.ID)
}

func TestUpsertResult_ZeroValueIsInvalid(t *testing.T) {
	t.Parallel()
	for want, result := range map[string]repo.UpsertResult{
		"invalid": 0, "unchanged": repo.Unchanged, "inserted": repo.Inserted, "updated": repo.Updated,
	} {
		assert.Equal(t, want, result.String())
	}
	assert.Equal(t, "invalid", (repo.Updated + 1).String())
}
