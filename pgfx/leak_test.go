package pgfx_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const (
	heldMessage = "a connection is held for long; is it released on every path?"
	backMessage = "a connection that was held for long is back"
	patience    = 10 * time.Second
)

func TestAForgottenConnectionIsReportedOnceAndOnceMoreWhenItReturns(t *testing.T) {
	t.Parallel()
	db, lines, overdue := leaky(t)
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = held.Exec(t.Context(), "select 'hunter2' as forgotten")
	require.NoError(t, err)
	overdue(held)
	require.Len(t, lines(heldMessage), 1)
	line := lines(heldMessage)[0]
	assert.Equal(t, zapcore.WarnLevel, line.Level)
	fields := line.ContextMap()
	assert.GreaterOrEqual(t, fields["held"], time.Hour)
	assert.Equal(t, "select ? as forgotten", fields["last_statement"])
	assert.Equal(t, held.Conn().PgConn().PID(), fields["pid"])
	assert.Contains(t, fields["stack"].([]any)[0], "TestAForgottenConnectionIsReportedOnce")

	other, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	overdue(other)
	require.Len(t, lines(heldMessage), 2, "the first is not reported a second time")
	assert.Equal(t, other.Conn().PgConn().PID(), lines(heldMessage)[1].ContextMap()["pid"])
	assert.Empty(t, lines(backMessage))

	held.Release()
	require.Len(t, lines(backMessage), 1)
	back := lines(backMessage)[0].ContextMap()
	assert.Equal(t, fields["pid"], back["pid"])
	assert.GreaterOrEqual(t, back["held"], fields["held"])
	other.Release()
	assert.EqualValues(t, 2, db.Stats().Pool.LongHeld)
	for range 3 {
		_, err = db.Pool().Exec(t.Context(), "select 1")
		require.NoError(t, err)
	}
	assert.Len(t, lines(backMessage), 2, "a short lease after a long one is no news")
}

// leaky is logged with a limit of an hour. overdue makes a lease older than that, and looks.
func leaky(t *testing.T) (db *pgfx.DB, lines func(message string) []observer.LoggedEntry, overdue func(*pgxpool.Conn)) {
	t.Helper()
	cfg := serverConfig()
	cfg.Stats.LongLease = time.Hour
	core, logs := observer.New(zapcore.DebugLevel)
	db = open(t, cfg, pgfx.WithLogger(zap.New(core)))
	db.Age(100 * time.Hour)
	require.NoError(t, db.Start(within(t, eventually)))
	lines = func(message string) []observer.LoggedEntry { return logs.FilterMessage(message).All() }
	return db, lines, func(conn *pgxpool.Conn) {
		db.AgeLease(conn.Conn(), time.Hour)
		db.LookForLeaks()
	}
}

func TestALeaseThatBeganWhileTheTimerRanIsReportedToo(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MinConns = 2 // open before the test takes them
	cfg.Stats.LongLease = 400 * time.Millisecond
	db, lines := logged(t, cfg)
	first, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer first.Release()
	half := time.NewTimer(200 * time.Millisecond)
	<-half.C
	second, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer second.Release()
	require.Eventually(t, func() bool { return reported(lines, first) && reported(lines, second) }, patience, time.Millisecond)
}

// reported reports whether a line tells of a connection that is held for long.
func reported(lines func(message string) []observer.LoggedEntry, conn *pgxpool.Conn) bool {
	return slices.ContainsFunc(lines(heldMessage), func(line observer.LoggedEntry) bool {
		return line.ContextMap()["pid"] == conn.Conn().PgConn().PID()
	})
}

func TestNoTimerRunsWhileNothingIsHeld(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.LongLease = 20 * time.Millisecond
	db, lines := logged(t, cfg)
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !db.LeakTimerArmed() }, patience, time.Millisecond)
	before := len(lines(heldMessage)) // none, unless the machine took so long for the statement
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(lines(heldMessage)) == before+1 }, patience, time.Millisecond)
	assert.False(t, db.LeakTimerArmed(), "what was reported needs no timer")
	held.Release()
}

func TestAShortLeaseArmsTheTimerAndIsNotReported(t *testing.T) {
	t.Parallel()
	db, lines, _ := leaky(t)
	require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
		assert.True(t, db.LeakTimerArmed())
		return nil
	}))
	db.LookForLeaks()
	assert.Empty(t, lines(heldMessage))
	assert.Empty(t, lines(backMessage))
	assert.False(t, db.LeakTimerArmed())
}

func TestCloseStopsTheLeakTimer(t *testing.T) {
	t.Parallel()
	db, lines, overdue := leaky(t)
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	assert.True(t, db.LeakTimerArmed())
	var stillHeld *pgfx.CloseTimeoutError
	require.ErrorAs(t, db.Close(within(t, 5*time.Millisecond)), &stillHeld)
	assert.False(t, db.LeakTimerStops(), "it has been stopped")
	db.LookForLeaks() // as if it had been under way
	assert.False(t, db.LeakTimerArmed(), "nothing is armed afterwards")
	assert.Empty(t, lines(heldMessage))
	overdue(held)
	assert.False(t, db.LeakTimerArmed())
	held.Release()
}

func TestLeaksCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.LongLease = pgfx.Off
	db, _ := logged(t, cfg)
	require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
		assert.False(t, db.LeakTimerArmed())
		assert.Len(t, db.Leases(), 1)
		return nil
	}))
}

func TestALeaseWithoutAStackMakesTheNextOnesTakeTheirs(t *testing.T) {
	t.Parallel()
	db, lines, overdue := leaky(t)
	stackOf := func() int {
		var depth int
		require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
			depth = len(db.Leases()[0].Stack)
			return nil
		}))
		return depth
	}
	assert.Positive(t, stackOf(), "the pool is hardly in use, and so are its connections")
	db.SpendStacks()
	assert.Zero(t, stackOf(), "stacks were taken too often")
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	overdue(held)
	require.Len(t, lines(heldMessage), 1)
	held.Release()
	assert.NotContains(t, lines(heldMessage)[0].ContextMap(), "stack")
	assert.Positive(t, stackOf())
}

func TestAHalfUsedPoolTakesEveryStack(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 4, MinConns: 4, AcquireTimeout: 50 * time.Millisecond}
	db := started(t, cfg)
	db.SpendStacks()
	var conns []*pgxpool.Conn
	for range 4 {
		conn, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	leases := db.Leases()
	require.Len(t, leases, 4)
	for _, lease := range leases { // those that began in the same microseconds come in any order
		first := lease.PID == conns[0].Conn().PgConn().PID()
		assert.Equal(t, first, len(lease.Stack) == 0, "from the second of four on")
	}
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrAcquireTimeout)
	for _, conn := range conns {
		conn.Release()
	}
	require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error {
		assert.NotEmpty(t, db.Leases()[0].Stack, "after a timeout that couldn't name a holder")
		return nil
	}))
}
