package txn_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

const (
	openMessage  = "long-running transaction keeps its locks"
	endedMessage = "long-running transaction ended"
)

// newReportingManager returns a manager that reports transactions early, and a function that returns its log lines.
func newReportingManager(
	t *testing.T, after time.Duration, opts ...func(*pgfx.Config),
) (m *txn.Manager, lines func(message string) []observer.LoggedEntry) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	db := newDB(t, opts...)
	m = managerOf(t, db, txn.WithLogger(zap.New(core)), txn.WithLongTxThreshold(after))
	return m, func(message string) []observer.LoggedEntry { return logs.FilterMessageSnippet(message).All() }
}

func TestLongTx_IsReportedOnceAndAtItsEnd(t *testing.T) {
	t.Parallel()
	m, lines := newReportingManager(t, 200*time.Millisecond, maxConns(2))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		require.Eventually(t, func() bool { return len(lines(openMessage)) > 0 }, waitTimeout, time.Millisecond)
		line := lines(openMessage)[0]
		assert.Equal(t, zapcore.WarnLevel, line.Level)
		assert.Equal(t, "txn", line.LoggerName)
		assert.Contains(t, line.Message, "Timeout", "the message names the fix")
		fields := line.ContextMap()
		assert.GreaterOrEqual(t, fields["held"], 200*time.Millisecond)
		if statement, ok := fields["last_statement"]; ok { // missing if the report came before the first statement
			assert.Equal(t, "begin", statement)
		}
		assert.Contains(t, fields["stack"].([]any)[0], "TestLongTx_IsReportedOnce")
		assert.EqualValues(t, 1, m.Stats().LongRunning)

		// A second transaction is reported separately, and the first one is not reported again.
		return m.Do(ctx, func(context.Context) error {
			require.Eventually(t, func() bool { return len(lines(openMessage)) > 1 }, waitTimeout, time.Millisecond)
			assert.NotEqual(t, fields["pid"], lines(openMessage)[1].ContextMap()["pid"])
			return nil
		}, txn.RequiresNew())
	}))
	require.Len(t, lines(endedMessage), 2)
	assert.GreaterOrEqual(t, lines(endedMessage)[1].ContextMap()["held"], lines(endedMessage)[0].ContextMap()["held"])

	for range 3 {
		require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }))
	}
	assert.Len(t, lines(endedMessage), len(lines(openMessage)), "the end of a short transaction is not logged")
	assert.EqualValues(t, len(lines(openMessage)), m.Stats().LongRunning)
}

func TestLongTx_ReportHasStatementWithoutValues(t *testing.T) {
	t.Parallel()
	m, lines := newReportingManager(t, 20*time.Millisecond, maxConns(1))
	require.Eventually(t, func() bool { // the first report may precede the statement
		reported := len(lines(openMessage))
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			_, err := m.Exec(ctx, "update entries set n = 42 where name = 'hunter2'")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return len(lines(openMessage)) > reported }, waitTimeout, time.Millisecond)
			return nil
		}))
		return lines(openMessage)[reported].ContextMap()["last_statement"] == "update entries set n = ? where name = ?"
	}, waitTimeout, time.Millisecond)
}

func TestLongTx_ReplacesReportOfLease(t *testing.T) {
	t.Parallel()
	m, lines := newReportingManager(t, 40*time.Millisecond, maxConns(2), func(c *pgfx.Config) { c.Stats.LongLease = 10 * time.Millisecond })
	before := m.DB().Stats().Pool.LongHeld
	require.NoError(t, m.Do(t.Context(), func(context.Context) error {
		require.Eventually(t, func() bool { return len(lines(openMessage)) > 0 }, waitTimeout, time.Millisecond)
		assert.Equal(t, before, m.DB().Stats().Pool.LongHeld, "the threshold of leases passed long before")
		return nil
	}))
	require.NoError(t, m.DB().AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
		require.Eventually(t, func() bool { return m.DB().Stats().Pool.LongHeld > before }, waitTimeout, time.Millisecond)
		return nil
	}), "the same connection without a transaction is reported as a lease")
	assert.Len(t, lines(openMessage), 1)
}

func TestLongTx_CanBeDisabled(t *testing.T) {
	t.Parallel()
	m, lines := newReportingManager(t, pgfx.Off, maxConns(1), func(c *pgfx.Config) { c.Stats.LongLease = 10 * time.Millisecond })
	before := m.DB().Stats().Pool.LongHeld
	require.NoError(t, m.Do(t.Context(), func(context.Context) error {
		require.Eventually(t, func() bool { return m.DB().Stats().Pool.LongHeld > before }, waitTimeout, time.Millisecond)
		return nil
	}))
	assert.Empty(t, lines(openMessage))
	assert.Zero(t, m.Stats().LongRunning)

	m, lines = newReportingManager(t, time.Nanosecond, maxConns(1), func(c *pgfx.Config) { c.Stats.Disabled = true })
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error { return insert(ctx, m, "x") }))
	assert.Empty(t, lines(openMessage))

	_, err := txn.NewManager(m.DB(), txn.WithLongTxThreshold(0))
	require.ErrorContains(t, err, "txn: WithLongTxThreshold(0s): use a positive duration")
}
