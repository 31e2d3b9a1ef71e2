package health

import (
	"context"
	"time"

	"go.uber.org/fx"
)

// Drain makes the [Handler] answer "not ready" from now on and returns after delay, so that load balancers have noticed before
// anything is closed: for Kubernetes a few seconds, for others the interval of their probe times their threshold. ctx cuts
// the wait short, which is no error. The database stays usable.
func (m *Monitor) Drain(ctx context.Context, delay time.Duration) {
	m.mu.Lock()
	m.status.Draining = true
	m.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// DrainOnStop calls [Monitor.Drain] with this delay as the first thing that happens when the application stops. Fx stops in
// the reverse order of starting: put this option behind everything that serves requests, as the last one of fx.New, and make
// fx.StopTimeout longer than the delay.
func DrainOnStop(delay time.Duration) fx.Option {
	return fx.Invoke(func(lifecycle fx.Lifecycle, monitor *Monitor) {
		lifecycle.Append(fx.StopHook(func(ctx context.Context) { monitor.Drain(ctx, delay) }))
	})
}
