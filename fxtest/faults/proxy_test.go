package faults_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
)

// dialLoggedIn logs in and returns the network connection. No other goroutine reads from it.
func dialLoggedIn(t *testing.T, address string) net.Conn {
	t.Helper()
	config, err := pgconn.ParseConfig(address)
	require.NoError(t, err)
	var dialed *detachableConn
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		dialed = &detachableConn{Conn: conn}
		return dialed, err
	}
	_, err = pgconn.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialed.Conn.Close() })
	return dialed.detach(t)
}

// detachableConn is used by pgx for the login. After a slow write, pgx keeps reading in the background, so reads by pgx must
// fail once the connection is detached.
type detachableConn struct {
	net.Conn

	reading  sync.Mutex
	detached bool
}

func (c *detachableConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.detached {
		return 0, net.ErrClosed
	}
	return c.Conn.Read(b)
}

func (c *detachableConn) detach(t *testing.T) net.Conn {
	t.Helper()
	require.NoError(t, c.Conn.SetReadDeadline(time.Unix(1, 0))) // ends a read in progress
	c.reading.Lock()
	defer c.reading.Unlock()
	c.detached = true
	require.NoError(t, c.Conn.SetDeadline(time.Now().Add(timeout)))
	return c.Conn
}

func TestProxy_ForwardsEverything(t *testing.T) {
	t.Parallel()
	proxy, _ := setup(t)
	conn := connect(t, proxy.URL())

	const size = 3 << 20
	assert.Len(t, query[string](t, conn, "select repeat('x', 3 << 20)"), size)
	var got int
	require.NoError(t, conn.QueryRow(t.Context(), "select length($1)", strings.Repeat("y", size)).Scan(&got))
	assert.Equal(t, size, got)

	const rows = 5000
	copied, err := conn.CopyFrom(t.Context(), pgx.Identifier{"entries"}, []string{"n"},
		pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i}, nil }))
	require.NoError(t, err)
	assert.EqualValues(t, rows, copied)
	found, err := conn.Query(t.Context(), "select n from entries order by n")
	require.NoError(t, err)
	numbers, err := pgx.CollectRows(found, pgx.RowTo[int])
	require.NoError(t, err)
	assert.Len(t, numbers, rows)
}

func TestProxy_CountsConnections(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	assert.Zero(t, proxy.Connections())
	first, second := connect(t, proxy.URL()), connect(t, proxy.URL())
	require.NoError(t, proxy.AwaitConnections(t.Context(), 2))
	assert.Equal(t, 2, proxy.Accepted())

	require.NoError(t, first.Close(t.Context()))
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1))
	execute(t, direct, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
	err := ping(t, second, timeout)
	require.ErrorContains(t, err, "57P01", "the server's error is forwarded")
	require.NoError(t, proxy.AwaitConnections(t.Context(), 0))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = proxy.AwaitConnections(ctx, 7)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "faults: proxy: 0 connections open, want 7: context canceled")
	require.EqualError(t, proxy.AwaitAccepted(ctx, 7), "faults: proxy: 2 connections accepted, want 7: context canceled")
}

func TestProxy_ForwardsEndOfConnection(t *testing.T) {
	t.Parallel()
	proxy, direct := setup(t)
	terminated, closing := dialLoggedIn(t, proxy.URL()), dialLoggedIn(t, proxy.URL())

	require.NoError(t, closing.(*net.TCPConn).CloseWrite())
	last, err := io.ReadAll(closing)
	require.NoError(t, err, "the server closes its side")
	assert.Empty(t, last)
	execute(t, direct, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
	last, err = io.ReadAll(terminated)
	require.NoError(t, err)
	assert.Contains(t, string(last), "57P01")
}

func TestProxy_ResetsWithoutUpstream(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable")
	_, err := tryConnect(t, proxy.URL())
	require.Error(t, err)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, proxy.AwaitConnections(t.Context(), 0))
}

func TestProxy_KeepsRestOfURL(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, "postgres://me:se%20cret@/data%2Fbase?host=/run/postgresql&port=5433&sslmode=disable&application_name=a%20b%2Bc")
	u, err := url.Parse(proxy.URL())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", u.Hostname())
	config, err := pgconn.ParseConfig(proxy.URL())
	require.NoError(t, err)
	assert.Equal(t, []string{"127.0.0.1", "me", "se cret", "data/base", "a b+c"},
		[]string{config.Host, config.User, config.Password, config.Database, config.RuntimeParams["application_name"]})
	assert.NotContains(t, proxy.URL(), "5433")

	for _, address := range []string{"host=localhost user=me password=secret", "postgres://me:secret@host:port"} {
		messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewProxy(tb, address) })
		require.Len(t, messages, 1)
		assert.NotContains(t, messages[0], "secret")
	}
}

// TestTCPProxy_ForwardsAnyProtocol sends bytes that would be incomplete messages of PostgreSQL's protocol.
func TestTCPProxy_ForwardsAnyProtocol(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var echo sync.WaitGroup
	echo.Go(func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		echo.Wait()
	})
	proxy := faults.NewTCPProxy(t, "tcp", listener.Addr().String())
	assert.Empty(t, proxy.URL())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", proxy.Address())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	for _, part := range []string{"\x00", "C", "Z\x00\x00\x00"} {
		_, err = io.WriteString(conn, part)
		require.NoError(t, err)
		reply := make([]byte, len(part))
		_, err = io.ReadFull(conn, reply)
		require.NoError(t, err)
		assert.Equal(t, part, string(reply))
	}
	proxy.ResetConnections()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}
