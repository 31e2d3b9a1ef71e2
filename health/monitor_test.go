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

func TestStartEndsWithAVerdictWhenTheDatabaseIsThere(t *testing.T) {
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
	assert.True(t, status.LastProbe.Fresh)
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

func TestTheMonitorKeepsOneConnectionAndClosesItAtStop(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := watch(t, db)
	require.Eventually(t, func() bool { // the second, unless the connection is slower than the monitor waits for it
		status, err := monitor.ProbeNow(t.Context())
		return err == nil && !status.LastProbe.Fresh
	}, patience, time.Millisecond, "a look runs on the connection of the one before")
	require.Eventually(t, func() bool { return count(t, db) == 1 }, patience, time.Millisecond)

	require.NoError(t, monitor.Close(t.Context()))
	require.Eventually(t, func() bool { return count(t, db) == 0 }, patience, time.Millisecond)
	assert.Equal(t, health.Stopped, next(t, transitions).To)
	_, open := <-transitions
	assert.False(t, open, "stop ends the subscriptions")
	assert.Equal(t, health.Stopped, monitor.Status().State)
	assert.False(t, monitor.Status().Monitored)
	assert.False(t, monitor.IsHealthy())

	_, err := monitor.ProbeNow(t.Context())
	require.ErrorIs(t, err, health.ErrStopped)
	require.ErrorIs(t, monitor.Start(t.Context()), health.ErrStopped)
	require.NoError(t, monitor.Close(t.Context()), "stop may be called again")
	late, cancel := monitor.Subscribe()
	defer cancel()
	_, open = <-late
	assert.False(t, open)
}

func TestStopBeforeStartIsFine(t *testing.T) {
	t.Parallel()
	monitor := newMonitor(t, newDB(t))
	require.NoError(t, monitor.Close(t.Context()))
	require.ErrorIs(t, monitor.Start(t.Context()), health.ErrStopped)
}

func TestASecondStartDoesNothing(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, _ := watch(t, db)
	require.NoError(t, monitor.Start(t.Context()))
	assert.Equal(t, 1, count(t, db))
}

func TestStartAndStopInAnyOrderLeaveNothingBehind(t *testing.T) {
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
	require.Eventually(t, func() bool { return count(t, db) == 0 }, patience, time.Millisecond)
}

func TestALostServerIsNoticedAtOnceAndComesBackByItself(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p))
	core, logs := observer.New(zap.InfoLevel)
	monitor, transitions := watch(t, db, health.WithLogger(zap.New(core)))

	p.refuse()
	down := next(t, transitions)
	assert.Equal(t, health.Up, down.From)
	assert.Equal(t, health.Down, down.To)
	assert.Equal(t, pgfx.CauseRefused, down.Cause)
	require.Error(t, down.Err)
	assert.False(t, monitor.IsHealthy())
	assert.Equal(t, pgfx.CauseRefused, monitor.Status().Cause)
	require.Error(t, monitor.Status().Err)

	_, err := db.Pool().Exec(t.Context(), "select 1")
	var unavailable *pgfx.UnavailableError
	require.ErrorAs(t, err, &unavailable, "the gate is shut")
	assert.Equal(t, pgfx.CauseRefused, pgfx.CauseOf(unavailable.Cause))

	p.Heal()
	for err := db.Internals().Gate().Err(); err != nil; err = db.Internals().Gate().Err() {
		require.ErrorAs(t, err, &unavailable)
		require.Error(t, unavailable.Cause, "between the first good look and the second, too")
		runtime.Gosched()
	}
	up := next(t, transitions)
	assert.Equal(t, health.Down, up.From)
	assert.Equal(t, health.Up, up.To)
	assert.Equal(t, health.ResetRecovered, up.Reset)
	require.NoError(t, up.Err)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "the first statement after the recovery succeeds")
	assert.Equal(t, 1, monitor.Status().Resets)
	assert.Equal(t, health.ResetRecovered, monitor.Status().LastReset)
	assert.Len(t, monitor.Status().History, 3)

	assert.Equal(t, 1, logs.FilterMessage("database down").FilterField(zap.String("cause", "refused")).Len(), "one line for a transition")
	assert.Equal(t, 2, logs.FilterMessage("database up").Len())
	assert.Equal(t, 3, logs.Len())
}

func TestAServerThatAcceptsAndKillsStaysDown(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p))
	monitor, transitions := watch(t, db)
	p.kill(faults.OnAccept)
	assert.Equal(t, pgfx.CauseKilled, until(t, transitions, health.Down).Cause)
	for range 5 {
		status, err := monitor.ProbeNow(t.Context())
		require.Error(t, err)
		assert.Equal(t, health.Down, status.State)
	}
	assert.Empty(t, transitions, "it doesn't flap")
	p.Heal()
	until(t, transitions, health.Up)
}

func TestAServerThatLogsInAndThenDiesIsDown(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p))
	_, transitions := watch(t, db)
	p.kill(faults.AfterLogin)
	assert.Equal(t, pgfx.CauseKilled, until(t, transitions, health.Down).Cause)
	accepted := p.Accepted()
	require.NoError(t, p.AwaitAccepted(t.Context(), accepted+3))
	assert.Empty(t, transitions, "a login that succeeds is no recovery")
	p.Heal()
	until(t, transitions, health.Up)
}

func TestHalfOpenConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), timeout(10*time.Second))
	monitor, transitions := watch(t, db)
	p.freeze(false)
	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.True(t, status.LastProbe.Fresh)
	assert.Equal(t, 1, status.Resets)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	assert.Empty(t, transitions)
}

