package health_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestMonitor_StartWaitsForFirstProbe(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor := newMonitor(t, db)
	assert.Equal(t, health.Starting, monitor.Status().State)
	assert.False(t, monitor.Status().Monitored)
	require.NoError(t, monitor.Start(t.Context()))

	status := monitor.Status()
	assert.Equal(t, health.Up, status.State)
	assert.True(t, status.Monitored)
	assert.True(t, status.Initialized)
	assert.True(t, monitor.IsHealthy())
	assert.True(t, monitor.IsInitialized())
	assert.Empty(t, status.Cause)
	require.NoError(t, status.Err)
	assert.Equal(t, status.LastProbe.At, status.LastGood)
	assert.Positive(t, status.LastProbe.Latency)
	assert.True(t, status.LastProbe.NewConn)
	assert.Equal(t, 10, status.Pool.Max)
	require.Len(t, status.History, 1)
	assert.Equal(t, health.Starting, status.History[0].From)

	assert.False(t, status.Server.ReadOnly)
	assert.False(t, status.Server.InRecovery)
	assert.NotEmpty(t, status.Server.SystemIdentifier)
	assert.Positive(t, status.Server.Timeline)
	assert.Positive(t, status.Server.Connections)
	assert.Greater(t, status.Server.MaxConnections, 200)
	assert.WithinDuration(t, time.Now(), status.Server.StartedAt, time.Hour)
}

func TestMonitor_KeepsOneConnectionUntilClose(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := startMonitor(t, db)
	require.Eventually(t, func() bool { // the second probe, unless the connection is slower than keptTimeout
		status, err := monitor.ProbeNow(t.Context())
		return err == nil && !status.LastProbe.NewConn
	}, waitLimit, time.Millisecond, "a probe uses the connection of the previous one")
	require.Eventually(t, func() bool { return monitorConns(t, db) == 1 }, waitLimit, time.Millisecond)

	require.NoError(t, monitor.Close(t.Context()))
	require.Eventually(t, func() bool { return monitorConns(t, db) == 0 }, waitLimit, time.Millisecond)
	assert.Equal(t, health.Stopped, nextTransition(t, transitions).To)
	_, open := <-transitions
	assert.False(t, open, "Close ends the subscriptions")
	assert.Equal(t, health.Stopped, monitor.Status().State)
	assert.False(t, monitor.Status().Monitored)
	assert.False(t, monitor.IsHealthy())

	_, err := monitor.ProbeNow(t.Context())
	require.ErrorIs(t, err, health.ErrClosed)
	require.ErrorIs(t, monitor.Start(t.Context()), health.ErrClosed)
	require.NoError(t, monitor.Close(t.Context()), "Close may be called again")
	late, cancel := monitor.Subscribe()
	defer cancel()
	_, open = <-late
	assert.False(t, open)
}

func TestMonitor_CloseBeforeStart(t *testing.T) {
	t.Parallel()
	monitor := newMonitor(t, newDB(t))
	require.NoError(t, monitor.Close(t.Context()))
	require.ErrorIs(t, monitor.Start(t.Context()), health.ErrClosed)
}

func TestMonitor_SecondStartDoesNothing(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, _ := startMonitor(t, db)
	require.NoError(t, monitor.Start(t.Context()))
	assert.Equal(t, 1, monitorConns(t, db))
}

func TestMonitor_ConcurrentStartAndClose(t *testing.T) {
	t.Parallel()
	db := newDB(t, interval(time.Millisecond))
	for range 20 {
		monitor, err := health.NewMonitor(db)
		require.NoError(t, err)
		done := make(chan struct{}, 4)
		for _, do := range []func(context.Context) error{
			monitor.Start, monitor.Close, monitor.Start,
			func(ctx context.Context) error { _, err := monitor.ProbeNow(ctx); return err },
		} {
			go func() {
				_ = do(t.Context())
				done <- struct{}{}
			}()
		}
		for range 4 {
			<-done
		}
		require.NoError(t, monitor.Close(t.Context()))
	}
	require.Eventually(t, func() bool { return monitorConns(t, db) == 0 }, waitLimit, time.Millisecond)
}

