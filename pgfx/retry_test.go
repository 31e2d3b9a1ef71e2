package pgfx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

var errSerialization = &pgconn.PgError{Code: "40001"}

func TestCanRetry_DependsOnErrorAndIdempotency(t *testing.T) {
	t.Parallel()
	db := open(t, pgfx.Config{URL: "postgres://app@" + closedPort + "/app?sslmode=disable"})
	_, dial := db.Connect(t.Context(), "")
	require.Error(t, dial)
	_, raw := pgconn.Connect(t.Context(), "postgres://app@"+closedPort+"/app?sslmode=disable")
	require.Error(t, raw)
	_, unavailable := db.Pool().Acquire(t.Context())
	require.ErrorIs(t, unavailable, pgfx.ErrUnavailable)
	gaveUp := pgfx.Retry(t.Context(), pgfx.RetryPolicy{Delay: time.Nanosecond}, func(context.Context) error { return errSerialization })
	for name, test := range map[string]struct {
		err                       error
		notIdempotent, idempotent bool
	}{
		"no error":                       {nil, false, false},
		"cannot connect":                 {dial, true, true},
		"cannot connect, pgx's error":    {fmt.Errorf("wrapped: %w", raw), true, true},
		"refused in a running statement": {syscall.ECONNREFUSED, false, true},
		"serialization failure":          {errSerialization, true, true},
		"already retried":                {gaveUp, false, false},
		"deadlock":                       {&pgconn.PgError{Code: "40P01"}, true, true},
		"read-only server":               {&pgconn.PgError{Code: "25006"}, true, true},
		"wrong role":                     {&pgfx.RoleError{}, true, true},
		"connection lost":                {io.ErrUnexpectedEOF, false, true},
		"terminated":                     {&pgconn.PgError{Code: "57P01"}, false, true},
		"connection closed":              {closedConnection(t), false, true},
		"connection busy":                {busyConnection(t), false, false},
		"cancelled statement":            {&pgconn.PgError{Code: "57014"}, false, false},
		"constraint":                     {&pgconn.PgError{Code: "23505"}, false, false},
		"disk full":                      {&pgconn.PgError{Code: "53100"}, false, false},
		"no rows":                        {pgx.ErrNoRows, false, false},
		"deadline":                       {context.DeadlineExceeded, false, false},
		"gate closed":                    {unavailable, false, false},
		"gate closed by an outage":       {&pgfx.UnavailableError{Cause: dial}, false, false},
		"pool exhausted":                 {&pgfx.AcquireTimeoutError{}, false, false},
		"closed":                         {pgfx.ErrClosed, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.notIdempotent, pgfx.CanRetry(test.err, pgfx.NotIdempotent), "not idempotent: %v", test.err)
			assert.Equal(t, test.idempotent, pgfx.CanRetry(test.err, pgfx.Idempotent), "idempotent: %v", test.err)
		})
	}
}

// closedConnection returns an error that pgx also returns for a COMMIT on a broken connection, and calls safe to retry.
func closedConnection(t *testing.T) error {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	_, err = conn.Exec(t.Context(), "commit").ReadAll()
	require.True(t, pgconn.SafeToRetry(err)) //nolint:forbidigo // shows why the library does not use it
	return err
}

// busyConnection returns the error of concurrent use of a connection, which pgx calls safe to retry.
func busyConnection(t *testing.T) error {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	running := conn.Exec(t.Context(), "select 1")
	_, err = conn.Exec(t.Context(), "select 2").ReadAll()
	require.True(t, pgconn.SafeToRetry(err)) //nolint:forbidigo // shows why the library does not use it
	require.NoError(t, running.Close())
	return err
}

func TestRetry_LostConnection(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	policy := db.RetryPolicy()
	policy.Delay, policy.Idempotency = time.Millisecond, pgfx.Idempotent
	killed := func(ctx context.Context, calls *int) (int, error) {
		var value int
		err := db.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			if *calls++; *calls == 1 {
				_, err := conn.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
				return err
			}
			return conn.QueryRow(ctx, "select 42").Scan(&value)
		})
		return value, err
	}
	var calls int
	value, err := pgfx.RetryValue(t.Context(), policy, func(ctx context.Context) (int, error) { return killed(ctx, &calls) })
	require.NoError(t, err)
	assert.Equal(t, 42, value)
	assert.Equal(t, 2, calls)
	assert.Equal(t, pgfx.RetryStats{Calls: 1, Retries: 1}, db.Stats().Retries)

	calls, policy.Idempotency = 0, pgfx.NotIdempotent
	_, err = pgfx.RetryValue(t.Context(), policy, func(ctx context.Context) (int, error) { return killed(ctx, &calls) })
	require.Error(t, err)
	var gaveUp *pgfx.RetryError
	require.NotErrorAs(t, err, &gaveUp, "there was no second attempt")
	assert.Equal(t, 1, calls)
}

