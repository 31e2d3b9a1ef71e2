package sqlstate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
)

func TestWithContextError_AddsItOnceToCancelledStatement(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	cancelled := pg("57014", "canceling statement due to user request")

	err := sqlstate.WithContextError(ended, cancelled)
	require.ErrorIs(t, err, context.Canceled)
	_, ok := errors.AsType[*pgconn.PgError](err)
	assert.True(t, ok)
	assert.Equal(t, err, sqlstate.WithContextError(ended, err), "twice")

	assert.Equal(t, cancelled, sqlstate.WithContextError(t.Context(), cancelled), "a timeout of the server")
	other := pg("23505", "duplicate key")
	assert.Equal(t, other, sqlstate.WithContextError(ended, other))
	require.NoError(t, sqlstate.WithContextError(ended, nil))
}

func TestWithContextError_AddsItToAClosedConnection(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	closed := fmt.Errorf("read: %w", pgconn.ErrConnClosed)
	err := sqlstate.WithContextError(ended, closed)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, pgconn.ErrConnClosed)
	assert.Equal(t, closed, sqlstate.WithContextError(t.Context(), closed))
}

func TestStatementError_MarksLostConnections(t *testing.T) {
	t.Parallel()
	lost := sqlstate.StatementError(t.Context(), io.ErrUnexpectedEOF)
	require.ErrorIs(t, lost, sqlstate.ErrConnLost)
	require.ErrorIs(t, lost, io.ErrUnexpectedEOF)
	assert.Equal(t, io.ErrUnexpectedEOF.Error(), lost.Error())
	assert.Equal(t, lost, sqlstate.StatementError(t.Context(), lost), "twice")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NotErrorIs(t, sqlstate.StatementError(ended, io.ErrUnexpectedEOF), sqlstate.ErrConnLost)
	for _, err := range []error{nil, pg("57P01", "terminating"), errors.New("a value"), context.Canceled} {
		assert.Equal(t, err, sqlstate.StatementError(t.Context(), err))
	}
}
