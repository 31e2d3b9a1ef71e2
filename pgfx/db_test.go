package pgfx_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestGate_ClosedBeforeStartAndAfterClose(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	require.ErrorIs(t, err, pgfx.ErrNotStarted)
	assert.EqualValues(t, 0, db.Pool().Stat().NewConnsCount(), "no dial was tried")
	assert.False(t, db.IsInitialized())

	require.NoError(t, db.Start(within(t, 10*time.Second)))
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.True(t, db.IsInitialized())
	assert.True(t, db.IsHealthy())

	require.NoError(t, db.Close(t.Context()))
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	require.ErrorIs(t, err, pgfx.ErrClosed)
	_, err = db.Connect(t.Context(), "late")
	require.ErrorIs(t, err, pgfx.ErrClosed)
	require.ErrorIs(t, db.Start(t.Context()), pgfx.ErrClosed)
	db.Internals().Gate().Open()
	require.ErrorIs(t, db.Internals().Gate().Err(), pgfx.ErrClosed, "a closed DB cannot be opened again")
	db.Internals().Gate().Close(errors.New("another cause"))
	require.ErrorIs(t, db.Internals().Gate().Err(), pgfx.ErrClosed)
}

func TestGate_FailsFastForUsersOfTheRawPool(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	attempts := db.Pool().Stat().NewConnsCount()
	cause := errors.New("the monitor saw it die")
	db.Internals().Gate().Close(cause)
	db.Internals().Gate().Close(cause)
	for range 3 {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		var unavailable *pgfx.UnavailableError
		require.ErrorAs(t, err, &unavailable)
		require.ErrorIs(t, err, cause)
		assert.False(t, unavailable.Since.IsZero())
	}
	assert.Equal(t, attempts, db.Pool().Stat().NewConnsCount(), "no dial was tried")
	assert.EqualValues(t, 3, db.Stats().Pool.Refused)
	assert.False(t, db.IsHealthy())
	assert.True(t, db.IsInitialized())

	db.Pool().Reset() // the next acquire needs a new connection
	db.Internals().Gate().Open()
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestConnect_PassesAClosedGate(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.ApplicationName = "a-name-that-is-so-long-that-nothing-would-be-left-for-the-purpose"
	db := started(t, cfg)
	db.Internals().Gate().Close(errors.New("down"))
	conn, err := db.Connect(within(t, 10*time.Second), "probe")
	require.NoError(t, err)
	var name string
	require.NoError(t, conn.QueryRow(t.Context(), "select current_setting('application_name')").Scan(&name))
	assert.Equal(t, "a-name-that-is-so-long-that-nothing-would-be-left-for-the/probe", name)
	require.NoError(t, conn.Close(t.Context()))
	assert.Zero(t, db.Stats().Statements.Count, "what is outside the pool is not in its statistics")
}

func TestOptions_HooksSeeEveryNewConnection(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	calls := map[string]int{}
	count := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		calls[what]++
	}
	tracer := &countingTracer{count: count}
	db := started(t, serverConfig(),
		pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
			count("before")
			cc.RuntimeParams["work_mem"] = "1234kB"
			return nil
		}),
		pgfx.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			count("after")
			_, err := conn.Exec(ctx, "set my.own = 'yes'")
			return err
		}),
		pgfx.WithTracer(tracer),
		pgfx.WithBeforeConnect(func(context.Context, *pgx.ConnConfig) error { panic("of another database") }).For("other"),
	)
	var workMem, own string
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select current_setting('work_mem'), current_setting('my.own')").Scan(&workMem, &own))
	assert.Equal(t, "1234kB", workMem)
	assert.Equal(t, "yes", own)
	assert.Equal(t, 2, calls["before"], "one for the start's look and one for the pool")
	assert.Equal(t, 2, calls["after"])
	assert.Positive(t, calls["query"], "the tracer of another beside the pool's own")
	assert.Positive(t, db.Stats().Statements.Count)
}

type countingTracer struct{ count func(string) }

func (c *countingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.count("query")
	return ctx
}
func (c *countingTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestStart_FailsWithTheErrorOfAHook(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	db := open(t, serverConfig(), pgfx.WithAfterConnect(func(context.Context, *pgx.Conn) error { return boom }))
	err := db.Start(within(t, 10*time.Second))
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "after connect")

	db = open(t, serverConfig(), pgfx.WithBeforeConnect(func(context.Context, *pgx.ConnConfig) error { return boom }))
	require.ErrorIs(t, db.Start(within(t, 10*time.Second)), boom)
}