func TestABlackHoleIsDownAfterTheSecondTimeoutAndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), timeout(time.Second)) // the database that is back has to answer in that time, too
	monitor := newMonitor(t, db)
	transitions, _ := monitor.Subscribe()
	p.freeze(true)
	_, err := monitor.ProbeNow(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, health.Starting, monitor.Status().State, "one timeout is no proof")
	status, err := monitor.ProbeNow(t.Context())
	require.Error(t, err)
	assert.Equal(t, health.Down, status.State)
	assert.Equal(t, pgfx.CauseTimeout, status.Cause)
	assert.Equal(t, health.Down, next(t, transitions).To)
	assert.NoError(t, db.Internals().Gate().Err(), "nobody would open it again")

	require.NoError(t, monitor.Start(t.Context()))
	require.Eventually(t, func() bool { return db.Internals().Gate().Err() != nil }, patience, time.Millisecond, "a running monitor shuts the gate")
	p.Heal()
	until(t, transitions, health.Up)
	require.NoError(t, db.Internals().Gate().Err())
}

func TestStopDoesNotWaitForABlackHole(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), timeout(time.Hour), func(c *pgfx.Config) { c.Timeouts.Connect = time.Hour })
	monitor, _ := watch(t, db)
	p.freeze(true)
	checked := make(chan error, 1)
	go func() {
		_, err := monitor.ProbeNow(context.Background())
		checked <- err
	}()
	require.Eventually(t, func() bool { return p.Connections() > 2 }, patience, time.Millisecond, "the look dials a third connection")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, monitor.Close(ctx))
	require.ErrorIs(t, <-checked, health.ErrStopped)
}

func TestALookThatItsCallerCutsShortCountsForNothing(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), timeout(time.Hour))
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

func TestALostConnectionOfTheMonitorRaisesSuspicionAndNoAlarm(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	monitor, transitions := watch(t, db)
	looked := monitor.Status().LastProbe.At
	terminate(t, db)
	status := eventually(t, monitor, func(s health.Status) bool { return s.LastProbe.At.After(looked) })
	assert.Equal(t, health.Up, status.State)
	assert.Equal(t, health.ResetSuspect, status.LastReset)
	assert.Empty(t, transitions)
}

func TestADemotedServerIsReadOnlyAndIsLeftWhenAWriterIsBack(t *testing.T) {
	t.Parallel()
	config := newConfig(t)
	db := openDB(t, config)
	require.NoError(t, db.Start(t.Context()))
	monitor, transitions := watch(t, db)
	exec(t, server.URL(), "alter database "+config.Database+" set default_transaction_read_only = on")
	terminate(t, db)
	demoted := next(t, transitions)
	assert.Equal(t, health.ReadOnly, demoted.To)
	assert.Equal(t, health.ResetRoleChanged, demoted.Reset)
	assert.True(t, monitor.Status().Server.ReadOnly)
	assert.True(t, monitor.IsHealthy(), "reads work")
	require.NoError(t, db.Internals().Gate().Err())

	exec(t, server.URL(), "alter database "+config.Database+" set default_transaction_read_only = off")
	promoted := next(t, transitions)
	assert.Equal(t, health.Up, promoted.To, "each look at a demoted server asks on a new connection who is there now")
	assert.Equal(t, health.ResetRoleChanged, promoted.Reset)
}

func TestAnExhaustedPoolIsNotADatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	db := newDB(t, maxConns(1))
	core, logs := observer.New(zap.WarnLevel)
	monitor, transitions := watch(t, db, health.WithLogger(zap.New(core)))
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, err := db.Pool().Exec(ctx, "select 1")
		waited <- err
	}()
	require.Eventually(t, func() bool { return db.Stats().Pool.Waiting > 0 }, patience, time.Millisecond)
	_, err = monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	degraded := next(t, transitions)
	assert.Equal(t, health.Degraded, degraded.To)
	assert.Equal(t, []health.Reason{health.ReasonPoolExhausted}, degraded.Reasons)
	assert.True(t, monitor.IsHealthy())
	assert.Contains(t, logs.All()[0].ContextMap()["holders"].([]any)[0], "TestAnExhaustedPool")

	conn.Release()
	require.NoError(t, <-waited)
	cancel()
	assert.Equal(t, health.Up, next(t, transitions).To)
	assert.Zero(t, monitor.Status().Resets)
}

func TestARoleThatMayNotAskForControlDataIsWatchedAllTheSame(t *testing.T) {
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
	monitor, _ := watch(t, db)
	for range 2 {
		status, err := monitor.ProbeNow(t.Context())
		require.NoError(t, err)
		assert.Equal(t, health.Up, status.State)
		assert.Empty(t, status.Server.SystemIdentifier)
		assert.False(t, status.Server.StartedAt.IsZero())
		assert.False(t, status.LastProbe.Fresh)
	}
}

func TestCallersAtTheSameTimeShareALook(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), timeout(time.Second)) // the callers come within the first looks
	monitor, _ := watch(t, db)
	p.freeze(true)
	const callers = 50
	results := make(chan time.Time, callers)
	for range callers {
		go func() {
			status, _ := monitor.ProbeNow(context.Background())
			results <- status.LastProbe.At
		}()
	}
	looks := make(map[time.Time]bool)
	for range callers {
		looks[<-results] = true
	}
	p.Heal()
	assert.LessOrEqual(t, len(looks), 4, "each caller gets a look that began after its call, and no more are made")
}
