//go:build unix

package txn_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/txn"
)

// TestACommitLostInACrashIsNeverTakenForAStrangers kills a backend of a server of its own at the moment of a COMMIT. All
// sessions end and recovery runs; whatever was not yet safe on disk is gone, and its transaction IDs are given to the
// traffic that follows, which is committed.
func TestACommitLostInACrashIsNeverTakenForAStrangers(t *testing.T) {
	t.Parallel()
	// Commits are written but not flushed for a long time, so that the crash loses them.
	own, err := embedded.Start(t.Context(), embedded.Setting("wal_writer_delay", "10s"), embedded.Setting("synchronous_commit", "off"),
		embedded.Setting("restart_after_crash", "on"))
	require.NoError(t, err)
	defer func() { _ = own.Stop(context.Background()) }()
	if own.External() {
		t.Skip("a server that isn't ours must not be killed")
	}
	proxy := newProxyTo(t, own.URL())
	db := openDB(t, pgfx.Config{URL: own.URL()}, proxy.through, maxConns(4))

	for _, by := range []txn.Resolution{txn.ByWitness, txn.ByMarker} {
		m := managerOf(t, db, txn.WithDefaults(txn.Outcome(by)), txn.WithOutcomeTimeout(patience))
		lostRows := 0
		for i := range rounds(t, 2) {
			name := fmt.Sprint(by, "/", i)
			proxy.onCommit(always(forward))
			require.Eventually(t, func() bool { // the server is back, and what was done up to here is safe
				if err := m.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
					return false
				}
				_, err := m.Exec(t.Context(), "checkpoint")
				return err == nil && (by != txn.ByWitness || witnesses(t, m) == 1)
			}, patience, 10*time.Millisecond)
			err := m.Do(t.Context(), func(ctx context.Context) error {
				var pid int
				if err := m.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
					return err
				}
				proxy.afterAnswer(func() { crash(pid, db) })
				proxy.onCommit(once(loseAnswer))
				return insert(ctx, m, name)
			})
			var stored bool
			require.Eventually(t, func() bool { // connections from before the crash have to be found out
				return m.QueryRow(t.Context(), "select exists (select from entries where name = $1)", name).Scan(&stored) == nil
			}, patience, time.Millisecond)
			if !stored {
				lostRows++
			}
			if by == txn.ByWitness {
				require.ErrorIs(t, err, txn.ErrOutcomeUnknown, "no witness survives a crash")
			} else {
				require.NotErrorIs(t, err, txn.ErrOutcomeUnknown, "a marker tells across crashes")
				require.Equal(t, stored, err == nil, "stored: %v, reported: %v", stored, err)
			}
		}
		assert.Positive(t, lostRows, "the crash must undo something that the server had answered")
	}
}

// crash kills a backend, waits until the server has noticed, and runs traffic on it as soon as it is back.
func crash(pid int, db *pgfx.DB) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	other, err := db.Connect(ctx, "victim")
	if err != nil {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, _ = other.Exec(ctx, "select pg_sleep(60)")   // ends with all sessions
	for done := 0; done < 20 && ctx.Err() == nil; { // these get the IDs that were lost
		if _, err := db.Pool().Exec(ctx, "insert into entries values (gen_random_uuid()::text)"); err == nil {
			done++
		}
	}
}

func TestAWitnessThatDoesntAnswerInTimeIsNone(t *testing.T) {
	t.Parallel()
	if server.External() {
		t.Skip("the processes of a server that isn't ours can't be stopped")
	}
	m, proxy := doubtful(t, txn.WithOutcomeTimeout(50*time.Millisecond))
	var pid int
	require.NoError(t, m.QueryRow(t.Context(), "select pid "+witnessSessions).Scan(&pid))
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	proxy.onCommit(once(loseAnswer))
	err := m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") })
	require.ErrorIs(t, err, txn.ErrOutcomeUnknown)
	assert.Equal(t, []string{"x"}, entries(t, m.DB()))
}
