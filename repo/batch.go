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

// Batch collects calls of repositories of one database, which [Batch.Send] carries out in one round trip:
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
// The zero value is ready for use. A Batch is sent once, and is not safe for concurrent use.
type Batch struct {
	calls []*batchCall
	sent  bool
}

// Result is what a call in a batch gives once the batch has been sent.
type Result[V any] struct {
	value V
	err   error
}

// Value returns what the call would have returned by itself: the value, or [ErrNotFound] or a [*MissingError] when rows are
// not there. When the batch has failed, so has every call in it, with the error that Send returned.
func (r *Result[V]) Value() (V, error) { return r.value, r.err }

func (r *Result[V]) set(value V, err error) { r.value, r.err = value, err }

func (r *Result[V]) fail(err error) {
	var zero V
	r.set(zero, err)
}

// errNotSent is what a result holds before its batch has been sent.
var errNotSent = errors.New("repo: the batch has not been sent: call Batch.Send first")

// BatchError says which call of a batch has failed. It unwraps to what the call would have returned by itself, and nothing has
// been written; or to a [*txn.CommittedError] or [*txn.OutcomeUnknownError], which say otherwise.
type BatchError struct {
	// Index is the position of the call in the batch, from 0; -1 when it isn't known, as when the connection was lost.
	Index int
	// Call names it, as in "Count of orders"; "" when it isn't known.
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
	// begin is called before anything is sent and completes the statements; nil when there is nothing to do.
	prepare    func(ctx context.Context) error
	statements []batchStatement
	writes     bool
	// read reads the answer to a statement and closes the rows.
	read func(statement int, rows pgx.Rows) error
	// done is called when all of the batch has happened; fail when it hasn't.
	done func()
	fail func(err error)
}

type batchStatement struct {
	sql  string
	args []any
}

// add adds a call.
func (b *Batch) add(c *batchCall) { b.calls = append(b.calls, c) }

// Send carries out the calls in their order, in one round trip, in the transaction that ctx carries or on the pool. Outside
// of a transaction a batch is one by itself: its writes are done together or not at all. Its reads still see what
// others commit meanwhile; for one view of all send it in a transaction that is txn.RepeatableRead. ctx bounds it.
//
// A batch that only reads is sent again when the connection was lost, outside of a transaction, as a read by itself is.
//
// That a row isn't there is the result of a call and no failure. Errors: [*BatchError], for the first call that fails; then
// nothing is written. Outside of a transaction it may also hold what txn.Manager.DoBatch says: [*txn.CommittedError] when all
// is written and a row that came back doesn't fit its struct, [*txn.OutcomeUnknownError] when the connection was lost while
// writes were carried out.
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

// send returns the position of the call that failed, -1 for none in particular.
func (b *Batch) send(ctx context.Context) (int, error) {
	if b.sent {
		return -1, &queryError{"a batch is sent once: make another one"}
	}
	b.sent = true
	if len(b.calls) == 0 {
		return -1, nil
	}
	tx := b.calls[0].tx
	for i, c := range b.calls {
		if c.tx.DB() != tx.DB() {
			return i, &queryError{"the batch began with another database: a batch is sent to one"}
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
		return index, b.wrap(index, err)
	}
	return -1, nil
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

// try sends the batch once.
func (b *Batch) sendOnce(ctx context.Context, tx *txn.Manager) (int, error) {
	index := -1
	read := func(results pgx.BatchResults) (err error) {
		index, err = b.read(results)
		return err
	}
	if b.writes() {
		err := tx.DoBatch(ctx, b.queue, read)
		if index < 0 && err != nil {
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
	for _, c := range b.calls {
		for _, s := range c.statements {
			batch.Queue(s.sql, s.args...)
		}
	}
}

// read reads the answers. The first result is the position of the call to which the error belongs, -1 for none in particular.
func (b *Batch) read(results pgx.BatchResults) (int, error) {
	for i, c := range b.calls {
		for statement := range c.statements {
			rows, err := results.Query() //nolint:rowserrcheck // read sees to it
			if err == nil {
				err = c.read(statement, rows)
			}
			if err != nil {
				return b.failedCall(i, err), err
			}
		}
	}
	return -1, nil
}

// culprit returns the position of the call to which an error belongs that was found when the answer to the call at index was
// read, -1 when that is nobody's fault or isn't known: there was no connection, or it was lost. A statement that can't be
// prepared, or whose arguments can't be sent, fails before the first one runs.
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
		if !slices.ContainsFunc(c.statements, func(s batchStatement) bool { return s.sql == early.SQL() }) {
			continue
		}
		if _, answered := pgError(err); found >= 0 && !answered {
			return -1 // the arguments of one of several
		}
		if found < 0 {
			found = i
		}
	}
	return found
}
