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
)

func TestObserver_OrderAndPanic(t *testing.T) {
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
	panics := logs.FilterMessage("health observer panicked").FilterField(zap.String("observer", "b"))
	assert.Equal(t, 2, panics.Len())
}

func TestObserver_HangingDelaysNeitherProbesNorClose(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p))
	released := make(chan struct{})
	monitor, transitions := startMonitor(t, db, health.WithObservers(health.Observer{
		Observe: func(ctx context.Context, _ health.Transition) {
			<-ctx.Done()
			<-released
		},
	}))
	p.disconnectAndRefuse()
	assert.Equal(t, health.Down, nextTransition(t, transitions).To)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("out of time"))
	err := monitor.Close(ctx)
	require.ErrorContains(t, err, "health: close: ")
	require.ErrorContains(t, err, "out of time")
	close(released)
	require.NoError(t, monitor.Close(t.Context()), "a later stop waits for the end")
}

func TestSubscribe_SlowSubscriberLosesOldest(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	db := newDB(t, viaProxy(p))
	monitor, transitions := startMonitor(t, db)
	follow, cancel := monitor.Subscribe()
	const rounds = 10
	for range rounds {
		p.disconnectAndRefuse()
		awaitState(t, follow, health.Down)
		p.Heal()
		awaitState(t, follow, health.Up)
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