func TestMonitor_NoticesLostServerAtOnce(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p))
	core, logs := observer.New(zap.InfoLevel)
	monitor, transitions := startMonitor(t, db, health.WithLogger(zap.New(core)))

	p.disconnectAndRefuse()
	down := nextTransition(t, transitions)
	assert.Equal(t, health.Up, down.From)
	assert.Equal(t, health.Down, down.To)
	assert.Equal(t, pgfx.CauseRefused, down.Cause)
	require.Error(t, down.Err)
	assert.False(t, monitor.IsHealthy())
	assert.Equal(t, pgfx.CauseRefused, monitor.Status().Cause)
	require.Error(t, monitor.Status().Err)

	_, err := db.Pool().Exec(t.Context(), "select 1")
	var unavailable *pgfx.UnavailableError
	require.ErrorAs(t, err, &unavailable, "the gate is closed")
	assert.Equal(t, pgfx.CauseRefused, pgfx.CauseOf(unavailable.Cause))

	p.Heal()
	for err := db.Internals().Gate().Err(); err != nil; err = db.Internals().Gate().Err() {
		require.ErrorAs(t, err, &unavailable)
		require.Error(t, unavailable.Cause, "also between the first successful probe and the second")
		runtime.Gosched()
	}
	up := nextTransition(t, transitions)
	assert.Equal(t, health.Down, up.From)
	assert.Equal(t, health.Up, up.To)
	assert.Equal(t, health.ResetRecovered, up.Reset)
	require.NoError(t, up.Err)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "the first statement after the recovery succeeds")
	status := monitor.Status()
	assert.Equal(t, 1, status.Resets)
	assert.Equal(t, map[health.ResetReason]int{status.LastReset: 1}, status.ResetsByReason)
	changes := 0
	for _, transition := range status.History {
		if transition.From != transition.To {
			changes++
			assert.Positive(t, status.Transitions[transition.To])
		}
	}
	counted := 0
	for _, n := range status.Transitions {
		counted += n
	}
	assert.Equal(t, changes, counted)
	assert.Equal(t, health.ResetRecovered, monitor.Status().LastReset)
	assert.Len(t, monitor.Status().History, 3)

	assert.Equal(t, 1, logs.FilterMessage("database down").FilterField(zap.String("cause", "refused")).Len(), "one line for each transition")
	assert.Equal(t, 2, logs.FilterMessage("database up").Len())
	assert.Equal(t, 3, logs.Len())
}

func TestMonitor_ServerThatAcceptsAndKillsStaysDown(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p))
	monitor, transitions := startMonitor(t, db)
	p.kill(faults.OnAccept)
	assert.Equal(t, pgfx.CauseKilled, awaitState(t, transitions, health.Down).Cause)
	for range 5 {
		status, err := monitor.ProbeNow(t.Context())
		require.Error(t, err)
		assert.Equal(t, health.Down, status.State)
	}
	assert.Empty(t, transitions, "the state does not flap")
	p.Heal()
	awaitState(t, transitions, health.Up)
}

func TestMonitor_ServerThatKillsAfterLoginStaysDown(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p))
	_, transitions := startMonitor(t, db)
	p.kill(faults.AfterLogin)
	assert.Equal(t, pgfx.CauseKilled, awaitState(t, transitions, health.Down).Cause)
	accepted := p.Accepted()
	require.NoError(t, p.AwaitAccepted(t.Context(), accepted+3))
	assert.Empty(t, transitions, "a successful login is not a recovery")
	p.Heal()
	awaitState(t, transitions, health.Up)
}

func TestMonitor_ResetsHalfOpenConnections(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), timeout(10*time.Second))
	monitor, transitions := startMonitor(t, db)
	accepted := p.Accepted()
	p.freeze(false)
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	// Another probe, which keeps the connection, may have followed. So status.LastProbe need not be the one of this call.
	assert.Equal(t, accepted+1, p.Accepted(), "the probe opened a connection")
	assert.Equal(t, 1, status.Resets)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, transitions)
}

