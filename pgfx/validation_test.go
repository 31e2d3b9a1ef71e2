package pgfx_test

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// ownServer starts a server that the test may demote.
func ownServer(t *testing.T) (cfg pgfx.Config, readOnly func(on string)) {
	t.Helper()
	own, err := embedded.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Stop(context.Background())) })
	admin := started(t, pgfx.Config{URL: own.URL(), Role: pgfx.RoleAny})
	// The limit is high, so a live connection answers in time on a slow machine.
	return pgfx.Config{URL: own.URL(), Timeouts: pgfx.TimeoutConfig{Validate: eventually}}, func(on string) {
		for _, statement := range []string{"alter system set default_transaction_read_only = " + on, "select pg_reload_conf()"} {
			_, err := admin.Pool().Exec(t.Context(), statement)
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { // each backend applies the setting at its next command
			var got string
			err := admin.Pool().QueryRow(t.Context(), "select current_setting('transaction_read_only')").Scan(&got)
			return err == nil && got == on
		}, 10*time.Second, time.Millisecond)
	}
}

func TestValidation_ReplacesConnectionsOfADemotedServer(t *testing.T) {
	t.Parallel()
	cfg, readOnly := ownServer(t)
	for role, replaced := range map[pgfx.Role]bool{pgfx.RoleAuto: true, pgfx.RoleAny: false} {
		cfg.Role = role
		db := started(t, cfg)
		db.ValidateAlways()
		before := db.Stats().Pool.Connected
		readOnly("on")
		require.Eventually(t, func() bool {
			_, err := db.Pool().Exec(t.Context(), "select 1")
			require.NoError(t, err, "reads still succeed")
			return db.Stats().Pool.Connected > before || !replaced
		}, 10*time.Second, time.Millisecond, role)
		assert.Equal(t, replaced, db.Stats().Pool.Connected > before, "role %q", role)

		connected := db.Stats().Pool.Connected
		for range 3 {
			_, err := db.Pool().Exec(t.Context(), "select 1")
			require.NoError(t, err)
		}
		assert.Equal(t, connected, db.Stats().Pool.Connected, "a connection that was read-only when it was opened stays: role %q", role)
		readOnly("off")
	}
}

func TestValidation_FollowsARefusedWrite(t *testing.T) {
	t.Parallel()
	cfg, readOnly := ownServer(t)
	for name, stats := range map[string]pgfx.StatsConfig{"statistics": {}, "no statistics": {Disabled: true}} {
		cfg.Stats = stats
		db := started(t, cfg)
		refuse := func() {
			_, err := db.Pool().Exec(t.Context(), "create table t (n int)")
			require.ErrorContains(t, err, "25006", name)
			_, err = db.Pool().Exec(t.Context(), "select 1")
			require.NoError(t, err, name)
		}
		before := db.Stats().Pool.Connected
		err := pgx.BeginTxFunc(t.Context(), db.Pool(), pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "create table t (n int)")
			return err
		})
		require.ErrorContains(t, err, "25006", name)
		_, err = db.Pool().Exec(t.Context(), "select 1")
		require.NoError(t, err, name)
		assert.Equal(t, before, db.Stats().Pool.Connected, "%s: the server can write, the transaction could not", name)

		readOnly("on")
		require.Eventually(t, func() bool { // the backend applies the setting at its next command
			var on string
			err := db.Pool().QueryRow(t.Context(), "show transaction_read_only").Scan(&on)
			return err == nil && on == "on"
		}, eventually, tick, name)
		refuse()
		assert.Equal(t, before+1, db.Stats().Pool.Connected, "%s: the server cannot write, so its connection is replaced", name)
		refuse()
		assert.Equal(t, before+1, db.Stats().Pool.Connected, "%s: the new connection was read-only from the beginning", name)
		readOnly("off")
	}
}

func TestValidation_RoleWriterRejectsAReadOnlyServer(t *testing.T) {
	t.Parallel()
	cfg, readOnly := ownServer(t)
	cfg.Role = pgfx.RoleWriter
	db := started(t, cfg)
	db.ValidateAlways()
	readOnly("on")
	require.Eventually(t, func() bool {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		if err == nil {
			return false // the backend applies the setting at its next command
		}
		var role *pgfx.RoleError
		return assert.ErrorAs(t, err, &role)
	}, 10*time.Second, time.Millisecond)
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.ErrorContains(t, err, "is read-only but Config.Role requires a writer")
	assert.Equal(t, pgfx.CauseReadOnly, pgfx.CauseOf(err))

	again := open(t, cfg)
	outcome := make(chan error, 1)
	go func() { outcome <- again.Start(within(t, 20*time.Second)) }()
	require.Eventually(t, func() bool { return again.Internals().Gate().Err() != nil }, 10*time.Second, time.Millisecond)
	readOnly("off")
	require.NoError(t, <-outcome, "start waits until the server is a writer")
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestValidation_ReplacesALostConnection(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg)
	db.ValidateAlways()
	var pid int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid))
	admin := started(t, serverConfig())
	_, err := admin.Pool().Exec(t.Context(), "select pg_terminate_backend($1, 5000)", pid)
	require.NoError(t, err)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "the caller gets a live connection")

	cfg.Timeouts.Validate = pgfx.Off
	unvalidated := started(t, cfg)
	unvalidated.ValidateAlways()
	require.NoError(t, unvalidated.Pool().QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid))
	_, err = admin.Pool().Exec(t.Context(), "select pg_terminate_backend($1, 5000)", pid)
	require.NoError(t, err)
	_, err = unvalidated.Pool().Exec(t.Context(), "select 1")
	require.Error(t, err, "validation is off")
}

