package pgfx

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/fx"
	"go.uber.org/zap"
)

// Params is what [New] needs.
type Params struct {
	fx.In `ignore-unexported:"true"`

	Lifecycle fx.Lifecycle
	Config    Config      `optional:"true"`
	Endpoint  Endpoint    `optional:"true"`
	Logger    *zap.Logger `optional:"true"`
	Options   []Option    `group:"pgfx.options"`
	Setups    []SetupStep `group:"pgfx.setup"`

	name string
	base Config
}

// Named returns a copy of p for the database of this name: options and setup steps of that name apply, and the environment
// variables have the name as their prefix (REPORTING_DATABASE_URL).
func (p Params) Named(name string) Params {
	p.name = name
	return p
}

// Inherit returns a copy of p whose Config takes what it leaves open from base, the default database's. A Config with a URL
// or a Host takes no part of base's address; one with other parts of an address, such as only Database, puts them in place
// of base's. SearchPath and Role are never inherited. It has an effect on named databases only.
func (p Params) Inherit(base Config) Params {
	p.base = base
	return p
}

// Result is what [New] makes.
type Result struct {
	fx.Out

	DB   *DB
	Pool *pgxpool.Pool
}

// New opens a database, its gate shut, and ties it to a lifecycle. It opens no connection: that is the start hook's work.
// The stop hook is registered first, so that it runs when the start hook fails.
func New(p Params) (Result, error) {
	opts := append([]Option{WithLogger(p.Logger).For(p.name), WithSetup(p.Setups...).For(p.name)}, p.Options...)
	db, err := open(p.name, p.Config, p.base, p.Endpoint, opts)
	if err != nil {
		return Result{}, err
	}
	p.Lifecycle.Append(fx.StopHook(func(ctx context.Context) error {
		ctx, cancel := withMargin(ctx) // hooks that stop after this one need time too
		defer cancel()
		return db.Close(ctx)
	}))
	p.Lifecycle.Append(fx.StartHook(db.Start))
	return Result{DB: db, Pool: db.Pool()}, nil
}

// Module provides a *[DB] and its *pgxpool.Pool without health monitor and transactions. Most applications want
// rdsfx.Module, which includes everything this one does; don't include both.
var Module = fx.Module("pgfx", fx.Provide(New))
