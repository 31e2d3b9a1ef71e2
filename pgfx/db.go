package pgfx

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// DB is a database: a plain pgx pool and what is known about it. It holds the pool and doesn't embed it, so that nobody
// closes the pool past [DB.Close] or reads a password from its configuration by accident.
//
// A DB is made by [Open], started once, used from many goroutines and closed once.
type DB struct {
	name       string
	config     Config
	target     string
	logger     *zap.Logger
	options    options
	pool       *pgxpool.Pool
	connConfig *pgx.ConnConfig
	gate       Gate
	counters   counters
	leases     leases
	types      typeCache
	sql        sqlDB
	pacer      *pacer
	overflow   overflow
	statements statementTable
	slow       slowLog
	leaks      leakWatch
	internals  Internals
	retry      RetryPolicy
	opened     time.Time

	acquireTimeout  time.Duration
	validateTimeout time.Duration
	freshFor        time.Duration
	generation      atomic.Int64
	wantsStacks     atomic.Bool // somebody looked for the stack of a lease and there was none: take them all

	started, initialized, closed atomic.Bool

	background     sync.WaitGroup
	lifetime       context.Context //nolint:containedctx // ends background work when the DB closes
	endLifetime    context.CancelFunc
	closeOnce      sync.Once
	closeCompleted chan struct{}
}

// Open makes a DB with its gate shut: no connection is opened before [DB.Start]. An address that cfg doesn't have is taken
// from the environment (see [ConfigFromEnv]). Errors are [*ConfigError].
//
// The pool's maintenance goroutine runs from here on, so that Close must be called even when Start never is.
func Open(cfg Config, opts ...Option) (*DB, error) {
	own := collectOptions(opts)
	name := own.name
	given, err := configSources{database: name, base: own.base, endpoint: own.endpoint, environment: env.ToMap(os.Environ())}.resolve(cfg)
	if err != nil {
		return nil, err
	}
	if err := given.validate(envPrefix(name)); err != nil {
		return nil, err
	}
	config := given.WithDefaults()
	poolConfig, err := config.poolConfig(given)
	if err != nil { // a file changed since validation; the error may quote the password
		return nil, errors.New("pgfx: cannot parse the connection string; call Config.Validate for the reason")
	}

	db := &DB{
		name: name, config: config, options: own, logger: zap.NewNop(), opened: time.Now(),
		acquireTimeout: orElse(config.Pool.AcquireTimeout, 0), closeCompleted: make(chan struct{}),
		validateTimeout: orElse(config.Timeouts.Validate, 0), freshFor: freshFor,
	}
	if db.options.logger != nil {
		db.logger = db.options.logger.Named("pgfx")
	}
	if name != "" {
		db.logger = db.logger.With(zap.String("database_name", name))
	}
	db.retry = db.retryPolicy()
	db.target = targetOf(poolConfig.ConnConfig)
	db.connConfig = poolConfig.ConnConfig.Copy()
	db.lifetime, db.endLifetime = context.WithCancel(context.Background())
	db.internals.db = db
	db.gate.Close(ErrNotStarted)
	db.pacer = newPacer(int(poolConfig.MaxConns))
	db.overflow.regular = int64(poolConfig.MaxConns) - int64(config.Pool.MaxOverflow)

	poolConfig.BeforeConnect = db.beforeConnect
	poolConfig.AfterConnect = db.afterConnect
	poolConfig.BeforeClose = db.beforeClose
	poolConfig.ShouldPing = db.shouldPing
	poolConfig.PrepareConn = db.beforeUse
	poolConfig.ConnConfig.Tracer = db.tracer(poolConfig.MaxConns)
	db.pool, err = pgxpool.NewWithConfig(context.Background(), poolConfig)
	if err != nil {
		return nil, newConnectError(db.target, err)
	}
	return db, nil
}

// tracer returns the pool's tracer: other people's first, so that the ctx of an acquire that ours makes is the one that
// the pool sees.
func (db *DB) tracer(maxConns int32) pgx.QueryTracer {
	own := newWatch(db, maxConns)
	if len(db.options.tracers) == 0 {
		return own
	}
	return multitracer.New(append(append([]pgx.QueryTracer(nil), db.options.tracers...), own)...)
}

// now is the DB's clock: the time since it was opened. Reading it costs half of what time.Now does.
func (db *DB) now() time.Duration { return time.Since(db.opened) }

// Name returns the name of the database in the application, "" for the default one.
func (db *DB) Name() string { return db.name }

// Config returns the configuration in force, with defaults filled in. Its fields hold secrets; printing it masks them.
func (db *DB) Config() Config { return db.config }

// Pool returns the pool: a plain *pgxpool.Pool for sqlc, River or hand-written pgx. It is the same value for the DB's whole
// life. Use [DB.Close], not the pool's Close, which waits without limit for connections in use.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Logger returns the logger that the DB was given, or one that discards.
func (db *DB) Logger() *zap.Logger {
	if db.options.logger == nil {
		return zap.NewNop()
	}
	return db.options.logger
}

// IsInitialized reports whether the database has been reached and the setup has run.
func (db *DB) IsInitialized() bool { return db.initialized.Load() }

// IsHealthy reports whether the database can be used now, as far as is known: initialized, and the gate is open.
func (db *DB) IsHealthy() bool { return db.initialized.Load() && db.gate.Err() == nil }

// Reset replaces every connection of the pool: idle ones now, those in use when they are returned. The pool stays the same
// value. It is what the recovery calls when the server behind the address has changed.
func (db *DB) Reset() {
	db.generation.Add(1)
	db.pool.Reset()
}

// Close shuts the gate, waits until every connection has been returned, and closes them. At ctx's end it gives up: it
// closes the sockets of what is still held, so that the server ends that work, and returns a [*CloseTimeoutError] that names the
// holders. Close may be called any number of times, before Start too; later calls wait for the first.
func (db *DB) Close(ctx context.Context) error {
	db.closeOnce.Do(func() {
		db.closed.Store(true)
		db.gate.Close(ErrClosed)
		db.endLifetime()
		db.leaks.stop()
		go func() {
			defer close(db.closeCompleted)
			db.background.Wait()
			db.closeSQL()
			db.pool.Close()
		}()
	})
	select {
	case <-db.closeCompleted:
		return nil
	case <-ctx.Done():
	}
	select { // both may be ready
	case <-db.closeCompleted:
		return nil
	default:
	}
	held := &CloseTimeoutError{Leases: db.Leases(), err: context.Cause(ctx)}
	db.leases.cut()
	return held
}

// String describes the DB without secrets.
func (db *DB) String() string {
	return strings.TrimSpace("pgfx.DB " + db.name + " " + db.target)
}
