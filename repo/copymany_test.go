package repo_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/repo"
)

func TestCopyMany_StoresWhatCreateStores(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 2, 29, 12, 0, 0, 123456789, time.UTC)
	clock := repo.WithClock(func() time.Time { return now })
	m := newManager(t, eventsDDL)
	events := newRepo[Event, uuid.UUID](t, m, "events", clock)
	rows := manyEvents(500)
	for i := range rows {
		rows[i].ID = uuid.New()
	}
	stored := func() []string {
		list, err := repo.Pluck[string](t.Context(), m, "select e::text from events e order by id")
		require.NoError(t, err)
		_, err = m.Exec(t.Context(), "truncate events")
		require.NoError(t, err)
		return list
	}
	for i := range rows {
		row := rows[i]
		require.NoError(t, events.Create(t.Context(), &row))
	}
	created := stored()
	n, err := events.CopyMany(t.Context(), rows)
	require.NoError(t, err)
	assert.EqualValues(t, len(rows), n)
	assert.Equal(t, created, stored())
	for i := range rows {
		require.Zero(t, rows[i].Version, "the structs are unchanged")
	}

	n, err = events.CopyMany(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestCopyMany_NamesTheRefusedRowAndStoresNothing(t *testing.T) {
	t.Parallel()
	m := newManager(t, eventsDDL)
	refused := errors.New("refused")
	events := newRepo[Event, uuid.UUID](t, m, "events", repo.WithKeys(uuid.New),
		repo.WithValidator(func(_ context.Context, e *Event) error {
			if e.Kind == "invalid" {
				return refused
			}
			return nil
		}))
	duplicate := uuid.New()
	for name, c := range map[string]struct {
		modify func(*Event)
		want   string
	}{
		"validator":     {func(e *Event) { e.Kind = "invalid" }, "repo: invalid row for events at index %d: refused"},
		"check":         {func(e *Event) { e.Kind = "bad" }, "repo: check constraint events_kind_check of events violated by the row at index %d"},
		"duplicate":     {func(e *Event) { e.ID = duplicate }, "repo: unique constraint events_pkey of events (id) violated by the row at index %d"},
		"not encodable": {func(e *Event) { e.At = time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC) }, `repo: row at index %d for events: copy events: the server refused the value for column "at" (field At) (SQLSTATE 22008)`},
		"not text":      {func(e *Event) { e.Kind = "\xff" }, `repo: row at index %d for events: copy events: the server refused the value for column "kind" (field Kind)`},
		"not allowed":   {func(e *Event) { e.Payload.Theme = "a\x00" }, `repo: row at index %d for events: copy events: the server refused the value for column "payload" (field Payload)`},
	} {
		for _, n := range []int{2, 100, 3000} {
			rows := manyEvents(n)
			rows[0].ID = duplicate
			c.modify(&rows[n-1])
			_, err := events.CopyMany(t.Context(), rows)
			require.ErrorContains(t, err, fmt.Sprintf(c.want, n-1), name)
			require.NotContains(t, err.Error(), "300000")
		}
	}
	count, err := events.Count(t.Context())
	require.NoError(t, err)
	assert.Zero(t, count)
}

func TestCopyMany_JoinsTheTransaction(t *testing.T) {
	t.Parallel()
	m := newManager(t, eventsDDL)
	events := newRepo[Event, uuid.UUID](t, m, "events", repo.WithKeys(uuid.New))
	rollback := errors.New("rollback")
	require.ErrorIs(t, m.Do(t.Context(), func(ctx context.Context) error {
		n, err := events.CopyMany(ctx, manyEvents(300))
		require.NoError(t, err)
		require.EqualValues(t, 300, n)
		count, err := events.Count(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 300, count)
		return rollback
	}), rollback)
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		_, err := events.CopyMany(ctx, manyEvents(3))
		return err
	}))
	count, err := events.Count(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 3, count)
}

func TestCopyMany_FillsAutomaticColumns(t *testing.T) {
	t.Parallel()
	_, users := newUsers(t, repo.WithKeys(uuid.New))
	before := time.Now().Add(-time.Hour)
	n, err := users.CopyMany(t.Context(), []User{{Email: "a"}, {Email: "b"}})
	require.NoError(t, err)
	assert.EqualValues(t, 2, n)
	stored, err := users.Find(t.Context(), repo.Asc("email"))
	require.NoError(t, err)
	require.Len(t, stored, 2)
	for _, user := range stored {
		assert.NotZero(t, user.ID)
		assert.Equal(t, "new", user.Status, "set by the database default")
		assert.EqualValues(t, 1, user.Version)
		assert.True(t, user.CreatedAt.After(before))
		assert.Equal(t, user.CreatedAt, user.UpdatedAt)
	}
	_, err = users.CopyMany(t.Context(), []User{{Email: "c"}, {Email: "d", Status: "old"}})
	require.ErrorContains(t, err, `invalid row for users at index 1: column "status"`)
}
