package pgfx_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// closedPort is an address where no server listens. Port 1 is outside the range that the system assigns to listeners and
// clients.
const closedPort = "127.0.0.1:1"

// silentPort returns an address that accepts connections and never replies.
func silentPort(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return listener.Addr().String() // the kernel accepts connections by itself
}

// unknownHost makes lookups of .invalid names fail at once, whatever the local name server does.
func unknownHost(_ context.Context, cc *pgx.ConnConfig) error {
	cc.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if strings.HasSuffix(host, ".invalid") {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return net.DefaultResolver.LookupHost(ctx, host)
	}
	return nil
}

func TestStart_ExplainsFailureAndClosesDB(t *testing.T) {
	t.Parallel()
	wrongPassword, missing := serverConfig(), serverConfig()
	wrongPassword.Username, wrongPassword.Password = "nobody_here", "wrong-s3cret"
	missing.Database = "not_there"
	for name, test := range map[string]struct {
		config  pgfx.Config
		cause   pgfx.Cause
		retries bool
		want    []string
	}{
		"refused": {
			pgfx.Config{URL: "postgres://app:s3cret@" + closedPort + "/app?sslmode=disable"},
			pgfx.CauseRefused, true,
			[]string{"cannot connect to app@" + closedPort + "/app", "attempts in", "connection refused", "check that the server runs"},
		},
		"missing socket": {
			pgfx.Config{URL: "postgres://app:s3cret@/app?host=/nowhere"},
			pgfx.CauseRefused, true,
			[]string{"/nowhere", "no such file or directory", "check that the server runs"},
		},
		"unknown host": {
			pgfx.Config{URL: "postgres://app:s3cret@no-such-host.invalid/app"},
			pgfx.CauseDNS, true,
			[]string{"no-such-host.invalid", "check the host name"},
		},
		"no reply": {
			pgfx.Config{URL: "postgres://app:s3cret@" + silentPort(t) + "/app?sslmode=disable"},
			pgfx.CauseTimeout, true,
			[]string{"check routes, security groups and firewalls"},
		},
		"wrong password": {
			wrongPassword, pgfx.CauseLogin, false,
			[]string{"nobody_here@", "28P01", "the password is wrong, the role doesn't exist, its password has expired"},
		},
		"missing database": {
			missing, pgfx.CauseDatabaseMissing, false,
			[]string{"/not_there", "3D000", "create the database or correct its name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			var opts []pgfx.Option
			if test.retries { // until shortly before the deadline
				ctx, opts = testctx.Unending(t.Context(), 3*time.Second), []pgfx.Option{pgfx.WithBeforeConnect(unknownHost)}
			}
			db := open(t, test.config, opts...)
			err := db.Start(ctx)
			var connect *pgfx.ConnectError
			require.ErrorAs(t, err, &connect)
			assert.Equal(t, test.cause, connect.Cause, err.Error())
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "s3cret")
			assert.NotContains(t, err.Error(), "\n")
			if !test.retries {
				assert.Equal(t, 1, connect.Attempts, "a retry cannot help")
			}
			_, err = db.Pool().Acquire(t.Context())
			require.ErrorIs(t, err, pgfx.ErrClosed, "a failed start closes the DB")
		})
	}
}

func TestStart_LimitsAttempts(t *testing.T) {
	t.Parallel()
	for _, attempts := range []int{1, 3} {
		t.Run(strconv.Itoa(attempts), func(t *testing.T) {
			t.Parallel()
			db := open(t, pgfx.Config{
				URL:   "postgres://app@" + closedPort + "/app?sslmode=disable",
				Retry: pgfx.RetryConfig{MaxAttempts: attempts, Delay: time.Millisecond, MaxDelay: time.Millisecond},
			})
			var connect *pgfx.ConnectError
			require.ErrorAs(t, db.Start(within(t, time.Minute)), &connect)
			assert.Equal(t, attempts, connect.Attempts)
		})
	}
}

