package faults_test

import (
	"context"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
)

func TestProxy_ResetsExistingConnections(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	raw := dialLoggedIn(t, proxy.URL())
	busy := connect(t, proxy.URL())
	failed := make(chan error, 1)
	go func() {
		_, err := busy.Exec(t.Context(), "select pg_sleep(600)")
		failed <- err
	}()

	const others = " from pg_stat_activity where query like '%sleep%' and pid <> pg_backend_pid() and datname = current_database()"
	require.Eventually(t, func() bool { return query[int](t, direct, "select count(*)"+others) == 1 }, timeout, time.Millisecond)

	proxy.ResetConnections()
	assert.Zero(t, proxy.Connections())
	_, err := raw.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Error(t, <-failed)
	execute(t, connect(t, proxy.URL()), "select 1")
	// Without this, the backend notices the reset only when it sends its reply.
	_ = query[int](t, direct, "select count(pg_terminate_backend(pid))"+others)
}

func TestProxy_BlackHoleAffectsExistingConnections(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	closing, waiting := connect(t, proxy.URL()), connect(t, proxy.URL())
	proxy.BlackHole()

	require.ErrorIs(t, ping(t, closing, quiet), context.DeadlineExceeded)
	require.NoError(t, closing.PgConn().Conn().Close()) // Close of pgx would wait for the server
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1), "the proxy notices that the client has closed")
	reply := make(chan error, 1)
	go func() {
		_, err := waiting.Exec(t.Context(), "insert into entries values (1)")
		reply <- err
	}()
	later := connect(t, proxy.URL())
	assert.Zero(t, countEntries(t, later))
	select {
	case err := <-reply:
		require.Fail(t, "the black hole forwarded a reply", "%v", err)
	default:
	}

	proxy.Heal()
	require.NoError(t, <-reply, "delayed data is delivered")
	assert.Equal(t, 1, countEntries(t, later))
}

func TestProxy_BlackHoleAllAffectsNewConnections(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())
	proxy.BlackHoleAll()

	ctx, expire := testctx.Expiring(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := pgx.Connect(ctx, proxy.URL())
		result <- err
	}()
	require.NoError(t, proxy.AwaitAccepted(t.Context(), 2))
	expire()
	require.ErrorIs(t, <-result, context.DeadlineExceeded)
	require.ErrorIs(t, ping(t, conn, quiet), context.DeadlineExceeded)

	delayed := make(chan error, 1)
	go func() {
		conn, err := pgconn.Connect(t.Context(), proxy.URL())
		if err == nil {
			err = conn.Close(t.Context())
		}
		delayed <- err
	}()
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1), "the other clients have given up")
	proxy.Heal()
	require.NoError(t, <-delayed)
}

func TestProxy_SlowAddsLatencyAndLimitsBandwidth(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())
	elapsed := func(sql string) time.Duration {
		start := time.Now()
		_ = query[string](t, conn, sql)
		return time.Since(start)
	}

	const latency = 30 * time.Millisecond
	proxy.Slow(latency, 0)
	assert.GreaterOrEqual(t, elapsed("select 'round trip'"), 2*latency)

	proxy.Slow(0, 200_000)
	assert.GreaterOrEqual(t, elapsed("select repeat('x', 40000)"), 150*time.Millisecond, "40 kB at 200 kB/s, the last chunk without a wait")

	proxy.Slow(time.Hour, 0)
	reply := make(chan error, 1)
	go func() { reply <- ping(t, conn, timeout) }()
	require.ErrorIs(t, ping(t, connectWithoutLatency(t, proxy), quiet), context.DeadlineExceeded)
	proxy.Heal()
	require.NoError(t, <-reply, "Heal ends the latency")
}

// connectWithoutLatency connects without latency and then sets it to an hour again.
func connectWithoutLatency(t *testing.T, proxy *faults.Proxy) *pgx.Conn {
	t.Helper()
	proxy.Slow(0, 0)
	conn := connect(t, proxy.URL())
	proxy.Slow(time.Hour, 0)
	return conn
}

func TestProxy_ResetAfterForwardsExactBytes(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	for _, n := range []int{0, 1, 5, 100, 40_000} {
		raw := dialLoggedIn(t, proxy.URL())
		proxy.ResetAfter(faults.ToClient, n)
		_, err := raw.Write(queryMessage(t, "select repeat('x', 50000)"))
		require.NoError(t, err)
		got, err := io.ReadAll(raw)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		assert.Len(t, got, n)
		proxy.Heal()
	}
}