func TestRetry_SerializationFailure(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	_, err := db.Pool().Exec(t.Context(), "create table retried (n int); insert into retried values (0)")
	require.NoError(t, err)
	calls := 0
	err = pgfx.Retry(t.Context(), db.RetryPolicy(), func(ctx context.Context) error {
		calls++
		return pgx.BeginTxFunc(ctx, db.Pool(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			var n int
			if err := tx.QueryRow(ctx, "select n from retried").Scan(&n); err != nil {
				return err
			}
			if calls == 1 { // a concurrent transaction commits first
				_, err := db.Pool().Exec(ctx, "update retried set n = 10")
				require.NoError(t, err)
			}
			_, err := tx.Exec(ctx, "update retried set n = $1", n+1)
			return err
		})
	})
	require.NoError(t, err)
	assert.Equal(t, 2, calls)
	var n int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select n from retried").Scan(&n))
	assert.Equal(t, 11, n)
}

func TestRetry_RefusedLogin(t *testing.T) {
	t.Parallel()
	password := serverPassword(t)
	for name, test := range map[string]struct {
		right int32 // the first call in which the provider returns the right password
		calls int32
	}{
		"new credentials are right":   {2, 2},
		"new credentials are wrong":   {math.MaxInt32, 2},
		"first credentials are right": {1, 1},
		"third credentials are right": {3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			db := open(t, serverConfig(), pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
				if calls.Add(1) >= test.right {
					return pgfx.Credentials{Password: password}, nil
				}
				return pgfx.Credentials{Password: "expired"}, nil
			}))
			policy := db.RetryPolicy()
			policy.MaxAttempts, policy.Delay = 10, time.Millisecond
			conn, err := pgfx.RetryValue(t.Context(), policy, func(ctx context.Context) (*pgx.Conn, error) { return db.Connect(ctx, "test") })
			assert.Equal(t, test.calls, calls.Load())
			if test.right > test.calls {
				require.ErrorContains(t, err, "gave up after 2 attempts")
				require.ErrorContains(t, err, "28P01")
				return
			}
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
		})
	}
	cfg := serverConfig()
	cfg.Password = "wrong"
	db := open(t, cfg)
	calls := 0
	err := pgfx.Retry(t.Context(), db.RetryPolicy(), func(ctx context.Context) error {
		calls++
		_, err := db.Connect(ctx, "test")
		return err
	})
	require.ErrorContains(t, err, "28P01")
	assert.Equal(t, 1, calls, "a fixed password is not retried")
}

func TestRetry_WaitsGrowWithJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		policy := pgfx.RetryPolicy{MaxAttempts: 6, Delay: 100 * time.Millisecond, Multiplier: 3, MaxDelay: 500 * time.Millisecond}
		const ms = time.Millisecond
		longest := []time.Duration{100 * ms, 300 * ms, 500 * ms, 500 * ms, 500 * ms}
		seen := map[time.Duration]bool{}
		for range 200 {
			var last time.Time
			calls := 0
			err := pgfx.Retry(t.Context(), policy, func(context.Context) error {
				if calls > 0 {
					wait := time.Since(last)
					seen[wait] = true
					require.GreaterOrEqual(t, wait, 10*time.Millisecond, "the minimum")
					require.LessOrEqual(t, wait, longest[calls-1])
				}
				last = time.Now()
				calls++
				return errSerialization
			})
			require.ErrorIs(t, err, errSerialization)
			var gaveUp *pgfx.RetryError
			require.ErrorAs(t, err, &gaveUp)
			require.Equal(t, 6, gaveUp.Attempts)
			require.Equal(t, 6, calls)
		}
		assert.Greater(t, len(seen), 900, "waits are random")
	})
}

func TestRetry_LimitedByTimeAndContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		fail := func(context.Context) error { calls++; return errSerialization }
		steady := pgfx.RetryPolicy{MaxAttempts: pgfx.Off, MaxElapsed: pgfx.Off, Delay: time.Second, MinDelay: time.Second, Multiplier: 1}

		policy := steady
		policy.MaxElapsed = 3500 * time.Millisecond
		began := time.Now()
		require.ErrorContains(t, pgfx.Retry(t.Context(), policy, fail), "gave up after 4 attempts in 3s")
		assert.Equal(t, 3*time.Second, time.Since(began))

		calls, began = 0, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1500*time.Millisecond, cancel)
		require.ErrorContains(t, pgfx.Retry(ctx, steady, fail), "gave up after 2 attempts")
		assert.Equal(t, 1500*time.Millisecond, time.Since(began), "the end of ctx ends the wait")

		calls, began = 0, time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		require.Error(t, pgfx.Retry(ctx, steady, fail))
		assert.Less(t, time.Since(began), 1500*time.Millisecond)
		assert.Greater(t, calls, 3, "the remaining time is divided among further attempts")
	})
}

