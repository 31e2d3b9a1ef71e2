package pgfx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/deadline"
	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// DB is a database: a plain pgx pool with its configuration, its state and its statistics. It does not embed the pool: you
// cannot close the pool instead of the DB, or print the password of its configuration, by accident.
//
// [Open] returns a DB. Start it once and close it once. In between it is safe for concurrent use.
type DB struct {
	name       string
	config     Config            // with its secrets masked: fmt prints fields whatever their methods
	original   func() Config     // with its secrets: fmt can't print them in a closure
	origins    map[string]origin // of the config's fields
	target     string
	logger     *zap.Logger
	options    options
	pool       *pgxpool.Pool
	connConfig *pgx.ConnConfig
	gate       Gate
	stats      *poolstats.Collector
	types      typeCache
	sql        sqlDB
	pacer      *dialPacer
	logins     loginPause
	orphans    orphans
	listeners  listeners
	internals  Internals
	retry      RetryPolicy
	opened     time.Time

	configWarnings []configWarning // logged by Start

	acquireTimeout    time.Duration // 0: none
	acquireTimeouts   sharedTimeout
	waitLimit         waitLimit
	validateTimeout   time.Duration // 0: connections are not validated
	validateAfterIdle time.Duration
	generation        atomic.Int64 // counts the resets of the pool
	validationResets  atomic.Int64
	connectFailure    atomic.Pointer[connectFailure]
	caBundle          caBundle
	caProblemLogged   atomic.Bool

	started, initialized, closed atomic.Bool
	ready                        chan struct{} // closed when the setup steps have run

	background     sync.WaitGroup
	lifetime       context.Context //nolint:containedctx // ends background work when the DB closes
	endLifetime    context.CancelFunc
	sockets        context.Context //nolint:containedctx // ends when Close has no time left for sockets that are being closed
	cutSockets     context.CancelFunc
	closeOnce      sync.Once
	closeCompleted chan struct{}
}

// Open returns a DB whose gate is closed. It opens no connection; [DB.Start] does. Errors are [*ConfigError].
//
// The environment (see [ConfigFromEnv]) completes cfg: it sets fields that are zero in cfg. A URL in cfg is a whole address, so
// the environment adds no part of an address to it. To a Host it adds the other parts, but no URL. [DB.ConfigValues] returns
// where each value comes from.
//
// The pool's background goroutine runs from now on, so call [DB.Close] even if you never call Start.
func Open(cfg Config, opts ...Option) (*DB, error) {
	own := collectOptions(opts)
	sources := configSources{database: own.name, base: own.base, endpoint: own.endpoint, environment: env.ToMap(os.Environ())}
	sources.addressLater = own.addressSource() != ""
	resolved, err := sources.resolve(cfg)
	if err != nil {
		return nil, err
	}
	if resolved.usesEndpoint { // a test server, for example
		own.authenticators = nil
	}
	return open(resolved, own)
}

// open is Open with a Config that is complete.
func open(resolved resolvedConfig, own options) (*DB, error) {
	name, given := own.name, resolved.config
	own.base, own.endpoint = Config{}, Endpoint{} // resolved has them
	if err := given.validate(name); err != nil {
		return nil, err
	}
	config := given.WithDefaults()
	poolConfig, err := config.poolConfig(given)
	if err != nil { // a file changed since validation; the error may quote the password
		return nil, errors.New("pgfx: cannot parse the connection string; call Config.Validate for the reason")
	}

	db := &DB{
		name: name, config: config.masked(), original: func() Config { return config }, options: own,
		logger: zap.NewNop(), opened: time.Now(),
		closeCompleted: make(chan struct{}), ready: make(chan struct{}),
		acquireTimeout: orElse(config.Pool.AcquireTimeout, 0), validateTimeout: orElse(config.Timeouts.Validate, 0),
		validateAfterIdle: validateAfterIdle,
	}
	if db.options.logger != nil {
		db.logger = db.options.logger.Named("pgfx")
	}
	if name != "" {
		db.logger = db.logger.With(zap.String("database_name", name))
	}
	db.origins, db.configWarnings = resolved.origins, resolved.warnings
	db.retry = db.retryPolicy()
	db.caBundle.path = config.TLS.CAFile
	db.target = targetOf(&poolConfig.ConnConfig.Config)
	if poolConfig.ConnConfig.Host == unknownHost {
		db.target = own.addressSource()
	}
	db.connConfig = poolConfig.ConnConfig.Copy()
	db.lifetime, db.endLifetime = context.WithCancel(context.Background())
	db.sockets, db.cutSockets = context.WithCancel(context.Background())
	db.internals.db = db
	db.waitLimit.most = int64(config.Pool.MaxWaiting)
	db.pacer = newDialPacer(int(poolConfig.MaxConns))
	db.gate.pacer = db.pacer
	db.gate.Close(ErrNotStarted)
	db.stats = poolstats.New(poolstats.Config{
		Disabled: config.Stats.Disabled, Slow: orElse(config.Stats.Slow, 0), LongLease: orElse(config.Stats.LongLease, 0),
		Statements: max(config.Stats.Statements, 0), Log: config.Stats.Log, Logger: db.logger, OnError: db.statementFailed,
		OnExecution: db.statementEnded,
		CheckedOut:  func() int { return int(db.pool.Stat().AcquiredConns()) },
	})

	poolConfig.BeforeConnect = db.beforeConnect
	poolConfig.AfterConnect = db.afterConnect
	poolConfig.BeforeClose = db.beforeClose
	poolConfig.ShouldPing = db.shouldPing
	poolConfig.PrepareConn = db.prepareAcquired
	poolConfig.ConnConfig.Tracer = db.withOptions(db.ownTracer())
	db.pool, err = pgxpool.NewWithConfig(context.Background(), poolConfig)
	if err != nil {
		db.stats.Close()
		return nil, db.connectError(err)
	}
	db.detachConfig(poolConfig)
	return db, nil
}

