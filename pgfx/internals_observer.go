package pgfx

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/poolstats"
)

// Observer is notified of the traffic of a pool and of its transactions, with the durations that the statistics of the pool count.
// Package telemetry makes metrics and spans of them. Fields that are nil are not called.
//
// The goroutine that caused an event calls the function before it continues. So functions must return quickly, be safe for
// concurrent use and must not use the pool. If Config.Stats.Disabled is set, Statement and Release are never called.
type Observer struct {
	// Statement is called when a statement, a batch or a COPY has ended. ctx is that of the statement.
	Statement func(ctx context.Context, e StatementEvent)
	// Acquire is called when an acquire has ended, unless the gate or a guard refused it. ctx is that of the acquire.
	Acquire func(ctx context.Context, e AcquireEvent)
	// Release is called when a connection is released that has been held for this time.
	Release func(held time.Duration)
	// Connect is called when an attempt of the pool to open a connection has ended. ctx carries the values of the acquire that
	// needs the connection, if there is one.
	Connect func(ctx context.Context, e ConnectEvent)
	// BeginTx is called when a transaction of txn.Manager begins. It returns the context of the transaction, which must be ctx or
	// be derived from it. Code in the transaction, RetryTx and EndTx receive that context.
	BeginTx func(ctx context.Context, e BeginTxEvent) context.Context
	// RetryTx is called before another attempt of the transaction, with the number of that attempt and the reason for it.
	RetryTx func(ctx context.Context, attempt int, reason error)
	// EndTx is called when the transaction has ended.
	EndTx func(ctx context.Context, e EndTxEvent)
	// Comment returns the comment that txn.Manager and repositories append to the text of a statement with this context.
	Comment func(ctx context.Context) Comment
}

// Comment is a text in /* and */ that is appended to a statement. The zero value appends none.
type Comment struct {
	// Stable is the same for all executions of a statement by one operation, so the statement stays prepared.
	Stable string
	// Once replaces Stable if it is not "". It differs between executions, so the statement is not kept as a prepared one.
	Once string
}

// StatementEvent is a statement, a batch or a COPY that has ended.
type StatementEvent struct {
	// Text is the text as it was sent, so it may contain values. Text of a batch is that of its first statement.
	Text string
	// Batch are the statements of a batch, nil if it is none. It must not be used after the call.
	Batch []*pgx.QueuedQuery
	// Tag is the server's command tag, empty for a batch and after an error.
	Tag pgconn.CommandTag
	// Took is the duration until the last row was read. Prepared is the part of it in which statements were prepared.
	Took, Prepared time.Duration
	// PID is the process ID of the server's backend.
	PID uint32
	// Err is the error of the statement, or nil.
	Err error
}

// AcquireEvent is an acquire that has ended.
type AcquireEvent struct {
	// Waited is how long the acquire took, 0 if a connection was idle.
	Waited time.Duration
	// Err is the error of the acquire, or nil.
	Err error
}

// ConnectEvent is an attempt to open a connection that has ended.
type ConnectEvent struct {
	// Took is the duration, including the login.
	Took time.Duration
	// Err is the error of the attempt, or nil.
	Err error
}

// BeginTxEvent is a transaction that begins.
type BeginTxEvent struct{ Options pgx.TxOptions }

// EndTxEvent is a transaction that has ended, after all its attempts.
type EndTxEvent struct {
	// Outcome is "committed", "rolled_back" or "unknown".
	Outcome string
	// Reason is why the last attempt was rolled back: the name of a field of txn.RolledBack in JSON, otherwise "".
	Reason string
	// Attempts is the number of attempts.
	Attempts int
	// Took is the duration of all attempts together, including waits.
	Took time.Duration
	// Err is the error of the transaction, or nil. After a panic it is nil, too.
	Err error
}