func TestRetryBudget_LimitsByCallsAndTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		budget := pgfx.NewRetryBudget(0.5, 4)
		policy := pgfx.RetryPolicy{MaxAttempts: 2, Delay: 1, MinDelay: pgfx.Off, Budget: budget}
		calls := func(n int, err error) (attempts int) {
			for range n {
				_ = pgfx.Retry(t.Context(), policy, func(context.Context) error { attempts++; return err })
			}
			return attempts
		}
		assert.Equal(t, 100, calls(100, nil))
		assert.Equal(t, 100+53, calls(100, errSerialization), "the reserve and half of the calls, rounded down")
		assert.Equal(t, pgfx.RetryStats{Calls: 200, Retries: 53, Refused: 47}, budget.Stats())
		time.Sleep(5 * time.Second)
		assert.Equal(t, 4, calls(2, errSerialization), "half of the reserve has refilled")
		time.Sleep(time.Hour)
		assert.Equal(t, 10+8, calls(10, errSerialization), "no more than the reserve")
	})
	assert.Zero(t, (*pgfx.RetryBudget)(nil).Stats(), "a nil budget counts nothing")
}

func TestDB_RetryPolicy(t *testing.T) {
	t.Parallel()
	retry := pgfx.RetryConfig{MaxAttempts: pgfx.Off, Delay: time.Second, Multiplier: 3}
	db := open(t, pgfx.Config{URL: "postgres://app@localhost/app", Retry: retry})
	policy := db.RetryPolicy()
	assert.Same(t, policy.Budget, db.RetryPolicy().Budget)
	assert.Equal(t, pgfx.Off, policy.MaxAttempts)
	assert.Equal(t, time.Second, policy.Delay)
	assert.InDelta(t, 3.0, policy.Multiplier, 0)
	assert.Equal(t, 5*time.Second, policy.MaxDelay)

	other := open(t, pgfx.Config{URL: "postgres://app@localhost/app", Retry: pgfx.RetryConfig{MaxAttempts: 4, Budget: pgfx.Off}})
	assert.Nil(t, other.RetryPolicy().Budget)
	assert.Equal(t, 4, other.RetryPolicy().MaxAttempts)
	assert.Equal(t, 3, open(t, pgfx.Config{URL: "postgres://app@localhost/app"}).RetryPolicy().MaxAttempts)
}

func TestRetryPolicy_Validate(t *testing.T) {
	t.Parallel()
	require.NoError(t, pgfx.RetryPolicy{}.Validate())
	require.NoError(t, pgfx.RetryPolicy{}.WithDefaults().Validate())
	for name, test := range map[string]struct {
		policy pgfx.RetryPolicy
		want   string
	}{
		"attempts":    {pgfx.RetryPolicy{MaxAttempts: -2}, `MaxAttempts is "-2": set 1 or more, 0 for the default, or pgfx.Off (-1) for no limit`},
		"elapsed":     {pgfx.RetryPolicy{MaxElapsed: -2}, `MaxElapsed is "-2ns": set a positive duration, 0 for the default, or pgfx.Off (-1ns) to disable it`},
		"delay":       {pgfx.RetryPolicy{Delay: -1}, `Delay is "-1ns": set a positive duration, or 0 for the default; it cannot be disabled`},
		"max delay":   {pgfx.RetryPolicy{Delay: 2, MaxDelay: 1}, `MaxDelay is "1ns": set at least Delay, which is 2ns`},
		"multiplier":  {pgfx.RetryPolicy{Multiplier: math.NaN()}, `Multiplier is "NaN": set a factor from 1 to 100, or 0 for the default`},
		"min delay":   {pgfx.RetryPolicy{MinDelay: time.Second}, `MinDelay is "1s": set at most Delay, which is 200ms`},
		"idempotency": {pgfx.RetryPolicy{Idempotency: 9}, `Idempotency is "9": set NotIdempotent or Idempotent`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := pgfx.Retry(t.Context(), test.policy, func(context.Context) error { return errors.New("was called") })
			require.EqualError(t, err, "pgfx: invalid retry policy: "+test.want)
		})
	}
}