func TestMonitor_DownAfterSecondTimeout(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), timeout(time.Second)) // after Heal the database must answer within it too
	monitor := newMonitor(t, db)
	transitions, _ := monitor.Subscribe()
	p.freeze(true)
	_, err := monitor.ProbeNow(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, health.Starting, monitor.Status().State, "one timeout is a suspected failure")
	status, err := monitor.ProbeNow(t.Context())
	require.Error(t, err)
	assert.Equal(t, health.Down, status.State)
	assert.Equal(t, pgfx.CauseTimeout, status.Cause)
	assert.Equal(t, health.Down, nextTransition(t, transitions).To)
	assert.NoError(t, db.Internals().Gate().Err(), "no later probe would open it")

	require.NoError(t, monitor.Start(t.Context()))
	require.Eventually(t, func() bool { return db.Internals().Gate().Err() != nil }, waitLimit, time.Millisecond,
		"a running monitor closes the gate")
	p.Heal()
	awaitState(t, transitions, health.Up)
	require.NoError(t, db.Internals().Gate().Err())
}

func TestMonitor_CloseInterruptsProbe(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), timeout(time.Hour), func(c *pgfx.Config) { c.Timeouts.Connect = time.Hour })
	monitor, _ := startMonitor(t, db)
	p.freeze(true)
	checked := make(chan error, 1)
	go func() {
		_, err := monitor.ProbeNow(context.Background())
		checked <- err
	}()
	require.Eventually(t, func() bool { return p.Connections() > 2 }, waitLimit, time.Millisecond, "the probe dials a third connection")
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	require.NoError(t, monitor.Close(ctx))
	require.ErrorIs(t, <-checked, health.ErrClosed)
}

func TestMonitor_InterruptedProbeHasNoEffect(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), timeout(time.Hour))
	monitor := newMonitor(t, db)
	p.freeze(true)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := monitor.ProbeNow(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	assert.Equal(t, health.Starting, monitor.Status().State)
	assert.True(t, monitor.Status().LastProbe.At.IsZero())
	p.Heal()
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
}

func TestMonitor_LostConnectionResetsPoolOnly(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := startMonitor(t, db)
	lastProbe := monitor.Status().LastProbe.At
	terminateMonitorConn(t, db)
	status := awaitStatus(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(lastProbe) })
	assert.Equal(t, health.Up, status.State)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	assert.Empty(t, transitions)
}

func TestMonitor_LeavesDemotedServerForWriter(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := startMonitor(t, db)
	exec(t, server.URL(), "alter database "+config.Database+" set default_transaction_read_only = on")
	terminateMonitorConn(t, db)
	demoted := nextTransition(t, transitions)
	assert.Equal(t, health.ReadOnly, demoted.To)
	assert.Equal(t, health.ResetRoleChanged, demoted.Reset)
	assert.True(t, monitor.Status().Server.ReadOnly)
	assert.True(t, monitor.IsHealthy(), "reads work")
	require.NoError(t, db.Internals().Gate().Err())

	exec(t, server.URL(), "alter database "+config.Database+" set default_transaction_read_only = off")
	promoted := nextTransition(t, transitions)
	assert.Equal(t, health.Up, promoted.To, "each probe of a demoted server opens a new connection")
	assert.Equal(t, health.ResetRoleChanged, promoted.Reset)
}

func TestMonitor_ExhaustedPoolIsDegraded(t *testing.T) {
	t.Parallel()
	db := newDB(t, maxConns(1))
	core, logs := observer.New(zap.WarnLevel)
	monitor, transitions := startMonitor(t, db, health.WithLogger(zap.New(core)))
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(ctx, "select 1")
		waited <- err
	}()
	require.Eventually(t, func() bool { return db.Stats().Pool.Waiting > 0 }, waitLimit, time.Millisecond)
	_, err = monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	degraded := nextTransition(t, transitions)
	assert.Equal(t, health.Degraded, degraded.To)
	assert.Equal(t, []health.Reason{health.ReasonPoolExhausted}, degraded.Reasons)
	assert.True(t, monitor.IsHealthy())
	assert.Contains(t, logs.All()[0].ContextMap()["holders"].([]any)[0], "TestMonitor_ExhaustedPool")

	conn.Release()
	require.NoError(t, <-waited)
	cancel()
	assert.Equal(t, health.Up, nextTransition(t, transitions).To)
	assert.Zero(t, monitor.Status().Resets)
}

