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

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

const (
	// cleanupTimeout bounds what is done after a ctx has ended: rolling back.
	cleanupTimeout = 5 * time.Second
	// readerGrace is how long a goroutine that still reads a result has to notice that the transaction is over.
	readerGrace = 10 * time.Millisecond
)

// The states of a transaction. Whoever moves it out of stateIdle has the connection to itself.
const (
	stateIdle     int32 = iota
	stateCalling        // a call is running
	stateReading        // a result has not been read to its end
	stateEnding         // the end has the connection
	stateDraining       // the end waits for whoever has the connection
	stateOrphaned       // the end has given up waiting: whoever has the connection releases it
)

// inFailedTransaction is what a statement gets after another one has failed.
const inFailedTransaction = "25P02"

// The values of pgconn.PgConn.TxStatus (PostgreSQL manual, "Message Formats", ReadyForQuery).
const (
	statusIdle   = 'I'
	statusFailed = 'E'
)

// transaction is one transaction on the server. It implements pgx.Tx.
type transaction struct {
	m     *Manager
	conn  *pgxpool.Conn
	terms *settings
	root  scope
	began time.Duration // on the manager's clock
	// drained is made by the end before it enters stateDraining, and closed by whoever has the connection then.
	drained chan struct{}

	attempt    int
	state      atomic.Int32
	savepoints atomic.Int32 // made so far
	// inside tells that somebody who reads a result is in pgx, before they have looked at the state.
	inside atomic.Bool
	// noted is set once a scope has hooks or a reason not to be committed. Before, nobody need look for these.
	noted atomic.Bool

	// What follows belongs to whoever has the connection.
	broken      bool  // the connection was lost before COMMIT was sent
	refused     bool  // the server refused the COMMIT
	endedInside bool  // a statement of the closure has ended it, and perhaps begun another one
	failed      error // what put the transaction into the failed state or broke the connection
	again       error // because of which doing it again can help
	doubt       *doubt
	tx          pgx.Tx // pgx's own, where it was needed
	results     results

	mu        sync.Mutex
	innermost *scope // the scope that has no scope in it
}

// begin opens a transaction on a connection of the pool.
func (m *Manager) begin(ctx context.Context, terms *settings, attempt int) (*transaction, error) {
	t := &transaction{m: m, terms: terms, attempt: attempt, began: m.now(), root: scope{Context: ctx}}
	t.root.t, t.innermost = t, &t.root
	conn, err := m.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("txn: begin: %w", err)
	}
	t.conn = conn
	m.db.Internals().LimitLease(conn.Conn(), &m.open)
	if terms.tracked() {
		err = t.beginTracked(ctx)
	} else {
		_, err = conn.Conn().Exec(ctx, terms.beginWithLocals(ctx))
	}
	if err != nil {
		t.rollBack()
		return nil, fmt.Errorf("txn: begin: %w", t.withContextError(err))
	}
	m.counters.begun.Add(1)
	return t, nil
}

// abort rolls back after a panic or runtime.Goexit.
func (t *transaction) abort() {
	_ = t.seize() // that somebody still uses the transaction is not the worst of it
	t.rollBack()
	t.ended(errAbandoned)
	t.root.takeHooks().afterRollback(t.root.Context, errAbandoned)
}

// end commits or rolls back and returns what Do returns.
func (t *transaction) end(err error) error {
	inUse := t.seize()
	if err == nil {
		err = t.obstacle(inUse)
	}
	if err == nil {
		if err = t.commit(); err == nil {
			t.ended(nil)
			t.root.takeHooks().afterCommit(t.root.Context)
			return nil
		}
		if errors.Is(err, ErrOutcomeUnknown) {
			t.ended(err)
			return err
		}
	} else {
		t.look(inUse, err)
		t.rollBack()
	}
	if t.endedInside && !errors.Is(err, errEndedInside) { // what came before is stored, whatever the closure says
		err = errors.Join(err, errEndedInside)
	}
	t.ended(err)
	err = t.withContextError(err)
	t.root.takeHooks().afterRollback(t.root.Context, err)
	return err
}

// look finds out what is to be known about a transaction that is rolled back, before its connection goes.
func (t *transaction) look(inUse, err error) {
	if inUse != nil {
		return
	}
	pg := t.conn.Conn().PgConn()
	t.broken = pg.IsClosed()
	t.repeatable(err)
	if t.failed != nil && (t.broken || pg.TxStatus() == statusFailed) { // whatever the closure made of it
		t.repeatable(t.failed)
	}
	if t.again != nil && sqlstate.Code(err) == sqlstate.ReadOnlySQLTransaction {
		_ = pg.Conn().Close() // it leads to a server that can't be written to
	}
}

// repeatable notes err when the transaction can be done again because of it. Nothing of it is stored.
func (t *transaction) repeatable(err error) {
	if t.again == nil && !t.endedInside && t.terms.retryable(err, t.broken) {
		t.again = err
	}
}

// withContextError adds that ctx has ended to the error of a statement that the server cancelled for that reason: the server
// says "canceling statement due to user request" and can't know more.
func (t *transaction) withContextError(err error) error {
	if sqlstate.Code(err) != sqlstate.QueryCanceled {
		return err
	}
	if ctxErr := t.root.Err(); ctxErr != nil && !errors.Is(err, ctxErr) {
		return fmt.Errorf("txn: rolled back: %w: %w", ctxErr, err)
	}
	return err
}

