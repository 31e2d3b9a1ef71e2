package pgfx_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// countDials counts the dials of all connections, those of cancel requests included.
func countDials(dials *atomic.Int64) pgfx.Option {
	return pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		dial := cc.DialFunc
		cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, address)
		}
		return nil
	})
}

func TestSocket_DialsAnAddressOncePerAttempt(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	db := open(t, pgfx.Config{URL: "postgres://user@127.0.0.1:1,127.0.0.1:2/db?sslmode=prefer"}, countDials(&dials))
	for attempt := range int64(3) {
		_, err := db.Connect(t.Context(), "test")
		require.ErrorContains(t, err, "127.0.0.1:2")
		assert.Equal(t, 2*(attempt+1), dials.Load(), "without TLS the address does not accept connections either")
	}
}

// pgx sends a cancel request when it closes a connection on which a statement was running.
func TestSocket_LostConnectionsCauseNoCancelRequests(t *testing.T) {
	t.Parallel()
	const conns = 5
	admin := started(t, serverConfig())
	for name, lose := range map[string]func(*faults.Proxy, []uint32){
		"reset": func(p *faults.Proxy, _ []uint32) { p.ResetConnections() },
		"terminated by the server": func(_ *faults.Proxy, pids []uint32) {
			_, err := admin.Pool().Exec(context.Background(), "select pg_terminate_backend(unnest($1::int[]))", pids)
			assert.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := faults.NewProxy(t, server.URL())
			var dials atomic.Int64
			db := started(t, pgfx.Config{URL: proxy.URL(), Pool: pgfx.PoolConfig{MaxConns: conns}}, countDials(&dials))
			var group sync.WaitGroup
			var pids []uint32
			var held []*pgxpool.Conn
			for range conns {
				conn, err := db.Pool().Acquire(t.Context())
				require.NoError(t, err)
				pids, held = append(pids, conn.Conn().PgConn().PID()), append(held, conn)
			}
			for _, conn := range held {
				group.Go(func() {
					_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
					assert.Error(t, err) //nolint:testifylint // not in the test's goroutine
					<-conn.Conn().PgConn().CleanupDone()
				})
				waitForSleep(t, admin, "pid = $1", conn.Conn().PgConn().PID())
			}
			before := dials.Load()
			lose(proxy, pids)
			group.Wait()
			assert.Equal(t, before, dials.Load())
			for _, conn := range held {
				conn.Release()
			}
			_, limit, _ := db.DialPacer().Counts()
			assert.Equal(t, 1, limit, "the next attempt to connect is a trial")
		})
	}
}

// Connections that the application opens with a copy of a configuration share its functions.
func TestSocket_CopiesOfAConfigurationDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, server.URL())
	cfg := pgfx.Config{URL: proxy.URL()}
	cfg.Timeouts.Cancel = eventually
	db := started(t, cfg)
	pooled, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	cc := pooled.Conn().Config()
	pooled.Release()
	connect := func() *pgx.Conn {
		conn, err := pgx.ConnectConfig(within(t, eventually), cc.Copy())
		assert.NoError(t, err)
		return conn
	}

	const copies = 8
	conns := make([]*pgx.Conn, copies)
	var group sync.WaitGroup
	for i := range conns {
		group.Go(func() { conns[i] = connect() })
	}
	group.Wait()
	accepted := proxy.Accepted()
	for _, conn := range conns {
		require.NotNil(t, conn)
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := conn.WaitForNotification(short)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, conn.Ping(t.Context()))
	}
	assert.Equal(t, accepted, proxy.Accepted(), "the server was idle: no cancel request was sent")

	ctx, cancel := context.WithCancel(t.Context())
	outcome := make(chan error, 1)
	go func() {
		_, err := conns[0].Exec(ctx, "select pg_sleep(60)")
		outcome <- err
	}()
	waitForSleep(t, started(t, serverConfig()), "pid = $1", conns[0].PgConn().PID())
	proxy.BlackHole() // the connections that exist, so the end of the statement is lost
	cancel()
	require.NoError(t, proxy.AwaitAccepted(within(t, eventually), accepted+1), "the cancel request of the one connection")
	another := connect()
	require.NotNil(t, another, "while that connection waits for the end of its statement")
	closeAtEnd(t, another)
	proxy.ResetConnections()
	require.Error(t, <-outcome)
	for _, conn := range conns {
		_ = conn.Close(t.Context())
	}
	cc.Host, cc.Port, cc.Fallbacks = "127.0.0.1", 1, nil
	_, err = pgx.ConnectConfig(t.Context(), cc)
	require.Error(t, err)
	dialing, limit, waiting := db.DialPacer().Counts()
	assert.Zero(t, dialing+waiting, "the pool does not count connections that it has not opened")
	assert.Equal(t, int(db.Pool().Stat().MaxConns()), limit)
}