// detachConfig replaces the hooks of the configuration that Pool.Config copies from now on. The pool has taken its own. A pool
// that is made of a copy connects as this one does. It has no part in the gate, the pacer and the statistics of the DB.
func (db *DB) detachConfig(poolConfig *pgxpool.Config) {
	poolConfig.BeforeConnect = db.prepareConfig
	poolConfig.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, _, err := db.prepareConn(ctx, conn)
		return err
	}
	poolConfig.BeforeClose, poolConfig.ShouldPing, poolConfig.PrepareConn = nil, nil, nil
}

// Name returns the name of the database in the application, "" for the default one.
func (db *DB) Name() string { return db.name }

// Config returns the configuration with defaults filled in. Its fields hold secrets; printing it masks them.
func (db *DB) Config() Config { return db.original() }

// Pool returns the pool: a plain *pgxpool.Pool for sqlc, River or hand-written pgx. It is the same value until the DB is
// closed. Do not call its Close method, which waits without limit for connections in use; call [DB.Close].
//
// Its connections read two kinds of values exactly where pgx changes them. A number in json or jsonb is a json.Number if the Go
// type is any, because a float64 rounds long numbers. An interval with months, or one that is too long,
// cannot be read into a time.Duration; pgx counts 30 days for a month.
//
// A second pool that you make of a copy of its configuration (pgxpool.Pool.Config) connects in the same way, with the same
// credentials, hooks and types. It has no gate, no validation by the DB and no part in the statistics, and DB.Close does not
// close it. A connection that you take out of the pool with Hijack leaves all statistics and limits, and you close it.
//
// If the ctx of a statement ends, its error is the server's (SQLSTATE 57014), which does not match ctx's error. Errors of
// txn.Manager match both.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Logger returns the logger of [WithLogger], or one that discards everything.
func (db *DB) Logger() *zap.Logger {
	if db.options.logger == nil {
		return zap.NewNop()
	}
	return db.options.logger
}

// IsInitialized reports whether the database has been reached and all setup steps have run.
func (db *DB) IsInitialized() bool { return db.initialized.Load() }

// IsHealthy reports whether the database is initialized and its gate is open.
func (db *DB) IsHealthy() bool { return db.initialized.Load() && db.gate.Err() == nil }

// Reset replaces every connection of the pool: idle ones now, those in use when they are released. The pool remains the same
// value. The health monitor calls it when the server behind the address has changed.
func (db *DB) Reset() {
	db.generation.Add(1)
	db.pool.Reset()
}

// Close closes the gate, waits until every connection has been released, and closes the connections. Shortly before the
// deadline of ctx it cuts the sockets of connections that were released but whose server does not respond. The margin is 10 % of
// the time left or 500 ms, whichever is more, and at most half of it. If ctx ends first, Close closes the sockets of the
// connections that are still held, and the server aborts their work. The error is then a [*CloseTimeoutError] that names the
// holders. Connections that were hijacked from the pool are left alone. The exception is one that cannot be distinguished from a
// connection that is still held, because pgxpool reports no hijacking. You may call Close more than once, and before Start; later
// calls wait for the first.
func (db *DB) Close(ctx context.Context) error {
	db.closeOnce.Do(func() {
		db.closed.Store(true)
		db.gate.Close(ErrClosed)
		db.endLifetime()
		db.listeners.close()
		db.stats.Close()
		go func() {
			defer close(db.closeCompleted)
			db.background.Wait()
			db.listeners.group.Wait()
			db.closeSQL()
			db.pool.Close()
			db.cutSockets()
		}()
	})
	early, cancel := deadline.WithMargin(ctx)
	defer cancel()
	if db.closeCompletes(early) {
		return nil
	}
	db.cutSockets()
	if db.closeCompletes(ctx) {
		return nil
	}
	timeout := &CloseTimeoutError{Leases: db.Leases(), err: context.Cause(ctx)}
	timeout.Closing = max(0, int(db.pool.Stat().AcquiredConns())-len(timeout.Leases))
	db.stats.CloseLeased()
	return timeout
}

// closeCompletes waits for the end of Close until ctx ends, and reports whether it has come.
func (db *DB) closeCompletes(ctx context.Context) bool {
	select {
	case <-db.closeCompleted:
		return true
	case <-ctx.Done():
	}
	select { // both may be ready
	case <-db.closeCompleted:
		return true
	default:
		return false
	}
}

// String describes the DB without secrets.
func (db *DB) String() string {
	return strings.TrimSpace("pgfx.DB " + db.name + " " + db.target)
}

// Format implements fmt.Formatter. It prints db.String() for every verb, so %#v and %+v show no secrets either.
func (db *DB) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, db.String()) }
