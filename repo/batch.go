package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/txn"
)

// Batch collects calls of repositories of one database, which [Batch.Send] sends in one round trip:
//
//	var batch repo.Batch
//	user := users.In(&batch).Get(id)
//	open := orders.In(&batch).Find(repo.Eq("customer", id), repo.Limit(10))
//	all := orders.In(&batch).Count(repo.Eq("customer", id))
//	if err := batch.Send(ctx); err != nil {
//		return err
//	}
//	found, err := user.Value()
//
// The zero value is ready to use. A Batch is sent once and is not safe for concurrent use.
type Batch struct {
	calls []*batchCall
	sent  bool
}

// Result is the result of a call in a batch. It is available after [Batch.Send].
type Result[V any] struct {
	value V
	err   error
}

// Value returns what the call alone would have returned: the value, or [ErrNotFound] or a [*MissingError] if rows don't exist. If
// the batch failed, all calls in it return the error that Send returned.
func (r *Result[V]) Value() (V, error) { return r.value, r.err }

func (r *Result[V]) set(value V, err error) { r.value, r.err = value, err }

func (r *Result[V]) fail(err error) {
	var zero V
	r.set(zero, err)
}

// errNotSent is the error of a result before its batch is sent.
var errNotSent = errors.New("repo: the batch has not been sent: call Batch.Send first")

// BatchError reports which call of a batch failed. It unwraps to the error that the call alone would have returned. Nothing was
// written, unless it unwraps to a [*txn.CommittedError] or a [*txn.OutcomeUnknownError].
type BatchError struct {
	// Index is the position of the call in the batch, from 0. It is -1 if it is unknown, for example if the connection was lost.
	Index int
	// Call is the name of the call, as in "Count of orders", "" if it is unknown.
	Call string

	err error
}

func (e *BatchError) Error() string {
	text := strings.TrimPrefix(e.err.Error(), "repo: ")
	if e.Index < 0 {
		return "repo: batch: " + text
	}
	return fmt.Sprintf("repo: call at index %d of the batch, %s: %s", e.Index, e.Call, text)
}

func (e *BatchError) Unwrap() error { return e.err }

// batchCall is a call in a batch.
type batchCall struct {
	name string
	tx   *txn.Manager
	d    *descriptor
	op   string
	// untyped is that of the repository.
	untyped bool
	// prepare is called before anything is sent and completes the statements; may be nil.
	prepare    func(ctx context.Context) error
	statements []batchStatement
	writes     bool
	// read reads the result of a statement and closes the rows.
	read func(statement int, rows pgx.Rows) error
	// done is called if the whole batch succeeded, fail if it did not.
	done func()
	fail func(err error)
}

type batchStatement struct {
	sql  string
	args []any
	// columns are the columns of the arguments, for errors; nil if the text names them.
	columns []*column
}

// add appends a call.
func (b *Batch) add(c *batchCall) { b.calls = append(b.calls, c) }

// Send executes the calls in their order, in one round trip, in the transaction of ctx or on the pool. Outside a transaction the
// batch is atomic by itself: all of its writes are done or none. Its reads still see what others commit meanwhile. For one
// snapshot send it in a transaction with txn.RepeatableRead. ctx bounds the call.
//
// Outside a transaction a batch that only reads is retried like a single read if the connection is lost.
//
// A missing row is the result of its call and not an error of the batch. If a call fails, nothing
// is written and the error is a [*BatchError] for the first such call.
//
// Outside a transaction the error may unwrap to one of txn.Manager.DoBatch. [*txn.CommittedError] means that everything was
// written but a returned row doesn't fit its struct. [*txn.OutcomeUnknownError] means that the connection was lost during the
// writes.
func (b *Batch) Send(ctx context.Context) error {
	index, err := b.send(ctx)
	if err == nil {
		for _, c := range b.calls {
			c.done()
		}
		return nil
	}
	failure := &BatchError{Index: index, err: err}
	if index >= 0 {
		failure.Call = b.calls[index].name
	}
	for _, c := range b.calls {
		c.fail(failure)
	}
	return failure
}

// send returns the position of the call that failed, -1 if the error concerns all.
func (b *Batch) send(ctx context.Context) (int, error) {
	if b.sent {
		return -1, &queryError{"a batch can be sent only once: create another one"}
	}
	b.sent = true
	if len(b.calls) == 0 {
		return -1, nil
	}
	tx := b.calls[0].tx
	for i, c := range b.calls {
		if c.tx.DB() != tx.DB() {
			return i, &queryError{"the call is for another database than the first call of the batch"}
		}
		if c.prepare == nil {
			continue
		}
		if err := c.prepare(ctx); err != nil {
			return i, err
		}
	}
	index := -1
	send := func() error {
		return retryStale(ctx, tx, func() (refused bool, err error) {
			index, err = b.sendOnce(ctx, tx)
			for _, c := range b.calls {
				c.d.forgetIfStale(err)
			}
			return false, err
		})
	}
	var err error
	if b.writes() {
		err = send()
	} else {
		err = retryRead(ctx, tx, send)
	}
	if err != nil {
		return b.explain(ctx, tx, index, err)
	}
	return -1, nil
}