// The ctx ends at an attempt that is far beyond RetryPolicy's default, so a slow machine only takes longer.
func TestStart_DefaultAndOffMeanNoLimitOfAttempts(t *testing.T) {
	t.Parallel()
	const lastAttempt = 20
	for _, limit := range []int{0, pgfx.Off} {
		ctx, cancel := context.WithCancel(within(t, time.Minute))
		attempts := 0
		db := open(t, pgfx.Config{
			URL:   "postgres://app@" + closedPort + "/app?sslmode=disable",
			Retry: pgfx.RetryConfig{MaxAttempts: limit, Delay: time.Millisecond, MaxDelay: time.Millisecond},
		}, pgfx.WithBeforeConnect(func(context.Context, *pgx.ConnConfig) error {
			if attempts++; attempts == lastAttempt {
				cancel()
			}
			return nil
		}))
		var connect *pgfx.ConnectError
		require.ErrorAs(t, db.Start(ctx), &connect)
		assert.Equal(t, lastAttempt, connect.Attempts)
		assert.Equal(t, pgfx.CauseRefused, connect.Cause, "the error is that of the attempt before")
		cancel()
	}
}

func TestStart_TimeoutWithoutDeadline(t *testing.T) {
	t.Parallel()
	db := open(t, pgfx.Config{
		URL: "postgres://app@" + silentPort(t) + "/app?sslmode=disable", Start: pgfx.StartConfig{Timeout: 50 * time.Millisecond},
	})
	require.Error(t, db.Start(context.Background()))
}

func TestStart_WaitsForServer(t *testing.T) {
	t.Parallel()
	late, err := embedded.NewServer()
	require.NoError(t, err)
	core, logs := observer.New(zapcore.DebugLevel)
	db := open(t, pgfx.Config{URL: late.URL(), Retry: pgfx.RetryConfig{Delay: 5 * time.Millisecond}}, pgfx.WithLogger(zap.New(core)))
	outcome := make(chan error, 1)
	go func() { outcome <- db.Start(within(t, 20*time.Second)) }()
	require.Eventually(t, func() bool { return logs.FilterMessage("retrying").Len() > 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, late.Start(t.Context()))
	defer func() { require.NoError(t, late.Stop(context.Background())) }()
	require.NoError(t, <-outcome)
	assert.True(t, db.IsHealthy())
	require.NoError(t, db.Close(t.Context()))
}

func TestStart_LogsAttemptsAtEachDoubling(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	db := open(t, pgfx.Config{
		URL: "postgres://app@127.0.0.1:1/app?sslmode=disable", Retry: pgfx.RetryConfig{Delay: time.Microsecond, MaxAttempts: 6},
	}, pgfx.WithLogger(zap.New(core)))
	require.Error(t, db.Start(within(t, 20*time.Second)))
	attempts := []int64{}
	for _, line := range logs.FilterMessage("connect attempt failed").All() {
		fields := line.ContextMap()
		attempts = append(attempts, fields["attempt"].(int64))
		assert.Contains(t, fields["error"], "connection refused")
		assert.Positive(t, fields["time_left"])
	}
	assert.Equal(t, []int64{1, 2, 4}, attempts)
}

func TestStart_OpensMinConns(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MinConns: 3, MaxConns: 5}
	db := started(t, cfg)
	assert.GreaterOrEqual(t, db.Stats().Pool.Open, 3) // pgxpool maintains the minimum too
}

func TestStart_SecondCallFails(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	require.ErrorContains(t, db.Start(t.Context()), "already started")
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "the first start is not affected")
}

func TestSetup_RunsInOrderBeforeStartReturns(t *testing.T) {
	t.Parallel()
	var order []string
	step := func(name string, sequence int) pgfx.SetupStep {
		return pgfx.SetupStep{Name: name, Order: sequence, Run: func(ctx context.Context, db *pgfx.DB) error {
			order = append(order, name)
			_, err := db.Pool().Exec(ctx, "select 1")
			assert.False(t, db.IsInitialized())
			return err
		}}
	}
	other := step("of another database", 0).For("other")
	db := started(t, serverConfig(), pgfx.WithSetup(step("z", 1), step("b", 2), step("a", 2), other), pgfx.WithSetup(step("first", -1)))
	assert.Equal(t, []string{"first", "z", "a", "b"}, order)
	assert.True(t, db.IsInitialized())
}

