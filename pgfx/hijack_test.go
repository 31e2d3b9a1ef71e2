package pgfx_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// closeAtEnd closes a connection at the end of the test.
func closeAtEnd(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
}

func TestHijack_ConnectionLeavesEveryAccount(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 4
	db := started(t, cfg)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	assert.Len(t, db.Leases(), 2)
	hijacked := conn.Hijack()
	closeAtEnd(t, hijacked)
	assert.Len(t, db.Leases(), 2, "pgxpool does not report which of the two was hijacked")
	held.Release()
	assert.Empty(t, db.Leases(), "the lease that has not ended is the one of the hijacked connection")

	base := db.Stats()
	_, err = hijacked.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	_, err = hijacked.Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	_, err = hijacked.Prepare(t.Context(), "own", "select 2")
	require.NoError(t, err)
	s := db.Stats()
	assert.Equal(t, base.Statements.Count, s.Statements.Count)
	assert.Equal(t, base.Statements.Errors, s.Statements.Errors)
	assert.Equal(t, base.Prepare.Count, s.Prepare.Count)
	assert.Equal(t, 1, s.Pool.Open)
}

func TestHijack_ClosedConnectionThatIsHeldStaysALease(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Conn().Close(t.Context()))
	<-conn.Conn().PgConn().CleanupDone()
	assert.Len(t, db.Leases(), 1, "it occupies its slot in the pool until it is released")
	conn.Release()
	assert.Empty(t, db.Leases())
}

func TestHijack_CloseLeavesTheConnectionAlone(t *testing.T) {
	t.Parallel()
	for name, stats := range map[string]pgfx.StatsConfig{"statistics": {}, "no statistics": {Disabled: true}} {
		cfg := serverConfig()
		cfg.Stats = stats
		db := started(t, cfg)
		conn, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		hijacked := conn.Hijack()
		closeAtEnd(t, hijacked)
		db.Leases()
		held, err := db.Pool().Acquire(t.Context())
		require.NoError(t, err)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		err = db.Close(ended)
		var timeout *pgfx.CloseTimeoutError
		require.ErrorAs(t, err, &timeout, name)
		assert.Len(t, timeout.Leases, map[bool]int{false: 1}[stats.Disabled], name)
		require.Error(t, held.Ping(t.Context()), "%s: the connection that is held is cut", name)
		held.Release()
		require.NoError(t, hijacked.Ping(t.Context()), name)
	}
}

func TestHijack_StatementIsCancelledAfterClose(t *testing.T) {
	t.Parallel()
	db, proxy := proxied(t, pgfx.PoolConfig{MaxConns: 1})
	admin := started(t, serverConfig())
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	hijacked := conn.Hijack()
	closeAtEnd(t, hijacked)
	require.NoError(t, db.Close(t.Context()))
	accepted := proxy.Accepted()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	outcome := make(chan error, 1)
	go func() {
		_, err := hijacked.Exec(ctx, "select pg_sleep(60)")
		outcome <- err
	}()
	waitForSleep(t, admin, "pid = $1", hijacked.PgConn().PID())
	cancel()
	require.Error(t, <-outcome)
	require.NoError(t, proxy.AwaitAccepted(within(t, eventually), accepted+1), "a cancel request")
}

// In this test workers do at random what a pool allows. The DB's accounts must agree with the pool's whenever nothing runs.
func TestHijack_AccountsAgreeWithThePool(t *testing.T) {
	t.Parallel()
	const workers, rounds, operations = 6, 4, 20
	for name, pool := range map[string]pgfx.PoolConfig{
		"regular": {MaxConns: 4}, "overflow": {MaxConns: 2, MaxOverflow: 4}, "minimum": {MaxConns: 6, MinConns: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := serverConfig()
			cfg.Pool = pool
			db := started(t, cfg)
			for range rounds {
				var group sync.WaitGroup
				for range workers {
					group.Go(func() {
						for range operations {
							assert.NoError(t, useAtRandom(context.Background(), db))
						}
					})
				}
				group.Wait()
				require.Eventually(t, func() bool { return db.Pool().Stat().AcquiredConns() == 0 }, eventually, tick, "some are being closed")
				assert.Empty(t, db.Leases(), "hijacked connections have no lease")

				conns := db.Pool().AcquireAllIdle(t.Context())
				stat := db.Pool().Stat()
				assert.Len(t, db.Leases(), int(stat.AcquiredConns()))
				assert.LessOrEqual(t, int(stat.TotalConns()), pool.MaxConns+pool.MaxOverflow)
				for _, conn := range conns {
					conn.Release()
				}
				assert.Equal(t, int(db.Pool().Stat().TotalConns()), db.Stats().Pool.Open)
			}
		})
	}
}

// useAtRandom does one of the operations of a pool.
func useAtRandom(ctx context.Context, db *pgfx.DB) error {
	switch rand.IntN(12) {
	case 0:
		conn, err := db.Pool().Acquire(ctx)
		if err != nil {
			return err
		}
		return conn.Hijack().Close(ctx)
	case 1:
		return db.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error { return conn.Close(ctx) })
	case 2:
		db.Reset()
	case 3:
		for _, conn := range db.Pool().AcquireAllIdle(ctx) {
			conn.Release()
		}
	case 4:
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := db.Pool().Acquire(ended); !errors.Is(err, context.Canceled) {
			return errors.New("acquired with a cancelled ctx")
		}
	case 5:
		_, _ = db.Pool().Exec(ctx, "select 1/0")
	case 6:
		return pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select 1")
			return err
		})
	default:
		_, err := db.Pool().Exec(ctx, "select 1")
		return err
	}
	return nil
}

// Plain pgxpool opens one connection for each that was hijacked, and at most its size besides.
func TestHijack_OpensNoMoreConnectionsThanPgxpool(t *testing.T) {
	t.Parallel()
	const size, workers, statements = 4, 8, 50
	for name, overflow := range map[string]int{"regular": 0, "overflow": 1} {
		cfg := serverConfig()
		cfg.Pool = pgfx.PoolConfig{MaxConns: size - overflow, MaxOverflow: overflow}
		db := started(t, cfg)
		for range size {
			conn, err := db.Pool().Acquire(t.Context())
			require.NoError(t, err)
			closeAtEnd(t, conn.Hijack())
		}
		before := db.Pool().Stat().NewConnsCount()
		var group sync.WaitGroup
		for range workers {
			group.Go(func() {
				for range statements {
					_, err := db.Pool().Exec(context.Background(), "select 1")
					assert.NoError(t, err)
				}
			})
		}
		group.Wait()
		opened := db.Pool().Stat().NewConnsCount() - before
		if overflow == 0 {
			assert.LessOrEqual(t, opened, int64(size), name)
		}
		assert.Positive(t, db.Stats().Pool.Idle, name)
	}
}
