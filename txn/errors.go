package txn

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

var (
	// ErrRollbackOnly is matched by every [*RollbackOnlyError].
	ErrRollbackOnly = errors.New("txn: the transaction could only be rolled back")
	// ErrOutcomeUnknown is matched by every [*OutcomeUnknownError]: COMMIT was sent and its answer was lost.
	ErrOutcomeUnknown = errors.New("txn: outcome of the commit unknown")
	// ErrTxDone is what a context gives whose transaction, or whose scope in it, has ended. For work that goes on in the
	// background use a context from outside of the transaction.
	ErrTxDone = errors.New("txn: the transaction of this context has ended: " +
		"don't use the context of a finished Do, in a goroutine it has started for example")
	// ErrConcurrentUse is what a second user of a transaction gets: a transaction is one connection, which does one thing at
	// a time.
	ErrConcurrentUse = errors.New("txn: the transaction is in use: " +
		"finish reading the previous result, and don't share a transaction between goroutines")
	// ErrOptionMismatch is matched by every [*OptionMismatchError].
	ErrOptionMismatch = errors.New("txn: options differ from the running transaction's")
	// ErrManagedTx is returned by Commit and Rollback of the transaction that [Manager.Tx] gives: [Manager.Do] ends it.
	ErrManagedTx = errors.New("txn: this transaction is ended by Do: return nil to commit it, an error to roll it back")
)

// RollbackOnlyError is returned by the outermost Do when its closure returned nil, and so asked for a commit, although a
// scope inside of it had failed. The transaction has been rolled back. It matches [ErrRollbackOnly] and unwraps to what
// made the inner scope fail.
type RollbackOnlyError struct {
	// Cause is the error of the first inner scope that failed.
	Cause error
}

func (e *RollbackOnlyError) Error() string {
	return "txn: rolled back, because an inner Do failed and its error was swallowed: " + e.Cause.Error()
}

// Is matches ErrRollbackOnly.
func (e *RollbackOnlyError) Is(target error) bool { return target == ErrRollbackOnly }

func (e *RollbackOnlyError) Unwrap() error { return e.Cause }

// errAbandoned is the cause when an inner scope neither returned nor could be asked why.
var errAbandoned = errors.New("it panicked or called runtime.Goexit")

var (
	errStillCalling = fmt.Errorf("txn: rolled back, because the closure returned while a statement was running; "+
		"wait for the goroutines that use the transaction: %w", ErrConcurrentUse)
	errStillReading = fmt.Errorf("txn: rolled back, because the closure returned with a result open; "+
		"close the rows, scan the row: %w", ErrConcurrentUse)
	errEndedInside = errors.New("txn: the closure has ended the transaction with a statement of its own, so that what it did " +
		"afterwards was not in it: leave commit and rollback to Do")
	errLost = errors.New("txn: rolled back, because the connection was lost before the commit")
)

// FailedStatementError is returned by Do when the closure returned nil although a statement had failed: PostgreSQL commits
// nothing after an error (SQLSTATE 25P02). The transaction has been rolled back. It matches pgx.ErrTxCommitRollback and
// unwraps to the statement's error.
type FailedStatementError struct {
	// Cause is the error of the first statement that failed; nil when it was run past the manager.
	Cause error
}

func (e *FailedStatementError) Error() string {
	text := "txn: rolled back, because a statement failed and its error was swallowed"
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Is matches pgx.ErrTxCommitRollback.
func (e *FailedStatementError) Is(target error) bool { return target == pgx.ErrTxCommitRollback }

func (e *FailedStatementError) Unwrap() error { return e.Cause }

// OutcomeUnknownError says that COMMIT was sent, that its answer was lost, and that it could not be found out whether the
// transaction is committed or not (see [ResolveCommit]). Whoever gets it must find out before doing the work again. It matches
// [ErrOutcomeUnknown] and unwraps to what happened to the connection.
type OutcomeUnknownError struct {
	// XID is the transaction's ID on the server, for pg_xact_status; 0 when it isn't known. After a crash or a failover of the
	// server it may be somebody else's.
	XID uint64
	// Why is why the outcome could not be found out.
	Why error

	err error
}

func (e *OutcomeUnknownError) Error() string {
	text := "txn: the answer to COMMIT was lost, so that the work may be done or not; look before doing it again: " + e.err.Error()
	if e.Why != nil {
		text += " (" + e.Why.Error() + ")"
	}
	return text
}

// Is matches ErrOutcomeUnknown.
func (e *OutcomeUnknownError) Is(target error) bool {
	return target == ErrOutcomeUnknown || target == sqlstate.ErrInDoubt // nothing may be done again
}

func (e *OutcomeUnknownError) Unwrap() error { return e.err }

// OptionMismatchError says that a Do wanted to join the running transaction on other terms than it was begun on. Nothing has been
// done and the running transaction is unharmed. It matches [ErrOptionMismatch].
type OptionMismatchError struct {
	// Option is the name of the option.
	Option string
	// Running and Wanted are its values in the running transaction and in the call.
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