func TestConnect_ReadsThePasswordFileEachTime(t *testing.T) {
	t.Parallel()
	admin := started(t, serverConfig())
	_, err := admin.Pool().Exec(t.Context(), "create role rotated login password 'first'")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = admin.Pool().Exec(context.Background(), "drop role rotated") })

	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("first\n"), 0o600))
	cfg := serverConfig()
	cfg.Username, cfg.PasswordFile = "rotated", file
	db := started(t, cfg)

	_, err = admin.Pool().Exec(t.Context(), "alter role rotated password 'second'")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte("second\r\n"), 0o600))
	db.Reset()
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "the next connection uses the new password")

	require.NoError(t, os.Remove(file))
	db.Reset()
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.ErrorContains(t, err, "Config.PasswordFile")
}

func TestAcquireTimeout_NamesTheHolders(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 2, MinConns: 2, AcquireTimeout: 50 * time.Millisecond} // open before the test takes them
	db := started(t, cfg)
	first, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer first.Release()
	second, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer second.Release()
	_, err = second.Exec(t.Context(), "select 'the second one'")
	require.NoError(t, err)

	_, err = db.Pool().Exec(t.Context(), "select 1")
	var timeout *pgfx.AcquireTimeoutError
	require.ErrorAs(t, err, &timeout)
	require.ErrorIs(t, err, pgfx.ErrAcquireTimeout)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.True(t, timeout.Timeout())
	assert.Equal(t, 2, timeout.InUse)
	assert.Equal(t, 2, timeout.Max)
	assert.GreaterOrEqual(t, timeout.Waited, 50*time.Millisecond)
	require.Len(t, timeout.Holders, 2)
	statements := map[uint32]string{} // leases that began in the same microseconds come in any order
	for _, holder := range timeout.Holders {
		assert.Contains(t, holder.Stack[0].Function, "TestAcquireTimeout_NamesTheHolders")
		statements[holder.PID] = holder.Statement
	}
	assert.Equal(t, map[uint32]string{
		first.Conn().PgConn().PID(): "", second.Conn().PgConn().PID(): "select ?", // without its value
	}, statements)
	assert.Contains(t, err.Error(), "2 of 2 in use")
	assert.Contains(t, err.Error(), "db_test.go")
}

func TestAcquireTimeout_ByTheCallersDeadline(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 1, AcquireTimeout: pgfx.Off}
	db := started(t, cfg)
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()

	isWaiting := func() bool { return db.Stats().Pool.Waiting == 1 }
	failed := make(chan error)
	wait := func(ctx context.Context) {
		_, err := db.Pool().Exec(ctx, "select 1")
		failed <- err
	}
	late, expire := testctx.Expiring(t.Context())
	go wait(late)
	require.Eventually(t, isWaiting, eventually, tick)
	expire()
	require.ErrorIs(t, <-failed, pgfx.ErrAcquireTimeout)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = db.Pool().Exec(cancelled, "select 1")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, pgfx.ErrAcquireTimeout, "a caller who gives up has not timed out")

	waiting, cancel := context.WithCancel(t.Context())
	go wait(waiting)
	require.Eventually(t, isWaiting, eventually, tick)
	cancel()
	err = <-failed
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, pgfx.ErrAcquireTimeout)
	assert.Zero(t, db.Stats().Pool.Waiting)
}

func TestAcquireTimeout_IsNotASlowStatement(t *testing.T) {
	t.Parallel()
	db, admin := started(t, cancelConfig()), started(t, serverConfig())
	ctx, expire := testctx.Expiring(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(ctx, "select pg_sleep(60), 'slow'")
		failed <- err
	}()
	waitForSleep(t, admin, "query = $1", "select pg_sleep(60), 'slow'")
	expire()
	err := <-failed
	require.ErrorContains(t, err, "57014", "the server was requested to cancel it")
	require.NotErrorIs(t, err, pgfx.ErrAcquireTimeout)
}

func TestCancel_KeepsTheConnection(t *testing.T) {
	t.Parallel()
	db := started(t, cancelConfig())
	var pid int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid))
	admin := started(t, serverConfig())
	before := db.Stats().Pool.Connected
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := db.Pool().Exec(ctx, "select pg_sleep(60)")
			failed <- err
		}()
		waitForSleep(t, admin, "pid = $1", pid)
		cancel()
		require.ErrorContains(t, <-failed, "57014")
	}
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Equal(t, before, db.Stats().Pool.Connected)
}

