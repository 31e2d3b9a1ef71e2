package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

// cleanupTimeout bounds the rollback, which doesn't depend on the caller's ctx.
const cleanupTimeout = 5 * time.Second

// The values of pgconn.PgConn.TxStatus (PostgreSQL manual, "Message Formats", ReadyForQuery).
const (
	statusIdle   = 'I'
	statusFailed = 'E'
)

// transaction is one transaction on the server. It implements pgx.Tx.
type transaction struct {
	m        *Manager
	settings *settings
	root     scope
	attempt  int
	began    time.Time

	conn *pgxpool.Conn
	tx   pgx.Tx    // nil if BEGIN has failed
	use  exclusive // of conn

	savepoints     atomic.Int32 // set so far
	openSavepoints atomic.Int32 // begun by Begin and not ended

	// These belong to the goroutine that uses conn.
	failure        error       // put the transaction into the failed state or broke the connection
	endedByClosure bool        // a statement of the closure has ended the transaction
	identity       *txIdentity // nil if the outcome of the commit isn't resolved
	orphaned       bool        // a call still uses conn and releases it when it returns
	connLost       bool        // and nothing is committed
	commitRefused  bool        // by the server
	retryable      error       // reason why another attempt can succeed
	rollback       rollbackReason

	mu        sync.Mutex // guards innermost, and the fields of each scope that say so
	innermost *scope     // has no open scope inside it
}

// begin opens a transaction on a connection of the pool.
func (m *Manager) begin(ctx context.Context, s *settings, attempt int) (*transaction, error) {
	t := &transaction{m: m, settings: s, attempt: attempt, began: time.Now(), root: scope{Context: ctx}}
	t.root.t, t.innermost = t, &t.root
	var err error
	if t.conn, err = m.acquire(ctx); err != nil {
		return nil, fmt.Errorf("txn: begin: %w", err)
	}
	m.db.Internals().LimitLease(t.conn.Conn(), m.longTx)
	if err := t.sendBegin(ctx); err != nil {
		t.rollBack()
		return nil, fmt.Errorf("txn: begin: %w", sqlstate.StatementError(t.root.Context, err))
	}
	m.counters.begun.Add(1)
	return t, nil
}

// sendBegin sends BEGIN, the settings of the transaction and what is needed to resolve the commit in one round trip.
func (t *transaction) sendBegin(ctx context.Context) (err error) {
	conn, s := t.conn.Conn(), t.settings
	if !s.setsTimeouts() && !s.resolvesCommit() && s.values == nil {
		t.tx, err = conn.BeginTx(ctx, s.mode)
		return err //nolint:wrapcheck // begin wraps it
	}
	batch := &pgx.Batch{}
	batch.BeginTx(s.mode)
	if s.setsTimeouts() {
		s.queueTimeouts(ctx, batch)
	}
	if s.resolvesCommit() {
		if t.identity, err = t.m.resolver.queueIdentity(ctx, conn, s.resolution, batch); err != nil {
			return err
		}
	}
	if s.leader != nil {
		s.leader.queueCheck(s.mode, batch)
	}
	if s.values != nil { // last, because the statements before need the rights of the login user
		s.values.queue(batch)
	}
	results := conn.SendBatch(ctx, batch)
	err = results.Close()
	t.tx = results.Tx()
	if t.identity != nil {
		t.m.resolver.checkIdentity(t.identity, err)
	}
	return err //nolint:wrapcheck // begin wraps it
}

// abort rolls back after a panic or runtime.Goexit.
func (t *transaction) abort() {
	_ = t.stopUse() // the panic is worse than an open result
	t.rollBack()
	t.count(errAbandoned)
	t.root.takeHooks().afterRollback(t.root.Context, errAbandoned)
}

// end commits or rolls back and returns the error for Do's caller. err is the closure's.
func (t *transaction) end(err error) error {
	inUse := t.stopUse()
	if err == nil {
		err = t.commitBlocker(inUse)
	}
	if err == nil {
		if err = t.commit(); err == nil {
			t.count(nil)
			t.root.takeHooks().afterCommit(t.root.Context)
			return nil
		}
		if errors.Is(err, ErrOutcomeUnknown) {
			t.count(err)
			return err
		}
	} else {
		t.recordRollback(inUse, err)
		t.rollBack()
	}
	if t.endedByClosure && !errors.Is(err, errEndedByClosure) { // earlier changes are committed, whatever the closure returned
		err = errors.Join(err, errEndedByClosure)
	}
	t.count(err)
	err = sqlstate.WithContextError(t.root.Context, err)
	t.root.takeHooks().afterRollback(t.root.Context, err)
	return err
}