// explain returns the position of the call that failed, as send does, and its error.
func (b *Batch) explain(ctx context.Context, tx *txn.Manager, index int, err error) (int, error) {
	var (
		statements []*batchStatement
		calls      []int
	)
	for i, c := range b.calls {
		for j := range c.statements {
			statements, calls = append(statements, &c.statements[j]), append(calls, i)
		}
	}
	position, value := explainBatch(ctx, tx, len(statements), func(position int) (*descriptor, batchStatement) {
		return b.calls[calls[position]].d, *statements[position]
	}, err)
	if value != nil {
		err = value
	}
	if position >= 0 {
		index = calls[position]
		err = b.calls[index].nameParameter(err, statements[position])
	}
	return index, b.wrap(index, err)
}

// nameParameter adds the column of the refused argument to an error.
func (c *batchCall) nameParameter(err error, s *batchStatement) error {
	if s.columns != nil {
		return nameArgument(err, s.columns)
	}
	return c.d.nameParameter(err, s.sql)
}

func (b *Batch) writes() bool {
	return slices.ContainsFunc(b.calls, func(c *batchCall) bool { return c.writes })
}

func (b *Batch) wrap(index int, err error) error {
	if index < 0 {
		return wrapError("", "", nil, err, -1)
	}
	return b.calls[index].d.wrap(b.calls[index].op, err, -1)
}

// sendOnce sends the batch once.
func (b *Batch) sendOnce(ctx context.Context, tx *txn.Manager) (int, error) {
	index := -1
	var readErr error
	read := func(results pgx.BatchResults) error {
		index, readErr = b.read(results)
		return readErr
	}
	if b.writes() {
		err := tx.DoBatch(ctx, b.queue, read)
		if err != nil && (index < 0 || !errors.Is(err, readErr)) { // not the error of a call, but that of the commit
			index = b.failedCall(-1, err)
		}
		return index, err
	}
	batch := &pgx.Batch{}
	b.queue(batch)
	results := tx.SendBatch(ctx, batch)
	err := read(results)
	if closed := results.Close(); err == nil {
		err = closed
	}
	return index, err
}

func (b *Batch) queue(batch *pgx.Batch) {
	describe := newDescriber(b.calls[0].untyped) // the mode of the database
	for _, c := range b.calls {
		for _, s := range c.statements {
			describe.queue(batch, s.sql, s.args)
		}
	}
}

// read reads the results. The first result is the position of the call to which the error belongs, -1 if it concerns all.
func (b *Batch) read(results pgx.BatchResults) (int, error) {
	position := 0
	for i, c := range b.calls {
		for statement := range c.statements {
			rows, err := results.Query() //nolint:rowserrcheck // read sees to it
			if err == nil {
				err = c.read(statement, rows)
			}
			if err != nil {
				if at := unsent(position, err); at != position {
					i, statement = b.statementAt(at)
					c = b.calls[i]
				}
				index := b.failedCall(i, err)
				if index == i {
					err = c.nameParameter(err, &c.statements[statement])
				}
				if isReadError(err) {
					err = c.d.wrap(c.op, err, -1)
				}
				return index, err
			}
			position++
		}
	}
	return -1, nil
}

// statementAt returns the positions of a statement's call and of the statement in it.
func (b *Batch) statementAt(position int) (call, statement int) {
	for i, c := range b.calls {
		if position < len(c.statements) {
			return i, position
		}
		position -= len(c.statements)
	}
	return 0, 0
}

// failedCall returns the position of the call to which an error belongs that occurred at the results of the call at index. It is
// -1 if no call is responsible or it is unknown: there was no connection, or it was lost. A statement that can't be prepared, or
// whose arguments can't be encoded, fails before the first one is executed.
func (b *Batch) failedCall(index int, err error) int {
	early, ok := errors.AsType[pgx.ErrPreprocessingBatch](err)
	if !ok {
		cause := sqlstate.CauseOf(err)
		if fromLowerLayer(err) || errors.Is(err, context.Canceled) || cause != sqlstate.Unknown && cause != sqlstate.ReadOnly {
			return -1
		}
		return index
	}
	found := -1
	for i, c := range b.calls {
		if !slices.ContainsFunc(c.statements, func(s batchStatement) bool { return sentAs(s.sql, early) }) {
			continue
		}
		if _, answered := pgError(err); found >= 0 && !answered {
			return -1 // one of several calls with this statement
		}
		if found < 0 {
			found = i
		}
	}
	return found
}
