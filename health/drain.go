package health

import (
	"context"
	"time"

	"go.uber.org/fx"
)

// Drain makes the [Handler] report "not ready" from now on and returns after delay, so that load balancers stop sending
// requests before anything is closed. The database stays usable.
//
// Use a few seconds for Kubernetes, and the probe interval times the failure threshold for other load balancers. If ctx ends,
// Drain returns early.
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

// DrainOnStop calls [Monitor.Drain] as the first step when the Fx application stops. Fx stops in the reverse order of starting,
// so pass this option as the last one of fx.New. Make fx.StopTimeout longer than delay. DrainOnStop drains the default
// database's monitor and requests it from Fx.
func DrainOnStop(delay time.Duration) fx.Option {
	return fx.Invoke(func(lifecycle fx.Lifecycle, monitor *Monitor) {
		lifecycle.Append(fx.StopHook(func(ctx context.Context) { monitor.Drain(ctx, delay) }))
	})
}
