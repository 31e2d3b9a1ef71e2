package health_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestNewMonitor_WithoutDatabase(t *testing.T) {
	t.Parallel()
	_, err := health.NewMonitor(nil)
	require.ErrorContains(t, err, "health: no database")
}

func TestObserversAreCalledInOrderAndMayPanic(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.ErrorLevel)
	calls := make(chan string, 10)
	called := func(name string, order int) health.Observer {
		return health.Observer{Name: name, Order: order, Observe: func(_ context.Context, transition health.Transition) {
			calls <- name + " " + string(transition.To)
			if name == "b" {
				panic("boom")
			}
		}}
	}
	other := called("other", 0).For("reporting")
	monitor := newMonitor(t, newDB(t), health.WithLogger(zap.New(core)),
		health.WithObservers(called("last", 1), called("c", 0), called("b", 0), other, health.Observer{Name: "empty"}))
	require.NoError(t, monitor.Start(t.Context()))
	require.NoError(t, monitor.Close(t.Context()))
	close(calls)
	got := make([]string, 0, len(calls))
	for call := range calls {
		got = append(got, call)
	}
	assert.Equal(t, []string{"b up", "c up", "last up", "b stopped", "c stopped", "last stopped"}, got)
	panics := logs.FilterMessage("a health observer panicked").FilterField(zap.String("observer", "b"))
	assert.Equal(t, 2, panics.Len())
}

func TestAnObserverThatHangsHoldsUpNeitherTheMonitorNorTheStop(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p))
	released := make(chan struct{})
	monitor, transitions := watch(t, db, health.WithObservers(health.Observer{
		Observe: func(ctx context.Context, _ health.Transition) {
			<-ctx.Done()
			<-released
		},
	}))
	p.refuse()
	assert.Equal(t, health.Down, next(t, transitions).To)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("out of time"))
	err := monitor.Close(ctx)
	require.ErrorContains(t, err, "health: close: ")
	require.ErrorContains(t, err, "out of time")
	close(released)
	require.NoError(t, monitor.Close(t.Context()), "a later stop waits for the end")
}

func TestWithTheIntervalOffNothingRunsAndCheckNowStillWorks(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p), interval(pgfx.Off))
	monitor, transitions := watch(t, db)
	assert.False(t, monitor.Status().Monitored)
	assert.Equal(t, health.Starting, monitor.Status().State)
	assert.True(t, monitor.IsHealthy(), "the start has reached the database")

	status, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.Equal(t, health.Up, status.State)
	assert.Equal(t, health.Up, next(t, transitions).To)
	require.Eventually(t, func() bool { return count(t, db) == 0 }, patience, 1e6, "no connection is kept that nobody watches")

	p.refuse()
	status, err = monitor.ProbeNow(t.Context())
	require.Error(t, err)
	assert.Equal(t, health.Down, status.State)
	assert.False(t, monitor.IsHealthy())
	require.NoError(t, db.Internals().Gate().Err(), "nobody would open it again")
}

func TestADegradedStartRecoversByItself(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgfx.StartMode{pgfx.StartOptional, pgfx.StartLazy} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			p := newProxy(t)
			db := openDB(t, newConfig(t, through(p), startMode(mode)))
			p.refuse()
			require.NoError(t, db.Start(t.Context()))
			monitor := newMonitor(t, db)
			transitions, _ := monitor.Subscribe()
			require.NoError(t, monitor.Start(t.Context()))
			assert.Equal(t, pgfx.CauseRefused, until(t, transitions, health.Down).Cause)
			assert.False(t, monitor.IsInitialized())
			_, err := db.Pool().Exec(t.Context(), "select 1")
			require.ErrorIs(t, err, pgfx.ErrUnavailable)
			p.Heal()
			until(t, transitions, health.Up)
			eventually(t, monitor, func(s health.Status) bool { return s.Initialized })
			_, err = db.Pool().Exec(t.Context(), "select 1")
			require.NoError(t, err)
		})
	}
}

func TestAMonitorThatRunsBeforeItsDatabaseIsStartedLeavesTheGateToIt(t *testing.T) {
	t.Parallel()
	db := openDB(t, newConfig(t))
	monitor, transitions := watch(t, db)
	until(t, transitions, health.Up)
	require.ErrorIs(t, db.Internals().Gate().Err(), pgfx.ErrNotStarted)
	require.NoError(t, db.Start(t.Context()))
	_, err := monitor.ProbeNow(t.Context())
	require.NoError(t, err)
	assert.NoError(t, db.Internals().Gate().Err())
}

func TestASubscriberThatIsTooSlowLosesTheOldest(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, through(p))
	monitor, transitions := watch(t, db)
	follow, cancel := monitor.Subscribe()
	const rounds = 10
	for range rounds {
		p.refuse()
		until(t, follow, health.Down)
		p.Heal()
		until(t, follow, health.Up)
	}
	cancel()
	cancel()
	assert.Len(t, transitions, cap(transitions))
	assert.Equal(t, 2*rounds-cap(transitions), monitor.Status().DroppedTransitions)
	var last health.Transition
	for range cap(transitions) {
		last = <-transitions
	}
	assert.Equal(t, health.Up, last.To, "what is true now is not lost")
	assert.Len(t, monitor.Status().History, min(32, 2*rounds+1))
}
