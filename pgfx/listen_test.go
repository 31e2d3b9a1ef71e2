package pgfx_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// listening returns a Listener that has begun to listen.
func listening(t *testing.T, db *pgfx.DB, channels ...string) *pgfx.Listener {
	t.Helper()
	listener, err := db.Listen(channels...)
	require.NoError(t, err)
	t.Cleanup(listener.Close)
	requireMissed(t, listener, "listening has just begun")
	return listener
}

// requireMissed requires that the next result reports that notifications may have been missed.
func requireMissed(t *testing.T, listener *pgfx.Listener, why string) {
	t.Helper()
	n, err := listener.Next(within(t, 2*eventually))
	require.NoError(t, err)
	require.ErrorContains(t, n.Missed, why)
}

// requireNotified requires that the next result is this notification.
func requireNotified(t *testing.T, listener *pgfx.Listener, channel, payload string) {
	t.Helper()
	n, err := listener.Next(within(t, eventually))
	require.NoError(t, err)
	require.NoError(t, n.Missed)
	require.Equal(t, channel, n.Channel)
	require.Equal(t, payload, n.Payload)
}

func notify(t *testing.T, db *pgfx.DB, channel, payload string) {
	t.Helper()
	_, err := db.Pool().Exec(t.Context(), "select pg_notify($1, $2)", channel, payload)
	require.NoError(t, err)
}

func TestListener_DeliversInOrder(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	strange := `Order "x"; drop ü`
	listener := listening(t, db, "listen_order", strange, "listen_order")
	var pid uint32
	require.NoError(t, db.AcquireFunc(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		pid = conn.PgConn().PID()
		_, err := conn.Exec(ctx, "notify listen_order, 'direct'")
		return err
	}))
	n, err := listener.Next(within(t, eventually))
	require.NoError(t, err)
	assert.Equal(t, pgfx.Notification{Channel: "listen_order", Payload: "direct", PID: pid}, n)
	for i := range 100 {
		notify(t, db, "listen_order", strconv.Itoa(i))
	}
	notify(t, db, "LISTEN_ORDER", "another channel")
	notify(t, db, strange, strings.Repeat("x", 7999))
	for i := range 100 {
		requireNotified(t, listener, "listen_order", strconv.Itoa(i))
	}
	requireNotified(t, listener, strange, strings.Repeat("x", 7999))

	_, err = db.Pool().Exec(t.Context(), "select pg_notify($1, $2)", strange, strings.Repeat("x", 8000))
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused, "the limit that the documentation names")
	assert.Equal(t, "22023", refused.Code)
}

func TestListener_ServesManyChannelsAndCallers(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	channels := make([]string, 1000)
	for i := range channels {
		channels[i] = fmt.Sprintf("listen_many_%d", i)
	}
	listener := listening(t, db, channels...)
	_, err := db.Pool().Exec(t.Context(), "select pg_notify(channel, channel) from unnest($1::text[]) as channel", channels)
	require.NoError(t, err)
	var mu sync.Mutex
	got := make(map[string]bool)
	var group sync.WaitGroup
	ctx := within(t, eventually)
	for range 4 {
		group.Go(func() {
			for range len(channels) / 4 {
				n, err := listener.Next(ctx)
				if err = errors.Join(err, n.Missed); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got[n.Channel] = n.Channel == n.Payload
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for _, channel := range channels {
		require.True(t, got[channel], channel)
	}
}

func TestListener_OverflowIsReportedInItsPlace(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	listener := listening(t, db, "listen_overflow", "listen_overflow_end")
	const kept, sent = 1024, 1500
	_, err := db.Pool().Exec(t.Context(), "select pg_notify('listen_overflow', i::text) from generate_series(1, $1::int) as i", sent)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return listener.Queued() == kept+1 }, eventually, tick, "the buffer is bounded")
	for i := range kept {
		requireNotified(t, listener, "listen_overflow", strconv.Itoa(i+1))
	}
	requireMissed(t, listener, "the buffer was full")
	notify(t, db, "listen_overflow_end", "")
	for { // some of the others may have found room meanwhile
		n, err := listener.Next(within(t, eventually))
		require.NoError(t, err)
		if n.Channel == "listen_overflow_end" {
			return
		}
	}
}

func TestListener_ReconnectsAndReportsMissed(t *testing.T) { //nolint:tparallel // the subtests share the proxy
	t.Parallel()
	proxy := faults.NewProxy(t, server.URL())
	direct := started(t, serverConfig())
	for name, strike := range map[string]func(t *testing.T, db *pgfx.DB){
		"backend terminated": func(t *testing.T, db *pgfx.DB) {
			t.Helper()
			_, err := direct.Pool().Exec(t.Context(),
				"select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", db.Config().ApplicationName+"/listen")
			require.NoError(t, err)
		},
		"connection reset": func(*testing.T, *pgfx.DB) { proxy.ResetConnections() },
		"half-open":        func(*testing.T, *pgfx.DB) { proxy.BlackHole() },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := pgfx.Config{URL: proxy.URL(), ApplicationName: strings.ReplaceAll(name, " ", "_")}
			cfg.Health.Interval, cfg.Health.Timeout = 50*time.Millisecond, 200*time.Millisecond
			db := started(t, cfg)
			channel := "listen_" + cfg.ApplicationName
			listener := listening(t, db, channel)
			notify(t, direct, channel, "before")
			requireNotified(t, listener, channel, "before")
			strike(t, db)
			requireMissed(t, listener, "the session was lost")
			notify(t, direct, channel, "after")
			requireNotified(t, listener, channel, "after")
			proxy.Heal()
		})
	}
}

