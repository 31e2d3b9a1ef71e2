//nolint:rowserrcheck // rows are handed on: whoever reads them asks for their error
package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Manager runs transactions on one database, and statements in the transaction that their context carries. It has the
// querying methods of a pgxpool.Pool, and so satisfies the DBTX interface of code that sqlc generates.
//
// A Manager is safe for concurrent use; a transaction is not. Several managers of one database share their transactions;
// transactions of different databases in one context don't mix.
//
// Outside of a transaction a statement runs on the pool. When no connection for it could be made, so that nothing was sent,
// it is tried again as the configuration has it (pgfx's Config.Retry); so is the beginning of a transaction. What was sent is
// never sent again: the manager can't know what a statement does. A read that should survive a lost connection is
// repeated by whoever knows it for one: a repository, pgfx.Retry with pgfx.Idempotent, or a [ReadOnly] transaction with [Retry].
type Manager struct {
	db       *pgfx.DB
	pool     *pgxpool.Pool
	tracer   pgx.QueryTracer // of the pool's connections
	logger   *zap.Logger
	key      any // what contexts carry the scope under
	maxConns int32
	defaults settings
	made     time.Time // where its clock began
	counters counters
	resolver resolver
	misuse   PoolUseInTx
	places   places
	open     pgfx.LeaseLimit // how long transactions may be open
	unsent   pgfx.RetryPolicy
	budget   *pgfx.RetryBudget
	sessions sessions // that hold locks

	removeGuard func() // nil with PoolUseInTxIgnore
}

// NewManager makes a manager without Fx. It opens no connection before the first transaction. [Manager.Close] it before the
// database. Errors: an option's value that isn't allowed.
func NewManager(db *pgfx.DB, opts ...ManagerOption) (*Manager, error) {
	pool := db.Pool()
	config := pool.Config()
	m := &Manager{
		db: db, pool: pool, logger: db.Logger().Named("txn"), key: scopeKey{pool}, made: time.Now(),
		maxConns: config.MaxConns, tracer: config.ConnConfig.Tracer,
	}
	m.resolver.init(m)
	m.unsent = db.RetryPolicy()
	m.budget = m.unsent.Budget
	m.open = pgfx.LeaseLimit{After: defaultLeak, Exceeds: openForLong, Ended: "a transaction that was open for long has ended"}
	for _, opt := range opts {
		if opt.apply == nil || opt.database != "" && opt.database != db.Name() {
			continue
		}
		if err := opt.apply(m); err != nil {
			return nil, err
		}
	}
	m.defaults.setBegin()
	m.open.Logger = m.logger
	if m.misuse != PoolUseInTxIgnore {
		m.removeGuard = db.Internals().GuardAcquire(m.guard)
	}
	return m, nil
}

// Close ends what the manager does in the background and closes its connection outside of the pool (see [ByWitness]). The
// contexts of closures that hold a session lock end with the cause pgfx.ErrClosed, and Close waits for these closures. It does
// not end transactions, and a manager can still be used after it, but for session locks. ctx bounds it; Close may be called any
// number of times.
func (m *Manager) Close(ctx context.Context) error {
	if m.removeGuard != nil {
		m.removeGuard()
	}
	return errors.Join(m.sessions.end(ctx), m.resolver.close(ctx))
}

// now is the time on the manager's clock, which is read faster than that on the wall.
func (m *Manager) now() time.Duration { return time.Since(m.made) }

// ManagerOption shapes a manager.
type ManagerOption struct {
	apply    func(*Manager) error
	database string
}

// For returns a copy of o that applies to the manager of the database with this name only (see rdsfx.ModuleFor). Without
// For, an option that is passed to [NewManager] applies to that manager, and an option that is provided to Fx applies to the
// manager of the default database.
func (o ManagerOption) For(database string) ManagerOption {
	o.database = database
	return o
}

// Database returns the name that [ManagerOption.For] set, or "".
func (o ManagerOption) Database() string { return o.database }

// WithLogger sets the logger; it is named "txn". Default: the database's.
func WithLogger(logger *zap.Logger) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if logger != nil {
			m.logger = logger.Named("txn")
		}
		return nil
	}}
}

// WithDefaults sets terms for every transaction that the manager begins; options of a Do win over them.
func WithDefaults(opts ...Option) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		laid, err := m.defaults.with(opts)
		if err != nil {
			return err
		}
		if laid.propagation != required {
			return fmt.Errorf("txn: WithDefaults(%s): how a Do joins is a matter of each Do; remove it", laid.propagation)
		}
		m.defaults = *laid
		return nil
	}}
}

// DB returns the database that the manager works on.
func (m *Manager) DB() *pgfx.DB { return m.db }

// Do calls fn in a transaction: it commits when fn returns nil, and rolls back when fn returns an error, panics or calls
// runtime.Goexit, or when ctx has ended. The context that fn gets carries the transaction: the manager's querying methods,
// and everything that is built on them, run in it.
//
// A Do inside of fn, with fn's context, joins the transaction, unless an option says otherwise. When the inner one fails,
// the whole can only be rolled back: an outer closure that goes on and returns nil gets a [*RollbackOnlyError].
//
// Errors: fn's own, as it is (with that of ctx added when the server cancelled a statement because ctx had ended); those of
// beginning and committing; [*RollbackOnlyError], [*FailedStatementError], [*OptionMismatchError], *pgfx.RetryError, and
// [*OutcomeUnknownError] when COMMIT was sent and its answer was lost. After every other error the transaction has not been committed.
// A panic goes on with its value and its stack.
//
// When ctx ends, the statement that is running is cancelled; rolling back then doesn't depend on ctx and takes at most
// 5 s, and the connection goes back to the pool in good order.
func (m *Manager) Do(ctx context.Context, fn func(ctx context.Context) error, opts ...Option) error {
	current, err := m.current(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(opts) > 0:
		return m.do(ctx, current, fn, opts)
	case current != nil:
		return current.join(ctx, fn)
	}
	return m.run(ctx, fn, &m.defaults)
}

