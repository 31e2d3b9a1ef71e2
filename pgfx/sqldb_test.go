package pgfx_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestSQL_UsesPool(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns = 1
	db := started(t, cfg)
	first, second := db.SQL(), db.SQL()
	assert.Same(t, first, second)
	id := uuid.New()
	var pid, inPool int
	var got uuid.UUID
	require.NoError(t, db.SQL().QueryRowContext(t.Context(), "select pg_backend_pid(), $1::uuid", id).Scan(&pid, &got))
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select pg_backend_pid()").Scan(&inPool))
	assert.Equal(t, inPool, pid)
	assert.Equal(t, id, got)
	assert.Zero(t, db.SQL().Stats().Idle, "it keeps no idle connections")
}

func TestSQL_AcquireTimeoutAndHolder(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool.MaxConns, cfg.Pool.AcquireTimeout = 1, 50*time.Millisecond
	db := started(t, cfg)
	tx, err := db.SQL().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	leases := db.Leases()
	require.Len(t, leases, 1)
	assert.Contains(t, leases[0].Stack[0].Function, t.Name(), "the caller, not database/sql")
	_, err = db.SQL().ExecContext(t.Context(), "select 1")
	var timeout *pgfx.AcquireTimeoutError
	require.ErrorAs(t, err, &timeout)
	assert.Len(t, timeout.Holders, 1)
	require.NoError(t, tx.Rollback())
	assert.Empty(t, db.Leases())
}

func TestSQL_FailsFastWhileGateIsClosed(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	_, err := db.SQL().ExecContext(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	require.ErrorIs(t, err, pgfx.ErrNotStarted)
	require.NoError(t, db.Start(within(t, 10*time.Second)))
	require.NoError(t, db.SQL().PingContext(t.Context()))
}

func TestSQL_ClosedWithDB(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		db := open(t, serverConfig())
		require.NoError(t, db.Start(within(t, 10*time.Second)))
		var handle *sql.DB
		if before {
			handle = db.SQL()
		}
		require.NoError(t, db.Close(within(t, 10*time.Second)))
		if !before {
			handle = db.SQL()
		}
		require.EqualError(t, handle.PingContext(t.Context()), "sql: database is closed")
	}
}

func TestSQL_OpenTransactionReportedByClose(t *testing.T) {
	t.Parallel()
	db := open(t, serverConfig())
	require.NoError(t, db.Start(within(t, 10*time.Second)))
	tx, err := db.SQL().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var held *pgfx.CloseTimeoutError
	require.ErrorAs(t, db.Close(within(t, 50*time.Millisecond)), &held)
	assert.Len(t, held.Leases, 1)
	_ = tx.Rollback()
}
