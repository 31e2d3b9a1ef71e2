package txn_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/txn"
)

const timeouts = `select current_setting('statement_timeout') || ' ' || current_setting('lock_timeout') || ' ' ||
	current_setting('idle_in_transaction_session_timeout')`

func TestTimeouts_ApplyToTransactionOnly(t *testing.T) {
	t.Parallel()
	db := newDB(t, maxConns(1), func(c *pgfx.Config) { c.Timeouts.Lock = 7 * time.Second })
	for _, m := range []*txn.Manager{managerOf(t, db), managerOf(t, db, txn.WithDefaults(txn.ResolveCommit(txn.Unresolved)))} {
		timeoutsHold(t, m)
	}
}

func timeoutsHold(t *testing.T, m *txn.Manager) {
	t.Helper()
	for _, tt := range []struct {
		opts []txn.Option
		want string
	}{
		{[]txn.Option{txn.StatementTimeout(1500 * time.Millisecond), txn.LockTimeout(2 * time.Second), txn.IdleTimeout(time.Minute)}, "1500ms 2s 1min"},
		{[]txn.Option{txn.LockTimeout(pgfx.Off)}, "0 0 0"},
		{[]txn.Option{txn.StatementTimeout(time.Second), txn.Serializable(), txn.ReadOnly(), txn.Deferrable()}, "1s 7s 0"},
		{[]txn.Option{txn.WithinDeadline()}, "0 7s 0"},
	} {
		var got, isolation string
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			if err := m.QueryRow(ctx, timeouts).Scan(&got); err != nil {
				return err
			}
			return m.QueryRow(ctx, "show transaction_isolation").Scan(&isolation)
		}, tt.opts...))
		assert.Equal(t, tt.want, got)
		require.NoError(t, m.QueryRow(t.Context(), timeouts).Scan(&got))
		assert.Equal(t, "0 7s 0", got, "the session's values apply again")
	}
}

func TestTimeouts_CostNoRoundTrip(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	counter := fxtest.Statements(t, m.DB())
	trips := func(opts ...txn.Option) int {
		least := math.MaxInt
		for range 5 { // the first transaction deletes old markers
			counter.Reset()
			require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }, opts...))
			least = min(least, counter.RoundTrips())
		}
		return least
	}
	all := []txn.Option{txn.StatementTimeout(time.Second), txn.LockTimeout(time.Second), txn.IdleTimeout(time.Minute), txn.Serializable()}
	for _, by := range []txn.CommitResolution{txn.ByWitness, txn.ByMarker, txn.Unresolved} {
		assert.Equal(t, 2, trips(txn.ResolveCommit(by)), by)
		assert.Equal(t, 2, trips(append(all, txn.ResolveCommit(by))...), by)
	}
}

func TestWithinDeadline_SetsStatementTimeout(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	statement := func(opts ...txn.Option) (ms int) {
		require.NoError(t, m.Do(ctx, func(ctx context.Context) error {
			return m.QueryRow(ctx, "select setting::int from pg_settings where name = 'statement_timeout'").Scan(&ms)
		}, append(opts, txn.WithinDeadline())...))
		return ms
	}
	assert.InDelta(t, time.Hour.Milliseconds(), statement(), float64(time.Minute.Milliseconds()))
	assert.InDelta(t, time.Hour.Milliseconds(), statement(txn.StatementTimeout(2*time.Hour)), float64(time.Minute.Milliseconds()))
	assert.Equal(t, 60000, statement(txn.StatementTimeout(time.Minute)))
	assert.LessOrEqual(t, statement(txn.Timeout(time.Minute)), 60000)
}

func TestTimeout_BoundsWholeCall(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	requireUnharmed(t, m, func() {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			require.NoError(t, insert(ctx, m, "gone"))
			<-ctx.Done()
			return nil
		}, txn.Timeout(3*time.Second)) // long enough for the insert
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.EqualValues(t, 1, m.Stats().RolledBack.Cancelled)
	})
}

func TestStatementTimeout_IsNotContextError(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	err := m.Do(t.Context(), func(ctx context.Context) error {
		_, err := m.Exec(ctx, "select pg_sleep(60)")
		return err
	}, txn.StatementTimeout(10*time.Millisecond))
	require.ErrorContains(t, err, "statement timeout")
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualValues(t, 1, m.Stats().RolledBack.Error)
}

func TestTimeouts_RejectInvalidValues(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	for _, opt := range []txn.Option{
		txn.Timeout(0), txn.Timeout(-1), txn.StatementTimeout(0), txn.LockTimeout(time.Microsecond), txn.IdleTimeout(-2),
		txn.StatementTimeout(1 << 62),
	} {
		require.ErrorContains(t, m.Do(t.Context(), neverCalled(t), opt), "Timeout(")
	}
}

func TestTimeouts_MismatchIsAnError(t *testing.T) {
	t.Parallel()
	m := newManager(t, maxConns(1))
	require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
		for _, opt := range []txn.Option{
			txn.Timeout(time.Second), txn.StatementTimeout(pgfx.Off), txn.LockTimeout(time.Second), txn.IdleTimeout(time.Second),
			txn.WithinDeadline(),
		} {
			require.ErrorIs(t, m.Do(ctx, neverCalled(t), opt), txn.ErrOptionMismatch)
			require.ErrorIs(t, m.Do(ctx, neverCalled(t), opt, txn.Nested()), txn.ErrOptionMismatch)
		}
		return m.Do(ctx, func(context.Context) error { return nil }, txn.StatementTimeout(time.Second), txn.Timeout(time.Minute))
	}, txn.StatementTimeout(time.Second), txn.Timeout(time.Minute)))
}