func TestClose_WaitsForLeasesAndNamesTheHolders(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	_, err = held.Exec(t.Context(), "select 'forgotten'")
	require.NoError(t, err)

	err = db.Close(within(t, 20*time.Millisecond))
	var stillHeld *pgfx.CloseTimeoutError
	require.ErrorAs(t, err, &stillHeld)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, stillHeld.Leases, 1)
	assert.Contains(t, err.Error(), "TestClose_WaitsForLeasesAndNamesTheHolders")
	assert.Contains(t, err.Error(), "last statement: select ?")
	_, err = held.Exec(t.Context(), "select 1")
	require.Error(t, err, "its socket was closed, so that the server ends the work")

	held.Release()
	require.NoError(t, db.Close(within(t, 10*time.Second)), "a later Close waits for the first")
}

func TestClose_ReturnsAtOnceWithoutLeases(t *testing.T) {
	t.Parallel()
	db, err := pgfx.Open(serverConfig())
	require.NoError(t, err)
	require.NoError(t, db.Close(t.Context()), "before start")
	require.NoError(t, db.Close(t.Context()), "twice")
}

func TestAcquireFunc_AlwaysReleases(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		assert.Len(t, db.Leases(), 1)
		_, err := conn.Exec(ctx, "create temporary table mine (id int)")
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "insert into mine values (1)")
		return err
	}))
	assert.Empty(t, db.Leases())
	assert.Panics(t, func() {
		_ = db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error { panic("oops") })
	})
	assert.Empty(t, db.Leases())
	db.Internals().Gate().Close(errors.New("down"))
	require.ErrorIs(t, db.AcquireFunc(t.Context(), func(context.Context, *pgx.Conn) error { return nil }), pgfx.ErrUnavailable)
}

func TestStats_CountStatementsErrorsAndConnections(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	base := db.Stats()
	for range 5 {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.NoError(t, err)
	}
	_, err := db.Pool().Exec(t.Context(), "select 1/0")
	require.Error(t, err)
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	batch.Queue("select 2")
	require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "create temporary table copied (id int)"); err != nil {
			return err
		}
		_, err := conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id"}, pgx.CopyFromRows([][]any{{int32(1)}}))
		assert.Equal(t, `copy "copied" from stdin`, db.Leases()[0].Statement)
		return err
	}))
	s := db.Stats()
	assert.EqualValues(t, 9, s.Statements.Count-base.Statements.Count)
	assert.EqualValues(t, 1, s.Statements.Errors)
	assert.Equal(t, map[string]int64{"22": 1}, s.Statements.ErrorsByClass)
	assert.EqualValues(t, 8, s.Pool.Acquired-base.Pool.Acquired)
	assert.EqualValues(t, 1, s.Pool.Connected)
	assert.Equal(t, 1, s.Pool.Idle)
	assert.Positive(t, s.Statements.Average)
	assert.LessOrEqual(t, s.Statements.P50, s.Statements.P95)
	assert.LessOrEqual(t, s.Statements.P95, s.Statements.P99)
	assert.LessOrEqual(t, s.Statements.P99, s.Statements.Max)
	assert.Positive(t, s.Uptime)
}

func TestConfig_ServerSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.ApplicationName, cfg.SearchPath = "settings", "pg_catalog, public"
	cfg.Timeouts = pgfx.TimeoutConfig{Statement: 7 * time.Second, Lock: 3 * time.Second, IdleInTransaction: pgfx.Off}
	db := started(t, cfg)
	for setting, want := range map[string]string{
		"application_name": "settings", "search_path": "pg_catalog, public", "statement_timeout": "7s", "lock_timeout": "3s",
		"idle_in_transaction_session_timeout": "0",
	} {
		var got string
		require.NoError(t, db.Pool().QueryRow(t.Context(), "select current_setting($1)", setting).Scan(&got))
		assert.Equal(t, want, got, setting)
	}
}

func TestConnectError_KeepsNoConfiguration(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Database = "missing"
	db := open(t, cfg)
	_, err := db.Connect(within(t, 10*time.Second), "look")
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	assert.Equal(t, pgfx.CauseDatabaseMissing, connect.Cause)
	assert.Equal(t, pgfx.CauseDatabaseMissing, pgfx.CauseOf(err))
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	assert.Equal(t, "3D000", pg.Code)
	var leaky *pgconn.ConnectError
	require.NotErrorAs(t, err, &leaky, "pgconn.ConnectError holds the password")
}