// In this test every connection of a full pool is half-open. One failed validation makes the pool replace all of them.
func TestValidation_ResetsThePoolOnceForHalfOpenConnections(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 4, 10} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			proxy := faults.NewProxy(t, server.URL())
			db := started(t, pgfx.Config{
				URL: proxy.URL(), Pool: pgfx.PoolConfig{MaxConns: size, MinConns: size}, Timeouts: pgfx.TimeoutConfig{Validate: time.Second},
			})
			db.ValidateAlways()
			var failures atomic.Int32
			db.Internals().SubscribeFailures(func(error) {
				failures.Add(1)
				db.ValidateIdle() // the new connection works, but may exceed the limit
			})
			proxy.BlackHole()
			_, err := db.Pool().Exec(within(t, 10*time.Second), "select 1")
			require.NoError(t, err, "the caller gets a connection that works")
			assert.EqualValues(t, 1, failures.Load(), "one of %d connections was validated", size)
		})
	}
}

// Connecting through this network takes longer than a connection may be idle without validation, and a round trip takes longer
// than Timeouts.Validate.
func TestValidation_ToleratesASlowNetwork(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, server.URL())
	proxy.Slow(300*time.Millisecond, 0)
	db := open(t, pgfx.Config{URL: proxy.URL(), Pool: pgfx.PoolConfig{MaxConns: 1}})
	var failures atomic.Int32
	db.Internals().SubscribeFailures(func(error) { failures.Add(1) })
	require.NoError(t, db.Start(within(t, 30*time.Second)))
	db.ValidateAlways()
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Zero(t, failures.Load())
	assert.EqualValues(t, 1, db.Stats().Pool.Connected, "neither the new connection nor a live one was replaced")
}

func TestValidation_ErrorNamesTheCause(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns, cfg.Timeouts.Validate = 2, time.Nanosecond
	db := started(t, cfg)
	db.ValidateAlways()
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.ErrorContains(t, err, "pgfx: acquire: 3 connections failed validation; "+
		"if the network is slow, raise Timeouts.Validate; the last one: ")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestValidation_EndsWithTheContextOfTheCaller(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, server.URL())
	db := started(t, pgfx.Config{URL: proxy.URL(), Pool: pgfx.PoolConfig{MaxConns: 1}, Timeouts: pgfx.TimeoutConfig{Validate: time.Hour}})
	db.ValidateAlways()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := db.Pool().Acquire(ended)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, db.Stats().Pool.Idle, "a caller whose ctx has ended costs no connection")
	proxy.BlackHoleAll()
	_, err = db.Pool().Acquire(within(t, 10*time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// givesUp is a context watcher that lets the answer arrive and then gives the connection up.
type givesUp struct {
	conn  *pgconn.PgConn
	ended chan struct{} // closed when the context has ended
}

func (g *givesUp) HandleCancel(context.Context) { close(g.ended) }

func (g *givesUp) HandleUnwatchAfterCancel() { _ = g.conn.Close(context.Background()) }

// heldSocket holds an answer back until the context has ended.
type heldSocket struct {
	net.Conn

	hold atomic.Pointer[func()]
}

func (s *heldSocket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if hold := s.hold.Load(); hold != nil {
		(*hold)()
	}
	return n, err
}

func TestValidation_FailsIfItsEndClosesTheConnection(t *testing.T) {
	t.Parallel()
	ended, socket := make(chan struct{}), &heldSocket{}
	cc, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	cc.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var err error
		socket.Conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return socket, err
	}
	cc.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler { return &givesUp{conn, ended} }
	conn, err := pgx.ConnectConfig(t.Context(), cc)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hold := func() {
		cancel()
		<-ended
	}
	socket.hold.Store(&hold)
	_, err = pgfx.QueryReadOnly(ctx, conn, eventually)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.True(t, conn.IsClosed())
}