func TestSetup_StepWithoutRunFails(t *testing.T) {
	t.Parallel()
	err := open(t, serverConfig(), pgfx.WithSetup(pgfx.SetupStep{Name: "seeds"})).Start(t.Context())
	require.EqualError(t, err, `pgfx: setup step "seeds" has no Run function: set it`)
}

func TestSetup_FailureFailsStart(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	db := open(t, serverConfig(), pgfx.WithSetup(pgfx.SetupStep{
		Name: "create tables", Run: func(context.Context, *pgfx.DB) error { return boom },
	}))
	err := db.Start(within(t, 10*time.Second))
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, `pgfx: setup step "create tables"`)
	_, err = db.Pool().Acquire(t.Context())
	require.ErrorIs(t, err, pgfx.ErrClosed)
}

func TestStartOptional_ConnectsInBackground(t *testing.T) {
	t.Parallel()
	late, err := embedded.NewServer()
	require.NoError(t, err)
	var setups atomic.Int32
	core, logs := observer.New(zapcore.InfoLevel)
	db := open(t, pgfx.Config{
		URL: late.URL(), Start: pgfx.StartConfig{Mode: pgfx.StartOptional},
		Retry: pgfx.RetryConfig{Delay: time.Millisecond, MaxDelay: 10 * time.Millisecond},
	}, pgfx.WithLogger(zap.New(core)), pgfx.WithSetup(pgfx.SetupStep{Name: "fails once", Run: func(context.Context, *pgfx.DB) error {
		if setups.Add(1) == 1 {
			return errors.New("not yet")
		}
		return nil
	}}))
	require.NoError(t, db.Start(within(t, 10*time.Second)))
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	assert.Equal(t, pgfx.CauseRefused, pgfx.CauseOf(err))
	assert.False(t, db.IsInitialized())
	assert.Zero(t, setups.Load(), "setup steps wait for the database")

	require.NoError(t, late.Start(t.Context()))
	defer func() { require.NoError(t, late.Stop(context.Background())) }()
	require.Eventually(t, db.IsHealthy, 10*time.Second, time.Millisecond)
	assert.EqualValues(t, 2, setups.Load())
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return logs.FilterMessage("database ready").Len() == 1 }, 10*time.Second, time.Millisecond)
	failures := logs.FilterMessage("database not ready; retrying").All()
	for i, line := range failures[1:] {
		assert.NotEqual(t, failures[i].ContextMap()["error"], line.ContextMap()["error"], "one line per failure, not per attempt")
	}
	require.NoError(t, db.Close(t.Context()))
}

func TestStartOptional_FailsIfSetupFails(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Start.Mode = pgfx.StartOptional
	db := open(t, cfg, pgfx.WithSetup(pgfx.SetupStep{Name: "ddl", Run: func(ctx context.Context, db *pgfx.DB) error {
		_, err := db.Pool().Exec(ctx, "creat table x ()")
		return err
	}}))
	require.ErrorContains(t, db.Start(within(t, 10*time.Second)), "42601", "the database is reachable, so a retry cannot help")
}

func TestStartLazy_DoesNotWait(t *testing.T) {
	t.Parallel()
	db := open(t, pgfx.Config{URL: "postgres://app@" + silentPort(t) + "/app?sslmode=disable", Start: pgfx.StartConfig{Mode: pgfx.StartLazy}})
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, db.Close(within(t, 10*time.Second)), "Close ends the background work")

	cfg := serverConfig()
	cfg.Start.Mode = pgfx.StartLazy
	db = open(t, cfg)
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, db.AwaitReady(within(t, 10*time.Second)))
	assert.True(t, db.IsInitialized())
	_, err := db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
}

