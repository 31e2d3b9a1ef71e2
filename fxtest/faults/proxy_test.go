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
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
)

// newProxy starts a proxy in front of a database of the test's own, with a table entries.
func newProxy(t *testing.T) (proxy *faults.Proxy, direct *pgx.Conn) {
	t.Helper()
	address := fxtest.URL(t)
	direct = connect(t, address)
	execute(t, direct, "create table entries (n int unique deferrable initially deferred)")
	return faults.NewProxy(t, address), direct
}

// wire logs in and returns the network connection, from which nobody else reads.
func wire(t *testing.T, address string) net.Conn {
	t.Helper()
	config, err := pgconn.ParseConfig(address)
	require.NoError(t, err)
	var dialed *lentConn
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		dialed = &lentConn{Conn: conn}
		return dialed, err
	}
	_, err = pgconn.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dialed.Conn.Close() })
	return dialed.giveBack(t)
}

// lentConn is lent to pgx for the login. A write that takes long makes pgx read in the background from then on: what it doesn't
// own any more, it must not read.
type lentConn struct {
	net.Conn

	reading sync.Mutex
	back    bool
}

func (c *lentConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.back {
		return 0, net.ErrClosed
	}
	return c.Conn.Read(b)
}

func (c *lentConn) giveBack(t *testing.T) net.Conn {
	t.Helper()
	require.NoError(t, c.Conn.SetReadDeadline(time.Unix(1, 0))) // ends a read that is under way
	c.reading.Lock()
	defer c.reading.Unlock()
	c.back = true
	require.NoError(t, c.Conn.SetDeadline(time.Now().Add(patience)))
	return c.Conn
}

func queryMessage(t *testing.T, sql string) []byte {
	t.Helper()
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	require.NoError(t, err)
	return message
}

func TestProxyPassesEverythingOn(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
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

func TestProxyCountsConnections(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	assert.Zero(t, proxy.Connections())
	first, second := connect(t, proxy.URL()), connect(t, proxy.URL())
	require.NoError(t, proxy.AwaitConnections(t.Context(), 2))
	assert.Equal(t, 2, proxy.Accepted())

	require.NoError(t, first.Close(t.Context()))
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1))
	execute(t, direct, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
	err := pingWithin(t, second, patience)
	require.ErrorContains(t, err, "57P01", "the server's last words pass")
	require.NoError(t, proxy.AwaitConnections(t.Context(), 0))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = proxy.AwaitConnections(ctx, 7)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "faults: proxy: 0 connections are open, not 7: context canceled")
	require.EqualError(t, proxy.AwaitAccepted(ctx, 7), "faults: proxy: 2 connections were accepted, not 7: context canceled")
}

func TestTheEndOfAConnectionPassesInBothDirections(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	ended, ending := wire(t, proxy.URL()), wire(t, proxy.URL())

	require.NoError(t, ending.(*net.TCPConn).CloseWrite())
	last, err := io.ReadAll(ending)
	require.NoError(t, err, "the server has noticed and has closed its end")
	assert.Empty(t, last)
	execute(t, direct, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
	last, err = io.ReadAll(ended)
	require.NoError(t, err)
	assert.Contains(t, string(last), "57P01")
}

func TestCutResetsTheConnectionsThatExist(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	raw := wire(t, proxy.URL())
	busy := connect(t, proxy.URL())
	failed := make(chan error, 1)
	go func() {
		_, err := busy.Exec(t.Context(), "select pg_sleep(600)")
		failed <- err
	}()

	const others = " from pg_stat_activity where query like '%sleep%' and pid <> pg_backend_pid() and datname = current_database()"
	require.Eventually(t, func() bool { return query[int](t, direct, "select count(*)"+others) == 1 }, patience, time.Millisecond)

	proxy.ResetConnections()
	assert.Zero(t, proxy.Connections())
	_, err := raw.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Error(t, <-failed)
	execute(t, connect(t, proxy.URL()), "select 1")
	// The backend notices when it has an answer, or when pgx gets its request to cancel through before the test ends.
	_ = query[int](t, direct, "select count(pg_terminate_backend(pid))"+others)
}

func TestBlackHoleSilencesOnlyTheConnectionsThatExist(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	lost, waiting := connect(t, proxy.URL()), connect(t, proxy.URL())
	proxy.BlackHole()

	require.ErrorIs(t, pingWithin(t, lost, impatience), context.DeadlineExceeded)
	require.NoError(t, lost.PgConn().Conn().Close()) // pgx itself waits for the server's end
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1), "the end of a silent connection is noticed")
	answer := make(chan error, 1)
	go func() {
		_, err := waiting.Exec(t.Context(), "insert into entries values (1)")
		answer <- err
	}()
	fresh := connect(t, proxy.URL())
	assert.Zero(t, query[int](t, fresh, "select count(*) from entries"))
	select {
	case err := <-answer:
		require.Fail(t, "an answer came through the black hole", "%v", err)
	default:
	}

	proxy.Heal()
	require.NoError(t, <-answer, "what was sent arrives late")
	assert.Equal(t, 1, query[int](t, fresh, "select count(*) from entries"))
}

