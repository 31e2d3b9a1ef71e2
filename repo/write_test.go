package repo_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestCreate_ReturnsTheStoredRow(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	ada := &User{
		Email: "ada@example.com", Name: new("Ada"), Settings: Settings{Theme: "dark", Flags: map[string]bool{"beta": true}},
		Tags: []string{"a", "b"}, Address: Address{Street: "Main St", City: new("London")}, Cached: "mine",
	}
	require.NoError(t, users.Create(ctx, ada))
	assert.NotZero(t, ada.ID)
	assert.Equal(t, "new", ada.Status)
	assert.Equal(t, "ADA@EXAMPLE.COM", ada.Shout)
	assert.EqualValues(t, 1, ada.Version)
	assert.NotZero(t, ada.CreatedAt)
	assert.Equal(t, ada.CreatedAt, ada.UpdatedAt)
	assert.Equal(t, "mine", ada.Cached, "a field without a column is unchanged")

	got, err := users.Get(ctx, ada.ID)
	require.NoError(t, err)
	ada.Cached = ""
	assert.Equal(t, ada, got)
}

func TestCreate_KeepsExplicitValues(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	then := time.Date(2001, 2, 3, 4, 5, 6, 7891, time.UTC)
	id := uuid.New()
	ada := &User{ID: id, Email: "ada@example.com", Status: "old", Version: 7, Stamps: Stamps{CreatedAt: then, UpdatedAt: then}}
	require.NoError(t, users.Create(t.Context(), ada))
	assert.Equal(t, id, ada.ID)
	assert.Equal(t, "old", ada.Status)
	assert.EqualValues(t, 7, ada.Version)
	assert.True(t, then.Truncate(time.Microsecond).Equal(ada.CreatedAt), "in the precision of the database")
}

func TestUpdate_ReplacesJSONValues(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	shared := map[string]string{"kept": "yes"}
	ada := &User{Email: "ada@example.com", Settings: Settings{More: shared}}
	require.NoError(t, users.Create(t.Context(), ada))
	_, err := m.Exec(t.Context(), `update users set settings = '{"more": {"other": "x"}}'`)
	require.NoError(t, err)
	require.NoError(t, users.Update(t.Context(), &User{ID: ada.ID, Email: "x", Version: 1, Settings: ada.Settings}))
	assert.Equal(t, map[string]string{"kept": "yes"}, shared)
}

func TestUpdate_WritesAllColumnsAndTheVersion(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	ada := create(t, users, "ada@example.com")[0]
	before := ada
	ada.Email, ada.Name, ada.CreatedAt, ada.DeletedAt = "lovelace@example.com", new("Ada"), time.Time{}, new(time.Now())
	require.NoError(t, users.Update(ctx, &ada))
	assert.EqualValues(t, 2, ada.Version)
	assert.Equal(t, "LOVELACE@EXAMPLE.COM", ada.Shout)
	assert.Equal(t, before.CreatedAt, ada.CreatedAt, "an update can't change the created column")
	assert.Nil(t, ada.DeletedAt, "or the softdelete column")
	assert.True(t, ada.UpdatedAt.After(before.UpdatedAt))

	stale := before
	err := users.Update(ctx, &stale)
	require.ErrorIs(t, err, repo.ErrStale)
	var staleErr *repo.StaleError
	require.ErrorAs(t, err, &staleErr)
	assert.Equal(t, repo.StaleError{Table: "users", Have: 1, Stored: 2}, *staleErr)
	assert.Equal(t, before, stale, "the struct of a failed update is unchanged")

	require.ErrorIs(t, users.Update(ctx, &User{ID: uuid.New(), Version: 1}), repo.ErrNotFound)
	require.NoError(t, users.Delete(ctx, ada.ID))
	require.ErrorIs(t, users.Update(ctx, &ada), repo.ErrNotFound)
}

