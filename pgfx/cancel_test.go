package pgfx_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// proxied starts a DB behind a proxy.
func proxied(t *testing.T, pool pgfx.PoolConfig) (*pgfx.DB, *faults.Proxy) {
	t.Helper()
	proxy := faults.NewProxy(t, server.URL())
	return started(t, pgfx.Config{URL: proxy.URL(), Pool: pool}), proxy
}

func TestCancel_WaitForNotificationEndsWithItsContext(t *testing.T) {
	t.Parallel()
	db, proxy := proxied(t, pgfx.PoolConfig{MaxConns: 2})
	pooled, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer pooled.Release()
	hijacking, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	hijacked := hijacking.Hijack()
	closeAtEnd(t, hijacked)
	session, err := db.Session(t.Context(), "listener")
	require.NoError(t, err)
	closeAtEnd(t, session)

	for name, conn := range map[string]*pgx.Conn{"pool": pooled.Conn(), "hijacked": hijacked, "session": session} {
		_, err := conn.Exec(t.Context(), "listen cancelled")
		require.NoError(t, err, name)
		accepted, pid := proxy.Accepted(), conn.PgConn().PID()
		for range 3 {
			short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err = conn.WaitForNotification(short)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
		}
		assert.Equal(t, accepted, proxy.Accepted(), "%s: no cancel request was sent", name)
		_, err = conn.Exec(t.Context(), "notify cancelled")
		require.NoError(t, err, name)
		notification, err := conn.WaitForNotification(within(t, eventually))
		require.NoError(t, err, name)
		assert.Equal(t, pid, notification.PID, "%s: the connection is still usable", name)
		_, err = conn.Exec(t.Context(), "unlisten *")
		require.NoError(t, err, name)
	}
}

func TestCancel_StatementEndsAndConnectionStays(t *testing.T) {
	t.Parallel()
	db, proxy := proxied(t, pgfx.PoolConfig{MaxConns: 1})
	admin := started(t, serverConfig())
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	accepted, pid := proxy.Accepted(), conn.Conn().PgConn().PID()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	outcome := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "select pg_sleep(60)")
		outcome <- err
	}()
	waitForSleep(t, admin, "pid = $1", pid)
	cancel()
	var pgErr *pgconn.PgError
	err = <-outcome
	require.Error(t, err)
	if !conn.Conn().IsClosed() { // a slow machine may take longer than the limit
		require.ErrorAs(t, err, &pgErr)
		assert.Equal(t, "57014", pgErr.Code)
		require.NoError(t, conn.Ping(t.Context()))
	}
	assert.Equal(t, accepted+1, proxy.Accepted(), "one cancel request")
}

// A server that does not respond costs its callers a moment beyond their deadline, and one cancel request each.
func TestCancel_GivesTheConnectionUpWithoutAResponse(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]func(ctx context.Context, conn *pgx.Conn) error{
		"ping": func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) },
		"prepare": func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Prepare(ctx, "a", "select 1")
			return err
		},
		"exec": func(ctx context.Context, conn *pgx.Conn) error { _, err := conn.Exec(ctx, "select 1"); return err },
		"query": func(ctx context.Context, conn *pgx.Conn) error {
			var n int
			return conn.QueryRow(ctx, "select $1::int", 1).Scan(&n)
		},
		"copy": func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.CopyFrom(ctx, pgx.Identifier{"pg_class"}, []string{"oid"}, pgx.CopyFromRows([][]any{{uint32(1)}}))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, proxy := proxied(t, pgfx.PoolConfig{MaxConns: 1})
			conn, err := db.Pool().Acquire(t.Context())
			require.NoError(t, err)
			proxy.BlackHoleAll()
			accepted := proxy.Accepted()
			require.ErrorIs(t, statement(within(t, time.Millisecond), conn.Conn()), context.DeadlineExceeded)
			assert.True(t, conn.Conn().IsClosed())
			conn.Release()
			require.NoError(t, proxy.AwaitAccepted(within(t, eventually), accepted+1))
			// pgx itself would wait for 15 s.
			require.Eventually(t, func() bool { return db.Pool().Stat().TotalConns() == 0 }, eventually, tick, "its slot is free")
			assert.Equal(t, accepted+1, proxy.Accepted(), "one cancel request")
			proxy.Heal()
			_, err = db.Pool().Exec(within(t, eventually), "select 1")
			require.NoError(t, err)
		})
	}
}

// The server may process a cancel request after the statement has ended by itself. The request must not hit the next one.
func TestCancel_NeverHitsTheNextStatement(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 4
	db := started(t, cfg)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				short, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(2000))*time.Microsecond)
				_, _ = db.Pool().Exec(short, "select pg_sleep(0.001)")
				cancel()
				_, err := db.Pool().Exec(context.Background(), "select 1")
				assert.NoError(t, err)
			}
		})
	}
	group.Wait()
}

// Applications open further connections with the configuration of one that they have.
func TestCancel_CopiedConfigurationOpensConnections(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	admin := started(t, serverConfig())
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	cc := conn.Conn().Config()
	conn.Release()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			own, err := pgx.ConnectConfig(ctx, cc.Copy())
			if !assert.NoError(t, err) { //nolint:testifylint // not in the test's goroutine
				return
			}
			outcome := make(chan error, 1)
			go func() {
				_, err := own.Exec(ctx, "select pg_sleep(60)")
				outcome <- err
			}()
			waitForSleep(t, admin, "pid = $1", own.PgConn().PID())
			cancel()
			assert.Error(t, <-outcome) //nolint:testifylint // not in the test's goroutine
			assert.NoError(t, own.Close(context.Background()))
		})
	}
	group.Wait()
}

func TestClose_CutsConnectionsWithoutAResponse(t *testing.T) {
	t.Parallel()
	db, proxy := proxied(t, pgfx.PoolConfig{MaxConns: 1})
	proxy.BlackHoleAll()
	_, err := db.Pool().Exec(within(t, time.Millisecond), "select 1")
	require.Error(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err = db.Close(ended)
	var timeout *pgfx.CloseTimeoutError
	if err != nil { // else it was fast
		require.ErrorAs(t, err, &timeout)
		assert.Empty(t, timeout.Leases)
		assert.Equal(t, 1, timeout.Closing)
		require.EqualError(t, err, "pgfx: close: timed out waiting for released connections to end (1); the server does not respond")
	}
	require.NoError(t, db.Close(within(t, eventually)), "pgx itself would wait for 15 s")
}