func TestMonitor_WorksWithoutControlDataPrivilege(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	exec(t, urlOf(config), `revoke execute on function pg_control_system() from public;
		create role `+config.Database+` login; grant connect on database `+config.Database+` to `+config.Database)
	t.Cleanup(func() {
		exec(t, urlOf(config), "drop owned by "+config.Database)
		exec(t, server.URL(), "drop role "+config.Database)
	})
	config.Username = config.Database
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, _ := startMonitor(t, db)
	for range 2 {
		status, err := monitor.ProbeNow(t.Context())
		require.NoError(t, err)
		assert.Equal(t, health.Up, status.State)
		assert.Empty(t, status.Server.SystemIdentifier)
		assert.False(t, status.Server.StartedAt.IsZero())
		assert.False(t, status.LastProbe.NewConn)
	}
}

func TestMonitor_ConcurrentCallersShareProbe(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), timeout(time.Second)) // all callers arrive during the first probes
	monitor, _ := startMonitor(t, db)
	p.freeze(true)
	const callers = 50
	results := make(chan time.Time, callers)
	for range callers {
		go func() {
			status, _ := monitor.ProbeNow(context.Background())
			results <- status.LastProbe.At
		}()
	}
	probes := make(map[time.Time]bool)
	for range callers {
		probes[<-results] = true
	}
	p.Heal()
	assert.LessOrEqual(t, len(probes), 4, "each caller gets a probe that began after its call, and no further ones run")
}

func TestNewMonitor_WithoutDatabase(t *testing.T) {
	t.Parallel()
	_, err := health.NewMonitor(nil)
	require.ErrorContains(t, err, "health: no database")
}

func TestMonitor_IntervalOff(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p), interval(pgfx.Off))
	monitor, transitions := startMonitor(t, db)
	assert.False(t, monitor.Status().Monitored)
	assert.Equal(t, health.Starting, monitor.Status().State)
	assert.True(t, monitor.IsHealthy(), "the start has reached the database")

	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.Equal(t, health.Up, nextTransition(t, transitions).To)
	require.Eventually(t, func() bool { return monitorConns(t, db) == 0 }, waitLimit, 1e6,
		"a monitor that does not probe by itself keeps no connection")

	p.disconnectAndRefuse()
	status, err = monitor.ProbeNow(t.Context())
	require.Error(t, err)
	assert.Equal(t, health.Down, status.State)
	assert.False(t, monitor.IsHealthy())
	require.NoError(t, db.Internals().Gate().Err(), "no later probe would open it")
}

func TestMonitor_OptionalAndLazyStartRecover(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgfx.StartMode{pgfx.StartOptional, pgfx.StartLazy} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			db := openDB(t, newConfig(t, viaProxy(p), startMode(mode)))
			p.disconnectAndRefuse()
			require.NoError(t, db.Start(t.Context()))
			monitor := newMonitor(t, db)
			transitions, _ := monitor.Subscribe()
			require.NoError(t, monitor.Start(t.Context()))
			assert.Equal(t, pgfx.CauseRefused, awaitState(t, transitions, health.Down).Cause)
			assert.False(t, monitor.IsInitialized())
			_, err := db.Pool().Exec(t.Context(), "select 1")
			require.ErrorIs(t, err, pgfx.ErrUnavailable)
			p.Heal()
			awaitState(t, transitions, health.Up)
			awaitStatus(t, monitor, func(s health.Status) bool { return s.Initialized })
			_, err = db.Pool().Exec(t.Context(), "select 1")
			require.NoError(t, err)
		})
	}
}

func TestMonitor_LeavesGateToDBBeforeItsStart(t *testing.T) {
	t.Parallel()
	db := openDB(t, newConfig(t))
	monitor, transitions := startMonitor(t, db)
	awaitState(t, transitions, health.Up)
	require.ErrorIs(t, db.Internals().Gate().Err(), pgfx.ErrNotStarted)
	require.NoError(t, db.Start(t.Context()))
	_, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.NoError(t, db.Internals().Gate().Err())
}

func TestMonitor_SecondMonitorIsIndependent(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	first, transitions := startMonitor(t, db)
	second, _ := startMonitor(t, db)
	require.NoError(t, second.Close(t.Context()))
	lastProbe := first.Status().LastProbe.At
	_, err := db.Pool().Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())")
	require.Error(t, err)
	awaitStatus(t, first, func(s health.Status) bool { return s.LastProbe.At.After(lastProbe) })
	assert.Empty(t, transitions)
	// The server may need a moment to end the session of the closed monitor.
	require.Eventually(t, func() bool { return monitorConns(t, db) == 1 }, waitLimit, time.Millisecond)
}
