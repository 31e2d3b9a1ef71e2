package health

import (
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Params is what [New] needs.
type Params struct {
	fx.In

	Lifecycle fx.Lifecycle
	DB        *pgfx.DB
	Logger    *zap.Logger `optional:"true"`
	Observers []Observer  `group:"health.observers"`
	Checks    []Check     `group:"health.checks"`
}

// Result is what [New] makes.
type Result struct {
	fx.Out

	Monitor *Monitor
}

// New makes a monitor and ties it to a lifecycle. It looks at nothing before the start. Because it needs the DB, its hooks
// come after the DB's: it starts when the DB has connected and stops before the pool closes.
func New(p Params) (Result, error) {
	monitor, err := NewMonitor(p.DB, WithLogger(p.Logger), WithObservers(p.Observers...), WithChecks(p.Checks...))
	if err != nil {
		return Result{}, err
	}
	p.Lifecycle.Append(fx.StopHook(monitor.Stop)) // first, so that it runs when the start hook fails
	p.Lifecycle.Append(fx.StartHook(monitor.Start))
	return Result{Monitor: monitor}, nil
}

// Module provides a *[Monitor] to an application that includes pgfx.Module. rdsfx.Module includes both; don't include this
// one beside it.
var Module = fx.Module("health", fx.Provide(New))