func TestDelete_SoftDeletedRowIsHiddenUntilRestored(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	id := create(t, users, "ada@example.com", "bob@example.com")[0].ID
	require.NoError(t, users.Delete(ctx, id))
	require.ErrorIs(t, users.Delete(ctx, id), repo.ErrNotFound)
	_, err := users.Get(ctx, id)
	require.ErrorIs(t, err, repo.ErrNotFound)
	got, err := users.Get(ctx, id, repo.WithDeleted())
	require.NoError(t, err)
	assert.NotNil(t, got.DeletedAt)
	assert.EqualValues(t, 2, got.Version, "a deletion increments the version")

	for _, c := range []struct {
		opts []repo.Filter
		want int64
	}{{nil, 1}, {[]repo.Filter{repo.WithDeleted()}, 2}, {[]repo.Filter{repo.OnlyDeleted()}, 1}} {
		count, err := users.Count(ctx, c.opts...)
		require.NoError(t, err)
		assert.Equal(t, c.want, count)
	}

	require.NoError(t, users.Restore(ctx, id))
	require.ErrorIs(t, users.Restore(ctx, id), repo.ErrNotFound)
	got, err = users.Get(ctx, id)
	require.NoError(t, err)
	assert.Nil(t, got.DeletedAt)

	require.NoError(t, users.Delete(ctx, id))
	require.NoError(t, users.HardDelete(ctx, id))
	require.ErrorIs(t, users.HardDelete(ctx, id), repo.ErrNotFound)
	count, err := users.Count(ctx, repo.WithDeleted())
	require.NoError(t, err)
	assert.EqualValues(t, 1, count)
}

type Flagged struct {
	ID        int  `db:"id,pk"`
	IsDeleted bool `db:"is_deleted,softdelete"`
}

func TestDelete_SupportsABooleanColumn(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table flagged (id int primary key, is_deleted boolean not null)")
	r := newRepo[Flagged, int](t, m, "flagged", repo.WithClock(time.Now))
	ctx := t.Context()
	require.NoError(t, r.Create(ctx, &Flagged{ID: 1}))
	require.NoError(t, r.Delete(ctx, 1))
	_, err := r.Get(ctx, 1)
	require.ErrorIs(t, err, repo.ErrNotFound)
	found, err := r.Find(ctx, repo.OnlyDeleted())
	require.NoError(t, err)
	assert.Equal(t, []Flagged{{ID: 1, IsDeleted: true}}, found)
	_, err = r.Upsert(ctx, &Flagged{ID: 1})
	require.ErrorIs(t, err, repo.ErrDeleted)
	require.NoError(t, r.Restore(ctx, 1))
	require.ErrorIs(t, r.Update(ctx, &Flagged{ID: 1}), repo.ErrQuery, "there is no column to update")
}

type Plain struct {
	ID   int64 `db:"id,pk,generated"`
	Note string
}

func TestDelete_RemovesTheRowWithoutSoftDelete(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table plain (id bigint primary key generated always as identity, note text not null)")
	r := newRepo[Plain, int64](t, m, "plain")
	ctx := t.Context()
	row := &Plain{Note: "x"}
	require.NoError(t, r.Create(ctx, row))
	assert.EqualValues(t, 1, row.ID)
	assert.EqualValues(t, 1, r.KeyOf(row))
	row.Note = "y"
	require.NoError(t, r.Update(ctx, row))
	require.NoError(t, r.Delete(ctx, 1))
	require.ErrorIs(t, r.Update(ctx, row), repo.ErrNotFound)
	require.ErrorIs(t, r.Restore(ctx, 1), repo.ErrQuery)
	_, err := r.Find(ctx, repo.OnlyDeleted())
	require.ErrorIs(t, err, repo.ErrQuery)
}

