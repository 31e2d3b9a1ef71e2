package txn

import (
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Params is what [New] needs.
type Params struct {
	fx.In

	DB     *pgfx.DB
	Logger *zap.Logger `optional:"true"`
}

// Result is what [New] makes.
type Result struct {
	fx.Out

	Manager *Manager
}

// New makes a manager for Fx.
func New(p Params) (Result, error) {
	m, err := NewManager(p.DB, WithLogger(p.Logger))
	if err != nil {
		return Result{}, err
	}
	return Result{Manager: m}, nil
}

// Module provides a *[Manager] for the *pgfx.DB of the application. rdsfx.Module includes it; don't include both.
var Module = fx.Module("txn", fx.Provide(New))