func TestBlackHoleAllSilencesNewConnectionsToo(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	conn := connect(t, proxy.URL())
	proxy.BlackHoleAll()

	ctx, expire := testctx.Expiring(t.Context())
	outcome := make(chan error, 1)
	go func() {
		_, err := pgx.Connect(ctx, proxy.URL())
		outcome <- err
	}()
	require.NoError(t, proxy.AwaitAccepted(t.Context(), 2), "it was accepted")
	expire()
	require.ErrorIs(t, <-outcome, context.DeadlineExceeded)
	require.ErrorIs(t, pingWithin(t, conn, impatience), context.DeadlineExceeded)

	late := make(chan error, 1)
	go func() {
		late2, err := pgconn.Connect(t.Context(), proxy.URL())
		if err == nil {
			err = late2.Close(t.Context())
		}
		late <- err
	}()
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1), "only who still waits is connected")
	proxy.Heal()
	require.NoError(t, <-late)
}

func TestSlowDelaysAndLimits(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	conn := connect(t, proxy.URL())
	elapsed := func(sql string) time.Duration {
		began := time.Now()
		_ = query[string](t, conn, sql)
		return time.Since(began)
	}

	const latency = 30 * time.Millisecond
	proxy.Slow(latency, 0)
	assert.GreaterOrEqual(t, elapsed("select 'there and back'"), 2*latency)

	proxy.Slow(0, 200_000)
	assert.GreaterOrEqual(t, elapsed("select repeat('x', 40000)"), 150*time.Millisecond, "40 kB at 200 kB a second, the last piece at once")

	proxy.Slow(time.Hour, 0)
	answer := make(chan error, 1)
	go func() { answer <- pingWithin(t, conn, patience) }()
	require.ErrorIs(t, pingWithin(t, connectSlowly(t, proxy), impatience), context.DeadlineExceeded)
	proxy.Heal()
	require.NoError(t, <-answer, "an hour is over as soon as the network heals")
}

// connectSlowly connects before the network becomes slow again.
func connectSlowly(t *testing.T, proxy *faults.Proxy) *pgx.Conn {
	t.Helper()
	proxy.Slow(0, 0)
	conn := connect(t, proxy.URL())
	proxy.Slow(time.Hour, 0)
	return conn
}

func TestDropAfterLetsExactlyThatManyBytesReachTheClient(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	for _, n := range []int{0, 1, 5, 100, 40_000} {
		raw := wire(t, proxy.URL())
		proxy.ResetAfter(faults.ToClient, n)
		_, err := raw.Write(queryMessage(t, "select repeat('x', 50000)"))
		require.NoError(t, err)
		got, err := io.ReadAll(raw)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		assert.Len(t, got, n)
		proxy.Heal()
	}
}

