//nolint:rowserrcheck // rows are passed on to the caller, who checks their error
package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// Manager runs transactions on one database. It also has the query methods of a pgxpool.Pool and so satisfies the DBTX interface
// that sqlc generates. These methods run in the transaction that their context carries, or on the pool if it carries none. If a
// context ends while its statement runs, the error matches that of the context and the server's (SQLSTATE 57014).
//
// A Manager is safe for concurrent use; a transaction is not. Managers of the same database share their transactions.
// Transactions of different databases in one context are independent.
//
// Outside a transaction, a statement is retried only if no connection could be made, so nothing was sent. The retry policy is
// that of the database (pgfx's Config.Retry). It also applies to the beginning of a transaction. A statement that was sent is
// never sent again, because the manager can't know its effects. For a read that should survive a lost connection use a
// repository, pgfx.Retry with pgfx.Idempotent, or a [ReadOnly] transaction with [Retry].
type Manager struct {
	db       *pgfx.DB
	pool     *pgxpool.Pool
	logger   *zap.Logger
	key      any // context key of the innermost scope
	maxConns int32
	comments commenter
	defaults settings
	counters counters
	resolver resolver
	longTx   *pgfx.LeaseLimit // limit for open transactions

	longTxThreshold time.Duration

	poolUse     PoolUseInTx
	poolUsers   callers
	removeGuard func() // nil with PoolUseInTxIgnore

	contextCheck contextCheck

	retryPolicy  pgfx.RetryPolicy // of the database
	sessionLocks sessionLocks
	sql          sqlDB
	keysSweptAt  atomic.Int64 // when expired idempotency keys were last deleted, in Unix nanoseconds
	commitErrors sync.Map     // of key to CommitErrorTranslator
}

// NewManager returns a manager of db. It opens no connection before the first transaction. Close the manager with
// [Manager.Close] before you close the database. The error reports an option with an invalid value.
func NewManager(db *pgfx.DB, opts ...ManagerOption) (*Manager, error) {
	pool := db.Pool()
	config := pool.Config()
	m := &Manager{
		db: db, pool: pool, logger: db.Logger().Named("txn"), key: scopeKey{pool}, maxConns: config.MaxConns,
		comments: commenter{
			of: db.Internals().Comment, mode: config.ConnConfig.DefaultQueryExecMode,
			pooled: db.Config().Pooler == pgfx.PoolerTransaction,
		},
		retryPolicy:     db.RetryPolicy(),
		longTxThreshold: defaultLongTx,
		contextCheck:    contextCheck{use: PoolUseInTxIgnore},
	}
	m.resolver.init(m)
	for _, opt := range opts {
		if opt.apply == nil || opt.database != "" && opt.database != db.Name() {
			continue
		}
		if err := opt.apply(m); err != nil {
			return nil, err
		}
	}
	m.longTx = pgfx.NewLeaseLimit(m.longTxThreshold, m.logger, longTxMessage, longTxEndedMessage)
	if m.poolUse != PoolUseInTxIgnore || m.contextCheck.use != PoolUseInTxIgnore {
		m.removeGuard = db.Internals().GuardAcquire(m.guardAcquire)
	}
	return m, nil
}

// Close ends the background work of the manager and closes its connection outside the pool (see [ByWitness]). It cancels the
// contexts of closures that hold a session lock, with the cause pgfx.ErrClosed, and waits for these closures. It doesn't end
// transactions. After Close the manager remains usable, except for session locks and [Manager.SQL].
//
// ctx bounds the wait. Close may be called more than once.
func (m *Manager) Close(ctx context.Context) error {
	if m.removeGuard != nil {
		m.removeGuard()
	}
	_ = m.SQL().Close() // closes idle connections only, and there are none
	return errors.Join(m.sessionLocks.close(ctx), m.resolver.close(ctx))
}

// ManagerOption configures a manager.
type ManagerOption struct {
	apply    func(*Manager) error
	database string
}