func TestSetup_GateStaysClosedUntilAllStepsHaveRun(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgfx.StartMode{pgfx.StartRequire, pgfx.StartOptional, pgfx.StartLazy} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			running, proceed := make(chan struct{}), make(chan struct{})
			cfg := serverConfig()
			cfg.Start.Mode = mode
			db := open(t, cfg, pgfx.WithSetup(pgfx.SetupStep{Name: "slow", Run: func(ctx context.Context, db *pgfx.DB) error {
				close(running)
				<-proceed
				_, err := db.Pool().Exec(ctx, "select 1") // the step itself may use the pool
				return err
			}}))
			outcome := make(chan error, 1)
			go func() { outcome <- db.Start(within(t, 20*time.Second)) }()
			<-running
			db.Internals().Gate().Open() // as the monitor does after a probe
			_, err := db.Pool().Exec(t.Context(), "select * from missing")
			require.ErrorIs(t, err, pgfx.ErrSetupNotFinished)
			require.ErrorIs(t, err, pgfx.ErrUnavailable)
			short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			err = db.AwaitReady(short)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, pgfx.ErrSetupNotFinished)

			close(proceed)
			require.NoError(t, <-outcome)
			require.NoError(t, db.AwaitReady(within(t, 20*time.Second)))
			_, err = db.Pool().Exec(t.Context(), "select 1")
			require.NoError(t, err)
			db.Internals().Gate().Close(errors.New("down"))
			require.NoError(t, db.AwaitReady(t.Context()), "the setup is done, even while the database is down")
		})
	}
}

func TestSetup_UnavailableErrorWrapsFailureOfLastAttempt(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Start.Mode, cfg.Retry.Delay = pgfx.StartLazy, time.Millisecond
	boom := errors.New("boom")
	db := started(t, cfg, pgfx.WithSetup(pgfx.SetupStep{Name: "ddl", Run: func(context.Context, *pgfx.DB) error { return boom }}))
	require.Eventually(t, func() bool {
		_, err := db.Pool().Exec(t.Context(), "select 1")
		return errors.Is(err, boom) && errors.Is(err, pgfx.ErrSetupNotFinished)
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, db.Close(within(t, 10*time.Second)))
	require.ErrorIs(t, db.AwaitReady(t.Context()), pgfx.ErrClosed)
}

// TestSetup_RunsWithoutTimeoutsOfRequests reads the limits that a setup step and other statements have.
func TestSetup_RunsWithoutTimeoutsOfRequests(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Timeouts.Statement, cfg.Timeouts.IdleInTransaction, cfg.Timeouts.Lock = 7*time.Second, 8*time.Second, 9*time.Second
	cfg.Pool.MaxConns = 1
	const limits = `select concat_ws(' ', current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),
		current_setting('lock_timeout'))`
	for _, mode := range []pgfx.StartMode{pgfx.StartRequire, pgfx.StartLazy} {
		cfg.Start.Mode = mode
		var onPool, inSQL, separate string
		db := started(t, cfg, pgfx.WithSetup(pgfx.SetupStep{Name: "limits", Run: func(ctx context.Context, db *pgfx.DB) error {
			conn, err := db.Connect(ctx, "setup")
			if err != nil {
				return err
			}
			return errors.Join(
				db.Pool().QueryRow(ctx, limits).Scan(&onPool),
				db.SQL().QueryRowContext(ctx, limits).Scan(&inSQL),
				conn.QueryRow(ctx, limits).Scan(&separate),
				conn.Close(ctx),
			)
		}}))
		require.NoError(t, db.AwaitReady(within(t, eventually)))
		assert.Equal(t, "0 0 9s", onPool)
		assert.Equal(t, "0 0 9s", inSQL)
		assert.Equal(t, "0 0 9s", separate)
		var after string
		require.NoError(t, db.Pool().QueryRow(t.Context(), limits).Scan(&after))
		assert.Equal(t, "7s 8s 9s", after, "on the same connection")
	}
}

func TestAwaitReady_SucceedsOnceTheGateHasOpened(t *testing.T) {
	t.Parallel()
	db, err := pgfx.Open(serverConfig())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(t.Context())) }()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, db.AwaitReady(ended), pgfx.ErrNotStarted)
	db.Internals().Gate().FinishSetup()
	db.Internals().Gate().Open()
	require.NoError(t, db.AwaitReady(ended), "a setup that ends with ctx has ended")
}