// DoValue is [Manager.Do] for a closure that returns a value. The value is the zero value when the error isn't nil.
func DoValue[T any](ctx context.Context, m *Manager, fn func(ctx context.Context) (T, error), opts ...Option) (T, error) {
	var value T
	err := m.Do(ctx, func(ctx context.Context) error {
		var err error
		value, err = fn(ctx)
		return err
	}, opts...)
	if err != nil {
		var zero T
		return zero, err
	}
	return value, nil
}

// run calls fn in a transaction of its own.
func (m *Manager) run(ctx context.Context, fn func(context.Context) error, terms *settings) error {
	if terms.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, terms.timeout)
		defer cancel()
	}
	if terms.retry != nil {
		return m.retry(ctx, fn, terms)
	}
	_, err := m.attempt(ctx, fn, terms, 1)
	return err
}

// attempt calls fn in a transaction once. again is the error because of which doing it again can help, nil when it can't.
func (m *Manager) attempt(ctx context.Context, fn func(context.Context) error, terms *settings, n int) (again, err error) {
	t, err := m.begin(ctx, terms, n)
	if err != nil {
		m.counters.beginFailed.Add(1)
		if terms.retryable(err, true) {
			again = err
		}
		return again, err
	}
	returned := false
	defer func() {
		if !returned { // a panic, which goes on by itself, or runtime.Goexit, which looks like a return to nobody else
			t.abort()
		}
	}()
	err = fn(&t.root)
	if err == nil {
		err = t.beforeCommit()
	}
	returned = true
	err = t.end(err)
	return t.again, err
}

// current returns the scope that ctx carries, nil when there is none.
func (m *Manager) current(ctx context.Context) (*scope, error) {
	s, ok := ctx.(*scope) // it mostly is the closure's own
	if !ok || s.t.m.pool != m.pool {
		if s, ok = ctx.Value(m.key).(*scope); !ok {
			return nil, nil //nolint:nilnil // no scope is no error
		}
	}
	if s.over() {
		return nil, ErrTxDone
	}
	return s, nil
}

// Tx returns the transaction that ctx carries, for code that wants a pgx.Tx. Its Begin makes savepoints; its Commit and
// Rollback return [ErrManagedTx]. The result is false when ctx carries none, or one that has ended.
func (m *Manager) Tx(ctx context.Context) (pgx.Tx, bool) {
	s, err := m.current(ctx)
	if err != nil || s == nil {
		return nil, false
	}
	return s.t, true
}

// Exec runs a statement in the transaction that ctx carries, or on the pool. ctx bounds it.
func (m *Manager) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	s, err := m.current(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	if s == nil {
		return m.poolExec(ctx, sql, args)
	}
	return s.t.Exec(ctx, sql, args...)
}

// Query runs a query in the transaction that ctx carries, or on the pool. The rows must be read to their end or closed
// before the transaction can do anything else. ctx bounds reading them too.
func (m *Manager) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	s, err := m.current(ctx)
	if err != nil {
		return failedRows{err}, err
	}
	if s == nil {
		return m.poolQuery(ctx, sql, args)
	}
	return s.t.Query(ctx, sql, args...)
}

// QueryRow runs a query for one row in the transaction that ctx carries, or on the pool. Errors come with Scan, which must
// be called.
func (m *Manager) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	s, err := m.current(ctx)
	if err != nil {
		return failedRow{err}
	}
	if s == nil {
		return m.poolQueryRow(ctx, sql, args)
	}
	return s.t.QueryRow(ctx, sql, args...)
}

// SendBatch sends statements in one round trip in the transaction that ctx carries, or on the pool. The results must be
// closed before the transaction can do anything else.
func (m *Manager) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	s, err := m.current(ctx)
	if err != nil {
		return pgx.FailedBatchResults(batch, err)
	}
	if s == nil {
		return m.poolSendBatch(ctx, batch)
	}
	return s.t.SendBatch(ctx, batch)
}

// CopyFrom copies rows into a table with COPY, in the transaction that ctx carries, or on the pool. It returns the number
// of rows.
func (m *Manager) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	s, err := m.current(ctx)
	if err != nil {
		return 0, err
	}
	if s == nil {
		return m.poolCopyFrom(ctx, table, columns, rows)
	}
	return s.t.CopyFrom(ctx, table, columns, rows)
}

// WithConn calls fn with the connection of the transaction that ctx carries, or with one of the pool: for what pgx can do and
// the manager has no method for. fn has read its results to the end when it returns, doesn't end the transaction, and doesn't
// keep the connection. ctx bounds the acquire and is handed to fn.
func (m *Manager) AcquireFunc(ctx context.Context, fn func(ctx context.Context, conn *pgx.Conn) error) error {
	s, err := m.current(ctx)
	if err != nil {
		return err
	}
	if s == nil {
		return m.db.AcquireFunc(ctx, fn)
	}
	return s.t.withConn(ctx, fn)
}

// String describes the manager.
func (m *Manager) String() string { return fmt.Sprintf("txn.Manager of %s", m.db.Target()) }