// recordRollback records whether the connection was lost and whether another attempt can succeed, before a rollback. It closes the
// connection to a read-only server.
func (t *transaction) recordRollback(inUse, err error) {
	if inUse != nil {
		return
	}
	pg := t.conn.Conn().PgConn()
	t.connLost = pg.IsClosed()
	t.noteRetryable(err)
	if t.failure != nil && (t.connLost || pg.TxStatus() == statusFailed) { // the closure may have returned another error
		t.noteRetryable(t.failure)
	}
	if t.retryable != nil && sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		t.closeConn() // the next attempt must not reach the same read-only server
	}
}

// noteRetryable records err as the reason for another attempt if it permits one. Call it only for a transaction that has certainly
// left no changes.
func (t *transaction) noteRetryable(err error) {
	if t.retryable == nil && !t.endedByClosure && t.settings.canRetry(err, t.connLost) {
		t.retryable = err
	}
}

// commitBlocker returns why a transaction whose closure returned nil can't be committed. inUse is the error of stopUse.
func (t *transaction) commitBlocker(inUse error) error {
	if inUse != nil {
		return inUse
	}
	if cause := t.root.rollbackCause(); cause != nil {
		return &RollbackOnlyError{Cause: cause}
	}
	pg := t.conn.Conn().PgConn()
	if pg.IsClosed() { // COMMIT isn't sent, so the outcome is known
		return t.connLostError()
	}
	switch pg.TxStatus() {
	case statusFailed:
		return &FailedStatementError{Cause: t.failure}
	case statusIdle:
		return errEndedByClosure
	}
	if t.endedByClosure {
		return errEndedByClosure
	}
	if t.openSavepoints.Load() > 0 {
		return errSavepointOpen
	}
	if err := t.root.Err(); err != nil {
		return fmt.Errorf("txn: rolled back: %w", err)
	}
	return nil
}

func (t *transaction) connLostError() error {
	if t.failure != nil {
		return fmt.Errorf("txn: rolled back because the connection was lost before the commit: %w", t.failure)
	}
	return errConnLost
}

// commit commits and releases the connection. Any error other than an OutcomeUnknownError proves that nothing is committed.
func (t *transaction) commit() error {
	err := t.tx.Commit(t.root.Context)
	pg := t.conn.Conn().PgConn()
	// pgx closes the connection unless the server has replied. A refusal is proven only by the server's own error.
	refused := !pg.IsClosed() && !pg.IsBusy() && sqlstate.Code(err) != ""
	t.conn.Release()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return &FailedStatementError{Cause: t.failure}
	case !refused:
		return t.resolveCommit(err)
	}
	t.commitRefused = t.root.Err() == nil
	t.noteRetryable(err)
	return t.m.commitError(fmt.Errorf("txn: commit: %w", err))
}

// rollBack rolls back, independently of the caller's ctx, and releases the connection. If the rollback fails, pgx closes the
// connection, and the server rolls back by itself.
func (t *transaction) rollBack() {
	if t.orphaned {
		return
	}
	defer t.conn.Release() // the pool closes a connection that is still in a transaction
	pg := t.conn.Conn().PgConn()
	if t.tx == nil || pg.IsClosed() || pg.TxStatus() == statusIdle {
		return
	}
	ctx, cancel := t.cleanupContext()
	defer cancel()
	if err := t.tx.Rollback(ctx); err != nil {
		t.m.logger.Warn("rollback failed, connection closed", zap.Error(err))
	}
}

// stopUse ends every use of the connection. It returns an error if the closure has left a call running or a result open. The
// call is interrupted. The connection of an open result is closed, because the size of the rest is unknown.
func (t *transaction) stopUse() error {
	busy, calling := t.use.end()
	if !busy {
		return nil
	}
	left := errResultOpen
	if calling {
		left = errStatementRunning
		if !t.interrupt() {
			return left
		}
	}
	if t.conn.Conn().PgConn().IsBusy() {
		t.closeConn()
	}
	return left
}

// cleanupContext returns a context for cleaning up after the caller's ctx may have ended.
func (t *transaction) cleanupContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.root.Context), cleanupTimeout)
}

// closeConn closes the connection, which the pool then replaces. The caller uses it.
func (t *transaction) closeConn() {
	ctx, cancel := t.cleanupContext()
	defer cancel()
	_ = t.conn.Conn().Close(ctx) // the socket is closed in any case
}

// interrupt cancels the running call and waits until it has returned. If it doesn't return in time, the connection is left to
// it, and interrupt returns false.
func (t *transaction) interrupt() bool {
	ctx, cancel := t.cleanupContext()
	defer cancel()
	returned := t.use.wait()
	pg := t.conn.Conn().PgConn()
	if err := pg.CancelRequest(ctx); err != nil {
		_ = pg.Conn().Close() // without the server's help only this ends the call
	}
	select {
	case <-returned:
		return true
	case <-ctx.Done():
	}
	_ = pg.Conn().Close()
	t.orphaned = true
	go func() {
		<-returned
		t.conn.Release()
	}()
	return false
}
