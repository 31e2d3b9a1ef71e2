package sqlstate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// WithContextError adds ctx's error, if ctx has ended, to two errors of a statement. The result matches both. Any other err is returned
// unchanged.
//   - The server has cancelled the statement. It reports a cancel request and not its reason ("canceling statement due to user request").
//   - The connection is closed. If ctx ends while a statement succeeds, the connection is closed, and the next statement doesn't report
//     ctx's error.
func WithContextError(ctx context.Context, err error) error {
	if Code(err) != QueryCanceled && !errors.Is(err, pgconn.ErrConnClosed) {
		return err
	}
	if ctxErr := ctx.Err(); ctxErr != nil && !errors.Is(err, ctxErr) {
		return fmt.Errorf("%w: %w", ctxErr, err)
	}
	return err
}

// ErrConnLost matches the error of a statement whose connection was lost.
var ErrConnLost = errors.New("the connection was lost")

// WithConnLost returns err so that it also matches [ErrConnLost], if it is an error of the network that isn't due to ctx. Call it
// for errors of the driver alone: an end of file may come from elsewhere. The text stays the same.
func WithConnLost(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || Code(err) != "" || errors.Is(err, ErrConnLost) {
		return err
	}
	switch CauseOf(err) {
	case Killed, Timeout, Refused:
		return &connLostError{err}
	case None, DNS, TLS, Login, DatabaseMissing, StartingUp, ShuttingDown, ServerFull, ReadOnly, Unknown:
	}
	return err
}

type connLostError struct{ err error }

func (e *connLostError) Error() string { return e.err.Error() }

func (e *connLostError) Unwrap() error { return e.err }

func (e *connLostError) Is(target error) bool { return target == ErrConnLost }

// StatementError returns err with all that is known of a statement: see [WithContextError] and [WithConnLost].
func StatementError(ctx context.Context, err error) error {
	return WithConnLost(ctx, WithContextError(ctx, err))
}