func TestProxy_ResetAfterAnyByteOfStatement(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	message := queryMessage(t, "insert into entries values (1)")
	for n := range message {
		raw := dialLoggedIn(t, proxy.URL())
		proxy.ResetAfter(faults.ToServer, n)
		_, err := raw.Write(message)
		require.NoError(t, err)
		_, err = io.ReadAll(raw)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		proxy.Heal()
	}
	assert.Zero(t, countEntries(t, direct), "no complete statement was forwarded")

	raw := dialLoggedIn(t, proxy.URL())
	proxy.ResetAfter(faults.ToServer, len(message))
	_, err := raw.Write(message)
	require.NoError(t, err)
	_, err = io.ReadAll(raw)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Eventually(t, func() bool { return countEntries(t, direct) == 1 }, timeout, time.Millisecond)
}

func TestProxy_ResetAfterCountsLogin(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	proxy.ResetAfter(faults.ToServer, 10)
	for range 2 {
		_, err := tryConnect(t, proxy.URL())
		require.Error(t, err)
	}
	proxy.Heal()
	execute(t, connect(t, proxy.URL()), "select 1")
}

func TestProxy_RefusesNewConnectionsUntilHeal(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())
	proxy.RefuseNew()
	proxy.RefuseNew()
	_, err := tryConnect(t, proxy.URL())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	execute(t, conn, "select 1")
	proxy.Heal()
	proxy.Heal()
	execute(t, connect(t, proxy.URL()), "select 1")
}

func TestProxy_AcceptThenReset(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())
	proxy.AcceptThenReset(faults.OnAccept)
	_, err := tryConnect(t, proxy.URL())
	require.Error(t, err)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED)
	assert.Equal(t, 2, proxy.Accepted())

	proxy.AcceptThenReset(faults.AfterLogin)
	loggedIn, err := tryConnect(t, proxy.URL())
	require.NoError(t, err)
	require.Error(t, ping(t, loggedIn, timeout))
	require.NotErrorIs(t, ping(t, loggedIn, timeout), context.DeadlineExceeded)
	execute(t, conn, "select 1")
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1))
}

func TestProxy_FaultsChangeDuringTraffic(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, fault := range []func(){
			proxy.ResetConnections, proxy.BlackHole, func() { proxy.Slow(time.Millisecond, 1<<20) }, proxy.Heal,
			proxy.RefuseNew, proxy.ResetConnections,
			func() { proxy.ResetAfter(faults.ToClient, 300) }, proxy.BlackHoleAll, proxy.Heal, proxy.DropCommitAck, proxy.DropCommit,
			func() { proxy.AcceptThenReset(faults.AfterLogin) }, proxy.ResetConnections, proxy.Heal,
		} {
			fault()
			_ = proxy.AwaitAccepted(ctx, proxy.Accepted()) // yield to the clients
			if err := ping(t, direct, timeout); err != nil {
				return
			}
		}
	}()
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				attempt, cancel := context.WithTimeout(ctx, quiet)
				if conn, err := pgconn.Connect(attempt, proxy.URL()); err == nil {
					_, _ = conn.Exec(attempt, "select repeat('x', 1000)").ReadAll()
					_ = conn.Close(attempt)
				}
				cancel()
			}
		})
	}
	<-done
	cancel()
	clients.Wait()
	proxy.Heal()
	conn := connect(t, proxy.URL())
	assert.Equal(t, "ok", query[string](t, conn, "select 'ok'"))
}

// TestProxy_RefusesConnectionsThatAreNotHandledYet accepts a connection before RefuseNew and handles it after ResetConnections.
func TestProxy_RefusesConnectionsThatAreNotHandledYet(t *testing.T) {
	t.Parallel()
	upstream, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // it accepts, and keeps the connections
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, upstream.Close()) })
	proxy := faults.NewTCPProxy(t, "tcp", upstream.Addr().String())
	handle := faults.AcceptLate(proxy)
	proxy.RefuseNew()
	proxy.ResetConnections()
	client, accepted := net.Pipe()
	handle(accepted)
	require.Zero(t, proxy.Connections())
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}