func TestWithClock_TimestampsEveryWrite(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 1, 1, 0, 0, 0, 999, time.UTC)
	_, users := newUsers(t, repo.WithClock(func() time.Time { return now }))
	ctx := t.Context()
	ada := create(t, users, "ada@example.com")[0]
	assert.True(t, ada.CreatedAt.Equal(now.Truncate(time.Microsecond)))
	now = now.Add(time.Hour)
	require.NoError(t, users.Update(ctx, &ada))
	assert.True(t, ada.UpdatedAt.Equal(now.Truncate(time.Microsecond)))
	now = now.Add(time.Hour)
	require.NoError(t, users.Delete(ctx, ada.ID))
	got, err := users.Get(ctx, ada.ID, repo.WithDeleted())
	require.NoError(t, err)
	assert.True(t, got.DeletedAt.Equal(now.Truncate(time.Microsecond)))
	assert.True(t, got.UpdatedAt.Equal(*got.DeletedAt))
	require.NoError(t, users.Restore(ctx, ada.ID))
	now = now.Add(time.Hour)
	outcome, err := users.Upsert(ctx, got, repo.OnConflict("email"))
	require.NoError(t, err)
	assert.Equal(t, repo.Updated, outcome)
	assert.True(t, got.UpdatedAt.Equal(now.Truncate(time.Microsecond)), "an upsert sets the time of the update")
}

func TestWrites_JoinTheTransactionOfTheirContext(t *testing.T) {
	t.Parallel()
	m, users := newUsers(t)
	ctx := t.Context()
	boom := errors.New("boom")
	require.ErrorIs(t, m.Do(ctx, func(ctx context.Context) error {
		create(t, users, "ada@example.com")
		require.NoError(t, users.Create(ctx, &User{Email: "bob@example.com"}))
		exists, err := users.Exists(ctx, repo.Eq("email", "bob@example.com"))
		require.NoError(t, err)
		assert.True(t, exists)
		return boom
	}), boom)
	found, err := users.Find(ctx)
	require.NoError(t, err)
	assert.Equal(t, []string{"ada@example.com"}, emails(found), "only the write with the outer ctx is left")
}

func TestConstraintError_NamesTheConstraintAndNoValue(t *testing.T) {
	t.Parallel()
	errTaken := errors.New("that address is taken")
	m := newManager(t, usersDDL,
		`create table pets (id int primary key, owner uuid constraint pets_owner_fkey references users, name text not null,
			during int4range, exclude using gist (during with &&))`)
	users := newRepo[User, uuid.UUID](t, m, "users", repo.MapConstraint("users_email_key", errTaken))
	type Pet struct {
		ID     int `db:"id,pk"`
		Owner  *uuid.UUID
		Name   *string
		During *pgtype.Range[pgtype.Int4]
	}
	during := func(from, to int32) *pgtype.Range[pgtype.Int4] {
		return &pgtype.Range[pgtype.Int4]{
			Lower: pgtype.Int4{Int32: from, Valid: true}, Upper: pgtype.Int4{Int32: to, Valid: true},
			LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true,
		}
	}
	pets := newRepo[Pet, int](t, m, "pets")
	ctx := t.Context()
	create(t, users, "secret@example.com")
	require.NoError(t, pets.Create(ctx, &Pet{ID: 1, Name: new("x"), During: during(1, 5)}))

	for name, c := range map[string]struct {
		err  error
		want repo.ConstraintError
	}{
		"unique": {
			users.Create(ctx, &User{Email: "secret@example.com"}),
			repo.ConstraintError{Kind: repo.KindUnique, Table: "users", Constraint: "users_email_key", Columns: []string{"email"}, Index: -1},
		},
		"check": {
			users.Create(ctx, &User{Email: "b", Age: -987654}),
			repo.ConstraintError{Kind: repo.KindCheck, Table: "users", Constraint: "users_age_check", Index: -1},
		},
		"foreign key": {
			pets.Create(ctx, &Pet{ID: 2, Name: new("x"), Owner: new(uuid.New())}),
			repo.ConstraintError{Kind: repo.KindForeignKey, Table: "pets", Constraint: "pets_owner_fkey", Columns: []string{"owner"}, Index: -1},
		},
		"not null": {
			pets.Create(ctx, &Pet{ID: 2}),
			repo.ConstraintError{Kind: repo.KindNotNull, Table: "pets", Columns: []string{"name"}, Index: -1},
		},
		"exclusion": {
			pets.Create(ctx, &Pet{ID: 2, Name: new("x"), During: during(2, 3)}),
			repo.ConstraintError{Kind: repo.KindExclusion, Table: "pets", Constraint: "pets_during_excl", Columns: []string{"during"}, Index: -1},
		},
	} {
		require.ErrorIs(t, c.err, repo.ErrConstraint, name)
		var got *repo.ConstraintError
		require.ErrorAs(t, c.err, &got, name)
		if name != "not null" {
			assert.Equal(t, c.want.Constraint, got.Constraint, name)
		}
		assert.Equal(t, c.want.Kind, got.Kind, name)
		assert.Equal(t, c.want.Table, got.Table, name)
		assert.Equal(t, c.want.Columns, got.Columns, name)
		assert.Equal(t, c.want.Index, got.Index, name)
		assert.NotContains(t, c.err.Error(), "secret")
		assert.NotContains(t, c.err.Error(), "987654")
		var pg *pgconn.PgError
		require.ErrorAs(t, c.err, &pg, "the server's error is wrapped")
		assert.Equal(t, name == "unique", errors.Is(c.err, errTaken), name)
	}
}

