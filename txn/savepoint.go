package txn

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// savepoint makes a savepoint and returns its number.
func (t *transaction) savepoint(ctx context.Context) (int32, error) {
	number := t.savepoints.Add(1)
	_, err := t.Exec(ctx, "savepoint "+savepointName(number))
	return number, err
}

func savepointName(number int32) string { return "rdsfx_" + strconv.FormatInt(int64(number), 10) }

// release drops a savepoint and keeps what was done since.
func (t *transaction) release(ctx context.Context, savepoint int32) error {
	_, err := t.Exec(ctx, "release savepoint "+savepointName(savepoint))
	return err
}

// rollBackTo undoes what was done since a savepoint, and drops it. It brings a failed transaction back.
func (t *transaction) rollBackTo(ctx context.Context, savepoint int32) error {
	name := savepointName(savepoint)
	_, err := t.Exec(ctx, "rollback to savepoint "+name+"; release savepoint "+name)
	return err
}

// savepointTx is a savepoint in the shape of a pgx.Tx, for code that begins transactions of its own in the one it is given.
type savepointTx struct {
	*transaction

	number int32
	closed bool
}

// Commit releases the savepoint.
func (s *savepointTx) Commit(ctx context.Context) error {
	if s.closed {
		return pgx.ErrTxClosed
	}
	s.closed = true
	return s.release(ctx, s.number)
}

// Rollback rolls back to the savepoint.
func (s *savepointTx) Rollback(ctx context.Context) error {
	if s.closed {
		return pgx.ErrTxClosed
	}
	s.closed = true
	return s.rollBackTo(ctx, s.number)
}
