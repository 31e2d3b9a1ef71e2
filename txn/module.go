package txn

import (
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Params is what [New] needs.
type Params struct {
	fx.In

	DB        *pgfx.DB
	Lifecycle fx.Lifecycle    `optional:"true"`
	Logger    *zap.Logger     `optional:"true"`
	Options   []ManagerOption `group:"txn.options"`
}

// Result is what [New] makes.
type Result struct {
	fx.Out

	Manager *Manager
}

// New makes a manager for Fx and has it closed when the application stops, before its database is. Without a Lifecycle the
// caller does that.
func New(p Params) (Result, error) {
	opts := []ManagerOption{WithLogger(p.Logger)}
	for _, opt := range p.Options {
		if opt.database == p.DB.Name() {
			opts = append(opts, opt)
		}
	}
	m, err := NewManager(p.DB, opts...)
	if err != nil {
		return Result{}, err
	}
	if p.Lifecycle != nil {
		p.Lifecycle.Append(fx.StopHook(m.Close))
	}
	return Result{Manager: m}, nil
}

// Module provides a *[Manager] for the *pgfx.DB of the application. rdsfx.Module includes it; don't include both.
var Module = fx.Module("txn", fx.Provide(New))

// Options gives options to the managers of an Fx application: to that of the default database, unless
// [ManagerOption.For] names another.
func ProvideOptions(opts ...ManagerOption) fx.Option {
	supplied := make([]any, len(opts))
	for i, opt := range opts {
		supplied[i] = fx.Annotate(opt, fx.ResultTags(`group:"txn.options"`))
	}
	return fx.Supply(supplied...)
}