// obstacle returns why a transaction whose closure returned nil can't be committed. inUse comes from seize.
func (t *transaction) obstacle(inUse error) error {
	if inUse != nil {
		return inUse
	}
	if cause := t.root.whyForbidden(); cause != nil {
		return &RollbackOnlyError{Cause: cause}
	}
	pg := t.conn.Conn().PgConn()
	if pg.IsClosed() { // COMMIT is never sent, so that there is no doubt
		return t.lost()
	}
	switch pg.TxStatus() {
	case statusFailed:
		return &FailedStatementError{Cause: t.failed}
	case statusIdle:
		return errEndedInside
	}
	if t.endedInside {
		return errEndedInside
	}
	if err := t.root.Err(); err != nil {
		return fmt.Errorf("txn: rolled back: %w", err)
	}
	return nil
}

func (t *transaction) lost() error {
	if t.failed != nil {
		return fmt.Errorf("txn: rolled back, because the connection was lost before the commit: %w", t.failed)
	}
	return errLost
}

// commit sends COMMIT. An error says that nothing has been committed only when that is certain.
func (t *transaction) commit() error {
	conn := t.conn.Conn()
	tag, err := t.m.sendCommit(t.root.Context, conn)
	if err == nil {
		t.conn.Release()
		if tag.String() == "ROLLBACK" { // the server's last word, should the status have been wrong
			return &FailedStatementError{Cause: t.failed}
		}
		return nil
	}
	if pg := conn.PgConn(); pg.IsClosed() || pg.IsBusy() || !answered(err, pg) {
		t.conn.Release()
		return t.settle(err)
	}
	t.refused = t.root.Err() == nil
	t.repeatable(err)
	t.rollBack()
	return fmt.Errorf("txn: commit: %w", err)
}

// sendCommit does what conn.Exec does with a COMMIT, and spares what that does for other statements: looking for one that has
// been prepared under the name, and dropping from caches what has failed.
func (m *Manager) sendCommit(ctx context.Context, conn *pgx.Conn) (tag pgconn.CommandTag, err error) {
	const sql = "commit"
	if m.tracer != nil {
		ctx = m.tracer.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
	}
	results := conn.PgConn().Exec(ctx, sql)
	for results.NextResult() {
		tag, _ = results.ResultReader().Close() // what it tells, the other Close tells, too
	}
	err = results.Close()
	if m.tracer != nil {
		m.tracer.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
	return tag, err //nolint:wrapcheck // commit wraps it
}

// answered reports whether an error of COMMIT proves that nothing was committed. It does when the transaction is still
// there, so that COMMIT was not sent or not carried out, or when the server itself refused and goes on.
func answered(err error, pg *pgconn.PgConn) bool {
	return pg.TxStatus() != statusIdle || sqlstate.Code(err) != ""
}

// rollBack rolls back, independently of the caller's ctx, and gives the connection back. A connection on which that fails
// is closed; the server then rolls back by itself.
func (t *transaction) rollBack() {
	if t.state.Load() == stateOrphaned {
		return
	}
	defer t.conn.Release()
	pg := t.conn.Conn().PgConn()
	if pg.IsClosed() || pg.TxStatus() == statusIdle && !pg.IsBusy() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.root.Context), cleanupTimeout)
	defer cancel()
	if _, err := t.conn.Conn().Exec(ctx, "rollback"); err != nil { // the pool closes a connection that is still in a transaction
		t.m.logger.Warn("rollback failed; the connection is closed instead", zap.Error(err))
	}
}

// seize takes the connection for the end of the transaction. When somebody else still has it, a goroutine that the closure
// left behind or a result that it left open, it returns an error and has seen to it that they let go.
func (t *transaction) seize() error {
	for {
		if t.state.CompareAndSwap(stateIdle, stateEnding) {
			return nil
		}
		t.drained = make(chan struct{})
		if t.state.CompareAndSwap(stateCalling, stateDraining) {
			t.interrupt()
			return errStillCalling
		}
		if t.state.CompareAndSwap(stateReading, stateDraining) {
			t.cutReader()
			return errStillReading
		}
	}
}

// interrupt cancels the running statement and waits for its end.
func (t *transaction) interrupt() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.root.Context), cleanupTimeout)
	defer cancel()
	pg := t.conn.Conn().PgConn()
	if err := pg.CancelRequest(ctx); err != nil {
		_ = pg.Conn().Close() // without the server's help only this ends the statement
	}
	select {
	case <-t.drained:
	case <-ctx.Done():
		_ = pg.Conn().Close() // the call that is stuck gets an error, or finds it when it goes on
		if !t.state.CompareAndSwap(stateDraining, stateOrphaned) {
			<-t.drained
		}
	}
}

// cutReader ends the reading of a result. Usually there is no reader: the closure has returned without closing its rows.
// The socket is all that may be touched while there could be one.
func (t *transaction) cutReader() {
	_ = t.conn.Conn().PgConn().Conn().Close() // the connection is lost, as nobody knows how much is left to read
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	select {
	case <-t.drained:
	case <-grace.C:
		if !t.state.CompareAndSwap(stateDraining, stateEnding) {
			<-t.drained
			return
		}
		t.awaitReader()
	}
}

// awaitReader waits until nobody is in pgx who has not seen that the connection belongs to the end: without a socket pgx soon
// returns, unless a Scan of the reader's own doesn't.
func (t *transaction) awaitReader() {
	limit := time.NewTimer(cleanupTimeout)
	defer limit.Stop()
	ticker := time.NewTicker(readerGrace)
	defer ticker.Stop()
	for t.inside.Load() {
		select {
		case <-ticker.C:
		case <-limit.C:
			return
		}
	}
}
