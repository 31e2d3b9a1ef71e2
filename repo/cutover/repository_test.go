package cutover_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
)

// numbered is a row whose primary key is a number.
type numbered struct {
	ID    int64 `db:"id,pk"`
	Value string
}

func TestFromRepository_ReportsKeysAndRowsThatDoNotFit(t *testing.T) {
	t.Parallel()
	tx := newManager(t, newWorld(t).newURL, 2)
	_, err := tx.Exec(t.Context(), "create table numbered (id bigint primary key, value text not null)")
	require.NoError(t, err)
	rows, err := repo.New[numbered, int64](tx, "numbered")
	require.NoError(t, err)
	_, err = cutover.FromRepository(rows, cutover.Mapping[string, numbered, int64]{KeyColumn: "id"})
	require.ErrorContains(t, err, "needs a repository and a Mapping with Key, Row, Entry and KeyColumn")

	errNoRow, errNoEntry := errors.New("no row"), errors.New("no entry")
	target, err := cutover.FromRepository(rows, cutover.Mapping[string, numbered, int64]{
		Key: func(key string) (int64, error) { return strconv.ParseInt(key, 10, 64) },
		Row: func(e entry) (numbered, error) {
			if e.Value == "no row" {
				return numbered{}, errNoRow
			}
			id, err := strconv.ParseInt(e.Key, 10, 64)
			return numbered{id, e.Value}, err
		},
		Entry: func(row *numbered) (entry, error) {
			if row.Value == "no entry" {
				return entry{}, errNoEntry
			}
			return entry{Key: strconv.FormatInt(row.ID, 10), Value: row.Value}, nil
		},
		KeyColumn: "id",
	})
	require.NoError(t, err)
	good := entry{Key: "7", Found: true, Value: "1"}
	require.NoError(t, target.Put(t.Context(), good, entry{Key: "8"}))
	found, err := target.Get(t.Context(), "8", "7")
	require.NoError(t, err)
	assert.Equal(t, []entry{{Key: "8"}, good}, found)
	listed, err := target.List(t.Context(), "6", 10)
	require.NoError(t, err)
	assert.Equal(t, []entry{good}, listed)
	deleted, err := target.DeleteExpired(t.Context(), 10)
	require.NoError(t, err)
	assert.Zero(t, deleted, "without a column for the expiry")

	_, getErr := target.Get(t.Context(), "user:secret")
	_, listErr := target.List(t.Context(), "user:secret", 10)
	for name, err := range map[string]error{
		"Get": getErr, "List": listErr, "Put": target.Put(t.Context(), entry{Key: "user:secret", Found: true}),
		"Put of an absent key": target.Put(t.Context(), entry{Key: "user:secret"}),
	} {
		refused, ok := errors.AsType[*cutover.KeyError](err)
		require.True(t, ok, "%s: %v", name, err)
		assert.Equal(t, "user:secret", refused.Key)
	}
	err = target.Put(t.Context(), entry{Key: "8", Found: true, Value: "1"}, entry{Key: "9", Found: true, Value: "no row"})
	require.ErrorIs(t, err, errNoRow)
	found, err = target.Get(t.Context(), "8")
	require.NoError(t, err)
	assert.False(t, found[0].Found, "nothing is stored")

	require.NoError(t, target.Put(t.Context(), entry{Key: "9", Found: true, Value: "no entry"}))
	_, err = target.Get(t.Context(), "9")
	require.ErrorIs(t, err, errNoEntry)
	_, err = target.List(t.Context(), "", 10)
	require.ErrorIs(t, err, errNoEntry)
}

// oldWithoutUpdate is an old store that implements nothing optional.
type oldWithoutUpdate struct{ cutover.Old[string] }

func TestMover_ReportsWrongUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := cutover.NewMover(w.tx, "", cutover.Old[string](w.old), cutover.New[string](w.items), quick())
	require.ErrorContains(t, err, "needs a manager, a name, an old store and a PostgreSQL side")
	m, err := cutover.NewMover(w.tx, "test", cutover.Old[string](oldWithoutUpdate{w.old}), cutover.New[string](w.items), quick())
	require.NoError(t, err)
	assert.Equal(t, "test", m.Name())
	require.ErrorIs(t, m.Store().Set(t.Context(), "a", "1", 0), cutover.ErrNotStarted)
	_, _, err = m.Store().Get(t.Context(), "a")
	require.ErrorIs(t, err, cutover.ErrNotStarted)
	startMover(t, m)
	require.ErrorContains(t, m.Start(t.Context()), "already started")
	keep := func(e entry) (entry, error) { return e, nil }
	require.ErrorContains(t, m.Store().Update(t.Context(), "a", keep), "the old store has no Update: use Set")
	require.ErrorContains(t, m.Clean(t.Context()), "clean in phase off: advance to done first")
	require.ErrorContains(t, m.SetShadowPercent(t.Context(), -1), "use 0 to 100")
	_, err = m.Plan(t.Context(), cutover.PlanOptions{})
	require.NoError(t, err, "a plan needs no description of the keys")

	advanceTo(t, m, cutover.Done)
	_, err = m.Advance(t.Context(), cutover.AdvanceOptions{})
	require.ErrorContains(t, err, "already done")
	require.NoError(t, m.Store().Update(t.Context(), "a", keep))
	require.NoError(t, m.Clean(t.Context()))
	require.NoError(t, m.Stop(t.Context()))
	require.ErrorIs(t, m.Store().Set(t.Context(), "a", "1", 0), cutover.ErrNotStarted)
}

func TestMover_StartReportsMissingTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.tx.Exec(t.Context(), "drop table rdsfx_cutovers")
	require.NoError(t, err)
	err = w.newMover(t, quick()).Start(t.Context())
	require.ErrorContains(t, err, "rdsfx_cutovers")
	require.False(t, pgfx.IsUnavailable(err))
}

func TestPhase_HasATextForEachValue(t *testing.T) {
	t.Parallel()
	for phase := cutover.Off; phase <= cutover.Done; phase++ {
		text, err := phase.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, phase.String(), string(text))
		var read cutover.Phase
		require.NoError(t, read.UnmarshalText(text))
		assert.Equal(t, phase, read)
	}
	assert.Equal(t, "Phase(8)", cutover.Phase(8).String())
	_, err := cutover.Phase(-1).MarshalText()
	require.ErrorContains(t, err, "unknown phase -1")
	require.ErrorContains(t, new(cutover.Phase).UnmarshalText([]byte("later")), "later")
}

func TestCanonicalJSON_SortsKeysAndKeepsDigits(t *testing.T) {
	t.Parallel()
	text, err := cutover.CanonicalJSON([]byte(` {"b": 1.0, "a": [1, 12345678901234567890]} `))
	require.NoError(t, err)
	want := `{"a":[1,12345678901234567890],"b":1.0}`
	assert.Equal(t, want, string(text))
	_, err = cutover.CanonicalJSON([]byte("{"))
	require.ErrorContains(t, err, "canonical form")
}