// Observe adds an observer. cancel removes it and leaves other observers in place; it may be called more than once. A call that is
// under way when cancel returns may still finish afterwards.
func (i *Internals) Observe(observer Observer) (cancel func()) { return i.observers.add(observer) }

// IsObserved reports whether there is an observer.
func (i *Internals) IsObserved() bool { return i.observers.all() != nil }

// Operation is a call above SQL that runs statements, such as Get of a repository.
type Operation struct {
	// Name is the name of the call and Collection that of the table. An application has few of both.
	Name, Collection string
}

// NameOperation returns a context whose statements belong to an operation, for [OperationOf]. While the pool has no observer, or if
// ctx carries an operation already, it returns ctx.
func (i *Internals) NameOperation(ctx context.Context, name, collection string) context.Context {
	if !i.IsObserved() || OperationOf(ctx) != (Operation{}) {
		return ctx
	}
	return &operationCtx{ctx, Operation{name, collection}}
}

// OperationOf returns the operation to which the statements with ctx belong, the zero value if there is none.
func OperationOf(ctx context.Context) Operation {
	if op, ok := ctx.Value(operationKey{}).(*operationCtx); ok {
		return op.operation
	}
	return Operation{}
}

type operationKey struct{}

// operationCtx is a context with an operation. A separate type takes one allocation, context.WithValue two.
type operationCtx struct {
	context.Context //nolint:containedctx // it is a context

	operation Operation
}

// Value returns the context itself for operationKey.
func (c *operationCtx) Value(key any) any {
	if key == (operationKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// Comment returns the comment for a statement with this context, from the first observer that has any. Package txn calls it.
func (i *Internals) Comment(ctx context.Context) Comment {
	for _, o := range i.observers.all() {
		if o.Comment != nil {
			return o.Comment(ctx)
		}
	}
	return Comment{}
}

// statementEnded notifies the observers.
func (db *DB) statementEnded(ctx context.Context, e poolstats.Execution) {
	for _, o := range db.internals.observers.all() {
		if o.Statement != nil {
			o.Statement(ctx, StatementEvent{
				Text: e.Text, Batch: e.Batch, Tag: e.Tag, Took: e.Took, Prepared: e.Prepared, PID: e.PID, Err: e.Err,
			})
		}
	}
}

// acquireEnded notifies the observers.
func (db *DB) acquireEnded(ctx context.Context, e AcquireEvent) {
	for _, o := range db.internals.observers.all() {
		if o.Acquire != nil {
			o.Acquire(ctx, e)
		}
	}
}

// released notifies the observers.
func (db *DB) released(held time.Duration) {
	for _, o := range db.internals.observers.all() {
		if o.Release != nil {
			o.Release(held)
		}
	}
}

// connectEnded notifies the observers.
func (db *DB) connectEnded(ctx context.Context, e ConnectEvent) {
	for _, o := range db.internals.observers.all() {
		if o.Connect != nil {
			o.Connect(ctx, e)
		}
	}
}

// BeginTx notifies the observers that a transaction begins. It returns the context of the transaction. Package txn calls it, and
// [Internals.RetryTx] and [Internals.EndTx] with that context.
func (i *Internals) BeginTx(ctx context.Context, e BeginTxEvent) context.Context {
	for _, o := range i.observers.all() {
		if o.BeginTx != nil {
			ctx = o.BeginTx(ctx, e) //nolint:fatcontext // one context for each observer
		}
	}
	return ctx
}

// RetryTx notifies the observers of another attempt of a transaction.
func (i *Internals) RetryTx(ctx context.Context, attempt int, reason error) {
	for _, o := range i.observers.all() {
		if o.RetryTx != nil {
			o.RetryTx(ctx, attempt, reason)
		}
	}
}

// EndTx notifies the observers that a transaction has ended.
func (i *Internals) EndTx(ctx context.Context, e EndTxEvent) {
	for _, o := range i.observers.all() {
		if o.EndTx != nil {
			o.EndTx(ctx, e)
		}
	}
}
