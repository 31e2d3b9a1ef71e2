// Package pool has the constructors of pgxpool for the suites of other modules. They return the pool of a pgfx.DB. The command suites
// replaces the calls of pgxpool's own constructors by calls of these.
package pool

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// requested holds the configuration with which each pool was requested.
var requested sync.Map //nolint:gochecknoglobals // the suites have only their pools

// New returns the pool of a DB.
func New(ctx context.Context, connString string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("suites: %w", err)
	}
	return NewWithConfig(ctx, config)
}

// NewWithConfig returns the pool of a DB that has the address, the settings of sessions and the limits of config. The DB also has its
// tracer and its hooks BeforeConnect and AfterConnect.
func NewWithConfig(_ context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	config = config.Copy()
	orOff := func(d time.Duration) time.Duration {
		if d == 0 {
			return pgfx.Off
		}
		return d
	}
	cfg := pgfx.Config{URL: config.ConnString(), Pool: pgfx.PoolConfig{
		MaxConns: int(config.MaxConns), MinConns: int(config.MinConns),
		MaxConnLifetime: orOff(config.MaxConnLifetime), MaxConnIdleTime: orOff(config.MaxConnIdleTime),
	}}
	opts := []pgfx.Option{pgfx.WithBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		cc.Database = config.ConnConfig.Database
		maps.Copy(cc.RuntimeParams, config.ConnConfig.RuntimeParams)
		return nil
	})}
	if config.BeforeConnect != nil {
		opts = append(opts, pgfx.WithBeforeConnect(config.BeforeConnect))
	}
	if config.AfterConnect != nil {
		opts = append(opts, pgfx.WithAfterConnect(config.AfterConnect))
	}
	if config.ConnConfig.Tracer != nil {
		opts = append(opts, pgfx.WithTracer(config.ConnConfig.Tracer))
	}
	db, err := pgfx.Open(cfg, opts...)
	if err != nil {
		return nil, fmt.Errorf("suites: %w", err)
	}
	if err := db.Start(context.Background()); err != nil {
		return nil, fmt.Errorf("suites: %w", err)
	}
	requested.Store(db.Pool(), config)
	return db.Pool(), nil
}

// ConfigOf returns the configuration with which a pool was requested, without the hooks of its DB.
func ConfigOf(pool *pgxpool.Pool) *pgxpool.Config {
	if config, ok := requested.Load(pool); ok {
		return config.(*pgxpool.Config).Copy() //nolint:forcetypeassert // see NewWithConfig
	}
	return pool.Config()
}
