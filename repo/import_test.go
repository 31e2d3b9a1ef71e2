package repo_test

import (
	"errors"
	"io"
	"iter"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

// sequence returns n rows.
func sequence[T any](n int, row func(i int) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for i := range n {
			if !yield(row(i)) {
				return
			}
		}
	}
}

func TestImport_CopiesASequence(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t)
	ctx := t.Context()
	var progress []repo.Progress
	n, err := users.Import(ctx, sequence(1000, func(i int) (User, error) {
		return User{Email: strconv.Itoa(i), Settings: Settings{Theme: "dark"}, Age: i}, nil
	}), repo.OnProgress(400, func(p repo.Progress) { progress = append(progress, p) }), repo.ExpectedRows(1000))
	require.NoError(t, err)
	assert.EqualValues(t, 1000, n)
	require.Len(t, progress, 3)
	assert.EqualValues(t, 400, progress[0].Rows)
	assert.Positive(t, progress[0].Remaining)
	assert.EqualValues(t, 1000, progress[2].Rows)
	assert.Zero(t, progress[2].Remaining)

	last, err := users.First(ctx, repo.Desc("age"))
	require.NoError(t, err)
	assert.Equal(t, "999", last.Shout)
	assert.Equal(t, "new", last.Status)
	assert.Equal(t, "dark", last.Settings.Theme)
	assert.EqualValues(t, 1, last.Version)
	assert.WithinDuration(t, time.Now(), last.CreatedAt, time.Hour)
	assert.NotZero(t, last.ID)

	n, err = users.Import(ctx, sequence(0, func(int) (User, error) { return User{}, nil }))
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestImport_IsAtomicAndNamesTheInvalidRow(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	m, users := newUsers(t, repo.WithClock(func() time.Time { return now }), repo.WithKeys(uuid.New))
	ctx := t.Context()
	boom := errors.New("boom")
	rows := func(bad func(*User) error) iter.Seq2[User, error] {
		return sequence(20, func(i int) (User, error) {
			user := User{Email: strconv.Itoa(i)}
			if i == 17 {
				err := bad(&user)
				return user, err
			}
			return user, nil
		})
	}
	_, err := users.Import(ctx, rows(func(*User) error { return boom }))
	require.Equal(t, boom, err)
	_, err = users.Import(ctx, rows(func(u *User) error { u.Status = "old"; return nil }))
	require.ErrorContains(t, err, `invalid row for users at index 17: column "status" is left to the database in some rows`)
	_, err = users.Import(ctx, rows(func(u *User) error { u.Age = -1; return nil }))
	require.ErrorContains(t, err, "users_age_check of users violated by the row at index 17")
	_, err = users.Import(ctx, rows(func(u *User) error { u.Email = "3"; return nil }))
	require.ErrorContains(t, err, "users_email_key of users (email) violated by the row at index 17")
	_, err = users.Import(ctx, sequence(1, func(int) (User, error) { return User{}, boom }))
	require.Equal(t, boom, err)
	_, err = users.Import(ctx, rows(func(*User) error { return io.EOF }))
	require.Equal(t, io.EOF, err, "io.EOF has no special meaning")
	_, err = users.Import(ctx, rows(nil), nil)
	require.ErrorIs(t, err, repo.ErrQuery)
	count, err := users.Count(ctx)
	require.NoError(t, err)
	assert.Zero(t, count)

	n, err := users.Import(ctx, rows(func(*User) error { return nil }))
	require.NoError(t, err)
	assert.EqualValues(t, 20, n)
	first, err := users.First(ctx)
	require.NoError(t, err)
	assert.True(t, first.CreatedAt.Equal(now))

	checked := newRepo[Checked, int](t, managerOf(t, m.DB(), "create table checked (id int primary key, note text not null)"), "checked")
	_, err = checked.Import(ctx, sequence(3, func(i int) (Checked, error) { return Checked{ID: i, Note: "x"[:1-i/2]}, nil }))
	require.ErrorContains(t, err, "at index 2: Note is empty")
	_, err = newRepo[Checked, int](t, m, "nothing").Import(ctx, sequence(1, func(i int) (Checked, error) { return Checked{ID: i, Note: "x"}, nil }))
	require.ErrorContains(t, err, "repo: import nothing: relation \"nothing\" does not exist")
}
