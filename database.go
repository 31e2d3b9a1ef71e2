package rdsfx

import (
	"context"
	"errors"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/internal/deadline"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/aurora"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Database is one PostgreSQL database with its pool, its health monitor and its transaction manager. It needs no Fx: call
// [Open], [Database.Start] and, in any case, [Database.Close]. [Module] does the same in an Fx application.
//
// Do not change the fields. They are safe for concurrent use, and usable as soon as Open has returned. Until Start, acquiring a
// connection fails with pgfx.ErrNotStarted.
type Database struct {
	// DB holds the connection pool.
	DB *pgfx.DB
	// Health probes the database and recycles the pool's connections after a failure.
	Health *health.Monitor
	// Tx runs transactions. Repositories are made from it (repo.New).
	Tx *txn.Manager

	started atomic.Bool
}

// Option configures a [Database] beyond its pgfx.Config. Pass options to [Open].
type Option struct{ apply func(*options) }

type options struct {
	pool   []pgfx.Option
	health []health.Option
	tx     []txn.ManagerOption
	models []repo.Model
	schema SchemaPolicy
}

// WithLogger sets the logger of the pool, the monitor, the transaction manager and the schema check. Default: no logs.
func WithLogger(logger *zap.Logger) Option { return WithPool(pgfx.WithLogger(logger)) }

// WithPool passes options to pgfx.Open: setup steps, tracers, connect functions, the name of the database.
func WithPool(opts ...pgfx.Option) Option {
	return Option{apply: func(o *options) { o.pool = append(o.pool, opts...) }}
}

// WithHealth passes options to health.NewMonitor: observers and checks.
func WithHealth(opts ...health.Option) Option {
	return Option{apply: func(o *options) { o.health = append(o.health, opts...) }}
}

// WithTx passes options to txn.NewManager, such as defaults for all transactions.
func WithTx(opts ...txn.ManagerOption) Option {
	return Option{apply: func(o *options) { o.tx = append(o.tx, opts...) }}
}

// WithModels adds models to the schema check that runs as the last setup step. Get a model from repo.ModelOf. A model of another
// database is not checked.
func WithModels(models ...repo.Model) Option {
	return Option{apply: func(o *options) { o.models = append(o.models, models...) }}
}

// WithSchemaPolicy sets what a finding of the schema check leads to. Default: [SchemaWarn].
func WithSchemaPolicy(policy SchemaPolicy) Option {
	return Option{apply: func(o *options) { o.schema = policy }}
}

// Open makes a Database. It opens no connection: [Database.Start] does. The environment completes cfg (see
// pgfx.Open). If the host is an endpoint of Aurora or RDS, the Database follows its cluster (aurora.Automatic). Errors are those of
// pgfx.Open, health.NewMonitor and txn.NewManager; after an error nothing has to be closed.
func Open(cfg pgfx.Config, opts ...Option) (*Database, error) {
	var o options
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(&o)
		}
	}
	pool := append([]pgfx.Option{aurora.Automatic(), pgfx.WithSetup(schemaCheck(o.models, o.schema))}, o.pool...)
	db, err := pgfx.Open(cfg, pool...)
	if err != nil {
		return nil, err
	}
	d := &Database{DB: db}
	if d.Health, err = health.NewMonitor(db, o.health...); err == nil {
		d.Tx, err = txn.NewManager(db, o.tx...)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close(context.Background())) // no connection exists yet, so Close cannot block
	}
	return d, nil
}

// Start starts the pool, which includes the setup steps and the schema check, and then the monitor. When it returns nil, the
// monitor has probed the database once, unless pgfx.Config.Start.Mode lets the application start without it.
//
// Start gives up before ctx's deadline, by 10 % and by at least 500 ms, to have time for closing. It keeps nothing of ctx.
// After an error the Database is closed. Errors are those of pgfx.DB.Start. A Database starts once: a second Start returns an
// error and changes nothing.
func (d *Database) Start(ctx context.Context) error {
	if !d.started.CompareAndSwap(false, true) {
		return errors.New("rdsfx: start: Start was called before; open another Database")
	}
	err := d.DB.Start(ctx)
	if err == nil {
		err = d.Health.Start(ctx)
	}
	if err == nil {
		return nil
	}
	ctx, cancel := deadline.WithMargin(ctx)
	defer cancel()
	return errors.Join(err, d.Close(ctx))
}

// Close ends the session locks of the transaction manager, closes the monitor, waits until every connection has been released,
// and closes the pool. It returns when ctx ends at the latest. The error then reports what has not ended, such as an observer
// that hangs or a connection that is still held (pgfx.CloseTimeoutError). The pool gets at least the last 10 % of the time,
// even if an observer hangs.
//
// Close may be called any number of times, before Start too, and concurrently.
func (d *Database) Close(ctx context.Context) error {
	early, cancel := deadline.WithMargin(ctx)
	defer cancel()
	return errors.Join(d.Tx.Close(early), d.Health.Close(early), d.DB.Close(ctx))
}