// For returns a copy of o that applies only to the manager of the named database (see rdsfx.ModuleFor). An option without For
// applies to the manager that it is passed to. If it is provided to Fx, it applies to the manager of the default database.
func (o ManagerOption) For(database string) ManagerOption {
	o.database = database
	return o
}

// Database returns the name that [ManagerOption.For] set, or "".
func (o ManagerOption) Database() string { return o.database }

// WithLogger sets the logger, which gets the name "txn". Default: the database's logger.
func WithLogger(logger *zap.Logger) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		if logger != nil {
			m.logger = logger.Named("txn")
		}
		return nil
	}}
}

// WithDefaults sets options for every transaction that the manager begins. The options of a Do take precedence.
func WithDefaults(opts ...Option) ManagerOption {
	return ManagerOption{apply: func(m *Manager) error {
		defaults, err := m.defaults.with(opts)
		if err != nil {
			return err
		}
		if defaults.propagation != required {
			return fmt.Errorf("txn: WithDefaults(%s): pass %[1]s to each Do that needs it", defaults.propagation)
		}
		m.defaults = *defaults
		return nil
	}}
}

// DB returns the manager's database.
func (m *Manager) DB() *pgfx.DB { return m.db }

// Do calls fn in a transaction. It commits if fn returns nil. It rolls back if fn returns an error, panics or calls
// runtime.Goexit, or if ctx has ended. The context that fn receives carries the transaction: the query methods of the manager,
// and everything built on them, run in it.
//
// A Do inside fn that receives fn's context joins the transaction, unless an option changes that. If the inner Do fails, the
// whole transaction becomes rollback-only: an outer closure that still returns nil gets a [*RollbackOnlyError].
//
// Errors:
//   - fn's own error, unchanged; if the server cancelled a statement because ctx had ended, ctx's error is added.
//   - Errors of beginning and committing, [*RollbackOnlyError], [*FailedStatementError], [*OptionMismatchError] and
//     *pgfx.RetryError. Package repo gives a deferred constraint, which fails at the commit, its type *repo.ConstraintError.
//   - [*OutcomeUnknownError] if the connection was lost after COMMIT was sent and the outcome could not be resolved. After every
//     other error the transaction is not committed.
//
// A panic continues with its value and its stack.
//
// When ctx ends, the running statement is cancelled. The rollback doesn't depend on ctx and takes at most 5 s, and the
// connection returns to the pool in a usable state.
func (m *Manager) Do(ctx context.Context, fn func(ctx context.Context) error, opts ...Option) error {
	current, err := m.current(ctx)
	if err != nil {
		return err
	}
	switch {
	case len(opts) > 0:
		return m.doWithOptions(ctx, current, fn, opts)
	case current != nil:
		return current.join(ctx, fn)
	}
	return m.runTx(ctx, fn, &m.defaults)
}

// DoValue is [Manager.Do] for a closure that returns a value. If the error isn't nil, the value is the zero value.
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

// runTx calls fn in a new transaction, as often as the retry policy allows.
func (m *Manager) runTx(ctx context.Context, fn func(context.Context) error, s *settings) (err error) {
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	var r run
	if internals := m.db.Internals(); internals.IsObserved() {
		began := time.Now()
		ctx = internals.BeginTx(ctx, pgfx.BeginTxEvent{Options: s.mode})
		defer func() { internals.EndTx(ctx, r.endEvent(time.Since(began), err)) }()
	}
	if s.retry != nil {
		return m.runWithRetry(ctx, fn, s, &r)
	}
	_, err = m.runAttempt(ctx, fn, s, &r)
	return err
}

// run is the progress of a transaction and its retries.
type run struct {
	attempts int            // begun so far
	rollback rollbackReason // of the latest attempt
}

