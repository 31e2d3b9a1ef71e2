package txn

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

var (
	// ErrRollbackOnly is matched by every [*RollbackOnlyError].
	ErrRollbackOnly = errors.New("txn: the transaction is rollback-only")
	// ErrOutcomeUnknown is matched by every [*OutcomeUnknownError].
	ErrOutcomeUnknown = errors.New("txn: outcome of commit unknown")
	// ErrTxDone is returned if the transaction of a context, or its [Nested] scope, has ended. For work that continues in the
	// background use a context from [Detach].
	ErrTxDone = errors.New("txn: the transaction of this context has ended: " +
		"don't use the context after Do has returned, for example in a goroutine that the closure has started; use Detach")
	// ErrConcurrentUse is returned to the second user of a transaction. A transaction is one connection, which can do only one
	// thing at a time.
	ErrConcurrentUse = errors.New("txn: the transaction is in use: " +
		"finish reading the previous result, and don't share a transaction between goroutines")
	// ErrOptionMismatch is matched by every [*OptionMismatchError].
	ErrOptionMismatch = errors.New("txn: options differ from those of the running transaction")
	// ErrManagedTx is returned by Commit and Rollback of the pgx.Tx that [Manager.Tx] returns, because [Manager.Do] ends the
	// transaction.
	ErrManagedTx = errors.New("txn: Do ends this transaction: return nil to commit, or an error to roll back")
)

// RollbackOnlyError is returned by the outermost Do if its closure returned nil although an inner Do had failed. The
// transaction has been rolled back. The error matches [ErrRollbackOnly] and unwraps to the error of the inner Do.
type RollbackOnlyError struct {
	// Cause is the error of the first inner Do that failed.
	Cause error
}

func (e *RollbackOnlyError) Error() string {
	return "txn: rolled back because an inner Do failed and its error was ignored: " + e.Cause.Error()
}

// Is matches ErrRollbackOnly.
func (e *RollbackOnlyError) Is(target error) bool { return target == ErrRollbackOnly }

// Unwrap returns e.Cause.
func (e *RollbackOnlyError) Unwrap() error { return e.Cause }

// errAbandoned is the cause if a closure did not return.
var errAbandoned = errors.New("the closure panicked or called runtime.Goexit")

var (
	errStatementRunning = fmt.Errorf("txn: rolled back because the closure returned while a statement was running; "+
		"wait for the goroutines that use the transaction: %w", ErrConcurrentUse)
	errResultOpen = fmt.Errorf("txn: rolled back because the closure returned with a result open; "+
		"close the rows, scan the row: %w", ErrConcurrentUse)
	errSavepointOpen = fmt.Errorf("txn: rolled back because the closure returned with an inner transaction open; "+
		"call Commit or Rollback of each transaction that Begin returns: %w", ErrConcurrentUse)
	errEndedByClosure = errors.New("txn: the closure ended the transaction with its own statement, so later statements ran " +
		"outside it: leave commit and rollback to Do")
	errConnLost = fmt.Errorf("txn: rolled back because %w before the commit", sqlstate.ErrConnLost)
)

// FailedStatementError is returned by Do if the closure returned nil although a statement had failed. PostgreSQL commits nothing
// after an error (SQLSTATE 25P02), so the transaction has been rolled back. The error matches pgx.ErrTxCommitRollback and
// unwraps to the error of the statement.
type FailedStatementError struct {
	// Cause is the error of the statement that failed. It is nil if the statement did not run through the manager.
	Cause error
}

func (e *FailedStatementError) Error() string {
	text := "txn: rolled back because a statement failed and its error was ignored"
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Is matches pgx.ErrTxCommitRollback.
func (e *FailedStatementError) Is(target error) bool { return target == pgx.ErrTxCommitRollback }

// Unwrap returns e.Cause.
func (e *FailedStatementError) Unwrap() error { return e.Cause }

// OutcomeUnknownError reports an in-doubt commit that could not be resolved (see [ResolveCommit]): the connection was lost after
// COMMIT was sent and before the server replied. Check whether the work was committed before you retry it. The error matches
// [ErrOutcomeUnknown] and unwraps to the error of the connection.
type OutcomeUnknownError struct {
	// XID is the ID of the transaction, for pg_xact_status; 0 if it isn't known. After a crash or a failover of the server the
	// ID may belong to another transaction.
	XID uint64
	// Why is the reason why the outcome could not be resolved.
	Why error

	err error
}

func (e *OutcomeUnknownError) Error() string {
	text := "txn: outcome of commit unknown: the connection was lost before the server replied; " +
		"check whether the work was committed before retrying: " + e.err.Error()
	if e.Why != nil {
		text += " (" + e.Why.Error() + ")"
	}
	return text
}

// Is matches ErrOutcomeUnknown.
func (e *OutcomeUnknownError) Is(target error) bool {
	return target == ErrOutcomeUnknown || target == sqlstate.ErrInDoubt // which excludes every retry
}

// Unwrap returns the error of the connection.
func (e *OutcomeUnknownError) Unwrap() error { return e.err }

// OptionMismatchError is returned by a Do that can't join the running transaction because their options differ. Nothing was
// done, and the running transaction is not affected. The error matches [ErrOptionMismatch].
type OptionMismatchError struct {
	// Option is the name of the option.
	Option string
	// Running is its value in the running transaction, and Wanted its value in the call.
	Running, Wanted string
}

func (e *OptionMismatchError) Error() string {
	running := e.Running
	if running == "" {
		running = "the server's default"
	}
	return fmt.Sprintf("txn: can't join a transaction with another %s: running %s, wanted %s; set it on the outermost Do",
		e.Option, running, e.Wanted)
}

// Is matches ErrOptionMismatch.
func (e *OptionMismatchError) Is(target error) bool { return target == ErrOptionMismatch }
