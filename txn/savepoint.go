package txn

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// savepoint sets a savepoint and returns its number.
func (t *transaction) savepoint(ctx context.Context) (int32, error) {
	number := t.savepoints.Add(1)
	_, err := t.Exec(ctx, "savepoint "+savepointName(number))
	return number, err
}

func savepointName(number int32) string { return "rdsfx_" + strconv.FormatInt(int64(number), 10) }

// release removes a savepoint and keeps the changes made since.
func (t *transaction) release(ctx context.Context, savepoint int32) error {
	_, err := t.Exec(ctx, "release savepoint "+savepointName(savepoint))
	return err
}

// rollBackTo undoes the changes made since a savepoint and removes it. A failed transaction becomes usable again.
func (t *transaction) rollBackTo(ctx context.Context, savepoint int32) error {
	name := savepointName(savepoint)
	_, err := t.Exec(ctx, "rollback to savepoint "+name+"; release savepoint "+name)
	return err
}

// savepointTx is a savepoint as a pgx.Tx, for code that begins a transaction on the pgx.Tx it is given.
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
	s.end()
	return s.release(ctx, s.number)
}

// Rollback rolls back to the savepoint.
func (s *savepointTx) Rollback(ctx context.Context) error {
	if s.closed {
		return pgx.ErrTxClosed
	}
	s.end()
	return s.rollBackTo(ctx, s.number)
}

func (s *savepointTx) end() {
	s.closed = true
	s.openSavepoints.Add(-1)
}
