package cutover_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/repo/cutover"
	"github.com/rdsfx-go/rdsfx/txn"
)

// waitTimeout bounds waits for events that normally happen within milliseconds.
const waitTimeout = time.Minute

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		fmt.Fprintln(os.Stderr, "child process:", runChild(role))
		os.Exit(1)
	}
	fxtest.Main(m)
}

// Item is the row of a key in PostgreSQL.
type Item struct {
	Key     string `db:"key,pk"`
	Value   string
	Expires *time.Time
}

const itemsDDL = "create table if not exists items (key text primary key, value text not null, expires timestamptz)"

// newItems returns the PostgreSQL side.
func newItems(tb testing.TB, tx *txn.Manager) *cutover.Repository[string, Item, string] {
	tb.Helper()
	rows, err := repo.New[Item, string](tx, "items")
	require.NoError(tb, err)
	items, err := cutover.FromRepository(rows, itemMapping())
	require.NoError(tb, err)
	return items
}

func itemMapping() cutover.Mapping[string, Item, string] {
	return cutover.Mapping[string, Item, string]{
		Key: func(key string) (string, error) { return key, nil },
		Row: func(e cutover.Entry[string]) (Item, error) {
			return Item{Key: e.Key, Value: e.Value, Expires: null(e.Expires)}, nil
		},
		Entry: func(row *Item) (cutover.Entry[string], error) {
			e := cutover.Entry[string]{Key: row.Key, Value: row.Value}
			if row.Expires != nil {
				e.Expires = *row.Expires
			}
			return e, nil
		},
		KeyColumn: "key", ExpiresColumn: "expires",
	}
}

type (
	mover  = cutover.Mover[string]
	config = cutover.Config[string]
	entry  = cutover.Entry[string]
)

// world is a pair of databases: the old store and PostgreSQL.
type world struct {
	oldURL, newURL string
	old            *oldStore
	tx             *txn.Manager // for the test itself
	items          *cutover.Repository[string, Item, string]
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{oldURL: fxtest.URL(tb), newURL: fxtest.URL(tb)}
	w.old = newOldStore(tb, w.oldURL).create(tb)
	w.tx = newManager(tb, w.newURL, 8)
	_, err := w.tx.Exec(tb.Context(), itemsDDL)
	require.NoError(tb, err)
	require.NoError(tb, cutover.Setup().Run(tb.Context(), w.tx.DB()))
	w.items = newItems(tb, w.tx)
	return w
}

func newManager(tb testing.TB, url string, conns int) *txn.Manager {
	tb.Helper()
	db := fxtest.DB(tb, fxtest.At(url), fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: conns}}))
	tx, err := txn.NewManager(db)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		assert.NoError(tb, tx.Close(ctx))
	})
	return tx
}

// quick returns a configuration with short intervals, and with timeouts that no machine is too slow for.
func quick() config {
	return config{Poll: 20 * time.Millisecond, Repair: 20 * time.Millisecond, Lease: waitTimeout, Hold: waitTimeout, CopyTimeout: waitTimeout}
}

// newMover returns a mover of the world's databases that is not started.
func (w *world) newMover(tb testing.TB, c config) *mover {
	tb.Helper()
	m, err := cutover.NewMover(w.tx, "test", cutover.Old[string](w.old), cutover.New[string](w.items), c)
	require.NoError(tb, err)
	return m
}

// start returns a mover that is started until the end of the test.
func (w *world) start(tb testing.TB, c config) *mover {
	tb.Helper()
	m := w.newMover(tb, c)
	startMover(tb, m)
	return m
}

func startMover(tb testing.TB, m *mover) {
	tb.Helper()
	require.NoError(tb, m.Start(tb.Context()))
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		defer cancel()
		assert.NoError(tb, m.Stop(ctx))
	})
}

// advanceTo takes steps up to a phase. It backfills and skips the gates that wait for evidence.
func advanceTo(tb testing.TB, m *mover, to cutover.Phase) {
	tb.Helper()
	for {
		st, err := m.Status(tb.Context())
		require.NoError(tb, err)
		if st.Phase == to {
			return
		}
		if st.Phase == cutover.Backfill {
			_, err = m.Backfill(tb.Context(), cutover.BackfillOptions{})
			require.NoError(tb, err)
		}
		_, err = m.Advance(tb.Context(), cutover.AdvanceOptions{Force: true})
		require.NoError(tb, err)
	}
}

// oldEntry and newEntry return the state of a key on one side.
func (w *world) oldEntry(tb testing.TB, key string) entry {
	tb.Helper()
	entries, err := w.old.Get(tb.Context(), key)
	require.NoError(tb, err)
	return entries[0]
}

func (w *world) newEntry(tb testing.TB, key string) entry {
	tb.Helper()
	entries, err := w.items.Get(tb.Context(), key)
	require.NoError(tb, err)
	return entries[0]
}