func TestListener_SurvivesServer(t *testing.T) {
	t.Parallel()
	own := faults.NewServer(t)
	cfg := pgfx.Config{URL: own.URL()}
	cfg.Health.Interval = 50 * time.Millisecond
	db := started(t, cfg)
	listener := listening(t, db, "jobs")

	own.Restart()
	requireMissed(t, listener, "the session was lost")
	require.Eventually(t, func() bool {
		_, err := db.Pool().Exec(t.Context(), "notify jobs, 'after a restart'")
		return err == nil
	}, eventually, tick)
	requireNotified(t, listener, "jobs", "after a restart")

	own.Kill()
	require.ErrorIs(t, nextError(t, listener, syscall.ECONNREFUSED), syscall.ECONNREFUSED)
	own.Restart()
	requireMissed(t, listener, "the session was lost")

	own.ReadOnly(true)
	requireMissed(t, listener, "is read-only but Config.Role requires a writer")
}

// nextError waits until the Listener is not connected for this reason, and returns the error of a Next that ends then.
func nextError(t *testing.T, listener *pgfx.Listener, why error) error {
	t.Helper()
	require.Eventually(t, func() bool { return errors.Is(listener.Failure(), why) }, eventually, tick)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := listener.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	return err
}

func TestListener_WaitsForStartAndGate(t *testing.T) {
	t.Parallel()
	admin := started(t, serverConfig())
	db := open(t, serverConfig())
	listener, err := db.Listen("listen_gate")
	require.NoError(t, err)
	require.ErrorContains(t, nextError(t, listener, pgfx.ErrNotStarted), "listener not connected")
	require.NoError(t, db.Start(within(t, eventually)))
	requireMissed(t, listener, "listening has just begun")

	down := errors.New("down")
	db.Internals().Gate().Close(down)
	terminate := func() (n int) {
		require.NoError(t, admin.Pool().QueryRow(t.Context(),
			"select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where query = $1", `listen "listen_gate";`).Scan(&n))
		return n
	}
	assert.Equal(t, 1, terminate())
	require.ErrorIs(t, nextError(t, listener, down), down)
	assert.Zero(t, terminate(), "the listener does not connect")
	db.Internals().Gate().Open()
	requireMissed(t, listener, "the session was lost")
}

func TestListener_EndsWithItsOwnersAndCtx(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	first, second := listening(t, db, "listen_end"), listening(t, db, "listen_end")
	ctx, expire := testctx.Expiring(t.Context())
	expire()
	_, err := first.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	notify(t, db, "listen_end", "still listening")
	requireNotified(t, first, "listen_end", "still listening")

	ended := make(chan error, 1)
	go func() {
		_, err := first.Next(context.Background())
		ended <- err
	}()
	first.Close()
	first.Close()
	require.ErrorIs(t, <-ended, pgfx.ErrListenerClosed)
	requireNotified(t, second, "listen_end", "still listening")

	require.NoError(t, db.Close(within(t, eventually)))
	_, err = second.Next(t.Context())
	require.ErrorIs(t, err, pgfx.ErrListenerClosed)
	_, err = db.Listen("listen_end")
	require.ErrorIs(t, err, pgfx.ErrClosed)
}

func TestListen_RefusesBadChannels(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	for _, channels := range [][]string{{}, {""}, {strings.Repeat("x", 64)}, {"good", "b\x00d"}} {
		_, err := db.Listen(channels...)
		require.ErrorContains(t, err, "pgfx: listen:")
	}
}

func TestListener_FailsBehindTransactionPooler(t *testing.T) {
	t.Parallel()
	pooled, _ := pgBouncer(t, 2)
	declared := started(t, pooled)
	_, err := declared.Listen("jobs")
	require.ErrorIs(t, err, pgfx.ErrNoSession)

	pooled.Pooler, pooled.ExecMode = pgfx.PoolerDirect, pgfx.ExecUntyped
	pooled.Health.Interval = 10 * time.Millisecond
	db := started(t, pooled)
	listener := listening(t, db, "jobs")
	// A transaction occupies each of the two sessions in turn, so the Listener gets the other.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		for ctx.Err() == nil {
			tx, err := db.Pool().Begin(ctx)
			if err == nil {
				_, _ = tx.Exec(ctx, "select pg_sleep(0.05)")
				_ = tx.Rollback(context.WithoutCancel(ctx))
			}
		}
	})
	for {
		_, err = listener.Next(within(t, eventually))
		if err != nil {
			break
		}
	}
	require.ErrorIs(t, err, pgfx.ErrNoSession)
	assert.ErrorContains(t, err, "a pooler has given the listener's session to another client")
}
