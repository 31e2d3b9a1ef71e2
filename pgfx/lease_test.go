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
	heldMessage     = "connection has been held for a long time; check that it is released on every path"
	releasedMessage = "long-held connection was released"
)

// startedWithLog starts a DB. The returned function returns what it has logged with a message.
func startedWithLog(t *testing.T, cfg pgfx.Config) (*pgfx.DB, func(message string) []observer.LoggedEntry) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	db := started(t, cfg, pgfx.WithLogger(zap.New(core)))
	return db, func(message string) []observer.LoggedEntry { return logs.FilterMessage(message).All() }
}

// pidOf returns the process ID of a connection's backend.
func pidOf(conn *pgxpool.Conn) uint32 { return conn.Conn().PgConn().PID() }

// linesAbout returns the lines about the connection with a PID.
func linesAbout(lines []observer.LoggedEntry, pid uint32) []observer.LoggedEntry {
	return slices.DeleteFunc(lines, func(line observer.LoggedEntry) bool { return line.ContextMap()["pid"] != pid })
}

func TestLease_LongHeldIsReportedOnceAndWhenItEnds(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	cfg := serverConfig()
	cfg.Pool.MinConns = 2 // open before the test acquires them
	cfg.Stats.LongLease = limit
	db, lines := startedWithLog(t, cfg)
	first, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = first.Exec(t.Context(), "select 'hunter2' as forgotten")
	require.NoError(t, err)
	half := time.NewTimer(limit / 2)
	<-half.C
	second, err := db.Pool().Acquire(t.Context()) // while the timer runs for the first
	require.NoError(t, err)
	firstPID, secondPID := pidOf(first), pidOf(second)
	for _, pid := range []uint32{firstPID, secondPID} {
		require.Eventually(t, func() bool { return len(linesAbout(lines(heldMessage), pid)) > 0 }, eventually, time.Millisecond)
	}
	require.Len(t, linesAbout(lines(heldMessage), firstPID), 1, "the first is not reported again")

	line := linesAbout(lines(heldMessage), firstPID)[0]
	assert.Equal(t, zapcore.WarnLevel, line.Level)
	fields := line.ContextMap()
	assert.GreaterOrEqual(t, fields["held"], limit)
	assert.Equal(t, "select ? as forgotten", fields["last_statement"])
	assert.Contains(t, fields["stack"].([]any)[0], "TestLease_LongHeldIsReportedOnce")
	assert.NotContains(t, linesAbout(lines(heldMessage), secondPID)[0].ContextMap(), "last_statement")

	assert.Empty(t, linesAbout(lines(releasedMessage), firstPID))
	first.Release()
	require.Len(t, linesAbout(lines(releasedMessage), firstPID), 1)
	released := linesAbout(lines(releasedMessage), firstPID)[0].ContextMap()
	assert.GreaterOrEqual(t, released["held"], fields["held"])
	second.Release()
	assert.GreaterOrEqual(t, db.Stats().Pool.LongHeld, int64(2))
}

func TestLease_ShortOnesAreNotReported(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.LongLease = time.Hour
	db, lines := startedWithLog(t, cfg)
	require.NoError(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error { return nil }))
	assert.Empty(t, lines(heldMessage))
	assert.Empty(t, lines(releasedMessage))
	assert.Zero(t, db.Stats().Pool.LongHeld)
}

func TestLease_IsNotReportedAfterClose(t *testing.T) {
	t.Parallel()
	const limit = 100 * time.Millisecond
	cfg := serverConfig()
	cfg.Stats.LongLease = limit
	db, lines := startedWithLog(t, cfg)
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	var timeout *pgfx.CloseTimeoutError
	require.ErrorAs(t, db.Close(within(t, time.Millisecond)), &timeout)
	before := len(lines(heldMessage)) // 0, unless the machine is very slow
	twice := time.NewTimer(2 * limit)
	<-twice.C
	assert.Len(t, lines(heldMessage), before)
	held.Release()
}

func TestLease_DetectionCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.LongLease = pgfx.Off
	db, lines := startedWithLog(t, cfg)
	require.NoError(t, db.AcquireFunc(t.Context(), func(_ context.Context, conn *pgx.Conn) error {
		assert.Len(t, db.Leases(), 1)
		db.Internals().LimitLease(conn, pgfx.NewLeaseLimit(0, zap.NewNop(), "", ""))
		return nil
	}))
	assert.Empty(t, lines(heldMessage))
}

func TestLease_LimitOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.LongLease = time.Hour
	db, lines := startedWithLog(t, cfg)
	limit := pgfx.NewLeaseLimit(10*time.Millisecond, db.Logger(), "exceeded", "ended")
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	db.Internals().LimitLease(held.Conn(), limit)
	require.Eventually(t, func() bool { return len(lines("exceeded")) == 1 }, eventually, time.Millisecond)
	assert.Empty(t, lines("ended"))
	held.Release()
	assert.Len(t, lines("ended"), 1)
	assert.EqualValues(t, 1, limit.Exceeded())
	assert.Empty(t, lines(heldMessage))

	held, err = db.Pool().Acquire(t.Context()) // the limit was that of one lease
	require.NoError(t, err)
	later := time.NewTimer(50 * time.Millisecond)
	<-later.C
	held.Release()
	assert.EqualValues(t, 1, limit.Exceeded())
}

func TestLease_StackIsMissingOnlyForVeryFrequentLeases(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg)
	hasStack := func() bool {
		conn, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		return len(db.Leases()[0].Stack) > 0
	}
	for range 20 {
		require.True(t, hasStack(), "a burst")
	}
	for range 10_000 { // more often than the limit allows
		conn, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		conn.Release()
	}
	require.Eventually(t, hasStack, eventually, 10*time.Millisecond)
}