func TestErrors_ContainNoValues(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table strict (id int primary key, note varchar(3), n int)")
	type Strict struct {
		ID   int `db:"id,pk"`
		Note string
		N    any
	}
	r := newRepo[Strict, int](t, m, "strict")
	for _, err := range []error{
		r.Create(t.Context(), &Strict{ID: 1, Note: "hush-hush"}),
		r.Create(t.Context(), &Strict{ID: 1, N: "hush-hush"}),
		r.Create(t.Context(), &Strict{ID: 1, N: struct{ Hush string }{"hush-hush"}}),
	} {
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "hush-hush")
		assert.Contains(t, err.Error(), "repo: create strict: ")
	}
}

func TestErrors_NameAMissingTable(t *testing.T) {
	t.Parallel()
	r := newRepo[Plain, int64](t, newManager(t), "app.nothing")
	_, err := r.Find(t.Context())
	require.ErrorContains(t, err, "repo: read app.nothing: relation \"app.nothing\" does not exist")
}

func TestCreate_SuppressedRowIsAnError(t *testing.T) {
	t.Parallel()
	m := newManager(t, "create table plain (id bigint primary key generated always as identity, note text not null)",
		"create function no() returns trigger language plpgsql as 'begin return null; end'",
		"create trigger no before insert on plain for each row execute function no()")
	r := newRepo[Plain, int64](t, m, "plain")
	require.ErrorContains(t, r.Create(t.Context(), &Plain{}), "suppressed")
	require.ErrorContains(t, r.CreateMany(t.Context(), make([]Plain, 2)), "suppressed")
	require.ErrorIs(t, r.Create(t.Context(), nil), repo.ErrQuery)
}

func TestDelete_DeferredConstraintFailsTheCommit(t *testing.T) {
	t.Parallel()
	items := newRepo[Item, int](t, newManager(t, itemsDDL, "create table parts (item int references items deferrable initially deferred)",
		"insert into items (id, rank, doc) values (1, 0, '{}')", "insert into parts values (1)"), "items")
	ctx := t.Context()
	for name, remove := range map[string]func() (int64, error){
		"by keys":   func() (int64, error) { return items.DeleteMany(ctx, []int{1}) },
		"by filter": func() (int64, error) { return items.DeleteWhere(ctx, repo.Eq("id", 1)) },
	} {
		n, err := remove()
		require.ErrorIs(t, err, repo.ErrConstraint, name)
		assert.Zero(t, n, name)
	}
}

func TestErrors_QuoteMessagesWithoutValues(t *testing.T) {
	t.Parallel()
	m := newManager(t, itemsDDL, "alter table items alter name type varchar(3)")
	items := newRepo[Item, int](t, m, "items")
	err := items.Create(t.Context(), &Item{Name: sql.NullString{String: "hunter2", Valid: true}})
	require.ErrorContains(t, err, "value too long for type character varying(3) (SQLSTATE 22001)")
	require.NotContains(t, err.Error(), "hunter2")
}