func TestDropAfterCutsAStatementAtAnyByte(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	message := queryMessage(t, "insert into entries values (1)")
	for n := range message {
		raw := wire(t, proxy.URL())
		proxy.ResetAfter(faults.ToServer, n)
		_, err := raw.Write(message)
		require.NoError(t, err)
		_, err = io.ReadAll(raw)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		proxy.Heal()
	}
	assert.Zero(t, query[int](t, direct, "select count(*) from entries"), "no statement arrived whole")

	raw := wire(t, proxy.URL())
	proxy.ResetAfter(faults.ToServer, len(message))
	_, err := raw.Write(message)
	require.NoError(t, err)
	_, err = io.ReadAll(raw)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Eventually(t, func() bool { return query[int](t, direct, "select count(*) from entries") == 1 }, patience, time.Millisecond)
}

func TestDropAfterCountsNewConnectionsFromTheirStart(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	proxy.ResetAfter(faults.ToServer, 10)
	for range 2 {
		_, err := dial(t, proxy.URL())
		require.Error(t, err)
	}
	proxy.Heal()
	execute(t, connect(t, proxy.URL()), "select 1")
}

func TestRefusedConnectionsAreRefusedUntilTheNetworkHeals(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	conn := connect(t, proxy.URL())
	proxy.RefuseNew()
	proxy.RefuseNew()
	_, err := dial(t, proxy.URL())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	execute(t, conn, "select 1")
	proxy.Heal()
	proxy.Heal()
	execute(t, connect(t, proxy.URL()), "select 1")
}

func TestAcceptThenKillKillsAtOnceOrAfterTheLogin(t *testing.T) {
	t.Parallel()
	proxy, _ := newProxy(t)
	conn := connect(t, proxy.URL())
	proxy.AcceptThenReset(faults.OnAccept)
	_, err := dial(t, proxy.URL())
	require.Error(t, err)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED, "it was accepted")
	assert.Equal(t, 2, proxy.Accepted())

	proxy.AcceptThenReset(faults.AfterLogin)
	loggedIn, err := dial(t, proxy.URL())
	require.NoError(t, err)
	require.Error(t, pingWithin(t, loggedIn, patience))
	require.NotErrorIs(t, pingWithin(t, loggedIn, patience), context.DeadlineExceeded)
	execute(t, conn, "select 1")
	require.NoError(t, proxy.AwaitConnections(t.Context(), 1))
}

func TestProxyWithoutAServerResetsWhoConnects(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable")
	_, err := dial(t, proxy.URL())
	require.Error(t, err)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, proxy.AwaitConnections(t.Context(), 0))
}

func TestProxyKeepsTheRestOfTheURL(t *testing.T) {
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

func TestFaultsMayBeChangedFromManyGoroutinesWhileTrafficFlows(t *testing.T) {
	t.Parallel()
	proxy, direct := newProxy(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, fault := range []func(){
			proxy.ResetConnections, proxy.BlackHole, func() { proxy.Slow(time.Millisecond, 1<<20) }, proxy.Heal, proxy.RefuseNew, proxy.ResetConnections,
			func() { proxy.ResetAfter(faults.ToClient, 300) }, proxy.BlackHoleAll, proxy.Heal, proxy.DropCommitAck, proxy.DropCommit,
			func() { proxy.AcceptThenReset(faults.AfterLogin) }, proxy.ResetConnections, proxy.Heal,
		} {
			fault()
			_ = proxy.AwaitAccepted(ctx, proxy.Accepted()) // let the others run
			if err := pingWithin(t, direct, patience); err != nil {
				return
			}
		}
	}()
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				try, cancel := context.WithTimeout(ctx, impatience)
				if conn, err := pgconn.Connect(try, proxy.URL()); err == nil {
					_, _ = conn.Exec(try, "select repeat('x', 1000)").ReadAll()
					_ = conn.Close(try)
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