// endEvent describes the end of the transaction to observers of the database. After a panic err is nil.
func (r *run) endEvent(took time.Duration, err error) pgfx.EndTxEvent {
	e := pgfx.EndTxEvent{Outcome: "committed", Reason: rollbackNames[r.rollback], Attempts: r.attempts, Took: took, Err: err}
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		e.Outcome = "unknown"
	case r.rollback != notRolledBack:
		e.Outcome = "rolled_back"
	}
	return e
}

// runAttempt calls fn in a transaction once. retryable is the reason why another attempt can succeed, nil if there is none.
func (m *Manager) runAttempt(ctx context.Context, fn func(context.Context) error, s *settings, r *run) (retryable, err error) {
	r.attempts++
	t, err := m.begin(ctx, s, r.attempts)
	if err != nil {
		m.counters.rolledBack[beginFailed].Add(1)
		r.rollback = beginFailed
		if s.canRetry(err, true) {
			retryable = err
		}
		return retryable, err
	}
	returned := false
	defer func() {
		if !returned { // a panic, which continues, or runtime.Goexit, which recover can't detect
			t.abort()
		}
		r.rollback = t.rollback
	}()
	err = m.callInTx(&t.root, fn)
	if err == nil {
		err = t.beforeCommit()
	}
	returned = true
	err = t.end(err)
	return t.retryable, err
}

// callInTx calls a closure of a new transaction.
func (m *Manager) callInTx(ctx context.Context, fn func(context.Context) error) error {
	defer m.contextCheck.enter()()
	return fn(ctx)
}

// current returns the innermost scope of the database that ctx carries, nil if it carries none.
func (m *Manager) current(ctx context.Context) (*scope, error) {
	s, ok := ctx.(*scope) // the most frequent case: the context of the closure itself
	if !ok || s.t.m.pool != m.pool {
		if s, ok = ctx.Value(m.key).(*scope); !ok {
			return nil, nil //nolint:nilnil // no scope is not an error
		}
	}
	if s.ended() {
		return nil, ErrTxDone
	}
	return s, nil
}

// Tx returns the transaction that ctx carries, for code that needs a pgx.Tx. Its Begin sets savepoints; its Commit and Rollback
// return [ErrManagedTx]. The result is false if ctx carries no transaction, or one that has ended.
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

// Query runs a query in the transaction that ctx carries, or on the pool. Read the rows to their end or close them before the
// transaction does anything else. ctx also bounds reading them.
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

// QueryRow runs a query for one row in the transaction that ctx carries, or on the pool. Scan returns the errors and must be
// called.
func (m *Manager) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	s, err := m.current(ctx)
	if err != nil {
		return failedRows{err}
	}
	if s == nil {
		return m.poolQueryRow(ctx, sql, args)
	}
	return s.t.QueryRow(ctx, sql, args...)
}

// SendBatch sends statements in one round trip, in the transaction that ctx carries, or on the pool. Close the results before
// the transaction does anything else.
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

// CopyFrom copies rows into a table with COPY, in the transaction that ctx carries, or on the pool. It returns the number of
// rows.
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

// AcquireFunc calls fn with the connection of the transaction that ctx carries, or with a connection of the pool. Use it for
// features of pgx that the manager has no method for. fn must read its results to the end, must not end the transaction and
// must not keep the connection. ctx bounds the acquire and is passed to fn.
func (m *Manager) AcquireFunc(ctx context.Context, fn func(ctx context.Context, conn *pgx.Conn) error) error {
	s, err := m.current(ctx)
	if err != nil {
		return err
	}
	if s == nil {
		return m.db.AcquireFunc(ctx, func(ctx context.Context, conn *pgx.Conn) error { return connError(ctx, conn, fn(ctx, conn)) })
	}
	return s.t.withConn(ctx, fn)
}

// String returns a description of the manager.
func (m *Manager) String() string { return fmt.Sprintf("txn.Manager of %s", m.db.Target()) }

// Format implements fmt.Formatter. It prints m.String() for every verb.
func (m *Manager) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, m.String()) }
