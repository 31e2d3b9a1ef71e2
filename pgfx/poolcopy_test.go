package pgfx_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestPool_CopyOfItsConfigurationHasNoPartInTheDB(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 2, MinConns: 1, MaxOverflow: 1}
	var traced countingTracer
	traced.count = func(string) {}
	db := started(t, cfg, pgfx.WithTracer(&traced), pgfx.WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set my.own = 'yes'")
		return err
	}))
	base := db.Stats()
	second, err := pgxpool.NewWithConfig(t.Context(), db.Pool().Config())
	require.NoError(t, err)
	defer second.Close()
	db.Internals().Gate().Close(errors.New("down"))

	var own string
	var conns []*pgxpool.Conn
	for range 3 {
		conn, err := second.Acquire(t.Context())
		require.NoError(t, err, "the gate of the DB is closed, this pool has none")
		require.NoError(t, conn.QueryRow(t.Context(), "select current_setting('my.own')").Scan(&own))
		assert.Equal(t, "yes", own, "it connects as the DB's pool does")
		conns = append(conns, conn)
	}
	assert.Empty(t, db.Leases())
	for _, conn := range conns {
		conn.Release()
	}
	assert.EqualValues(t, 3, second.Stat().IdleConns(), "the overflow of the DB is not closed here")
	s := db.Stats()
	assert.Equal(t, base.Pool, s.Pool)
	assert.Equal(t, base.Use, s.Use)
	assert.Equal(t, base.Statements, s.Statements)

	db.Internals().Gate().Open()
	db.Reset()
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "the limit of concurrent dials is not affected")
	assert.EqualValues(t, 3, second.Stat().IdleConns(), "a reset of the DB's pool is not one of this pool")
}

func TestPool_AcquireAllIdleBeginsLeases(t *testing.T) {
	t.Parallel()
	db := started(t, serverConfig())
	base := db.Stats()
	conns := db.Pool().AcquireAllIdle(t.Context())
	require.Len(t, conns, 1)
	leases := db.Leases()
	require.Len(t, leases, 1)
	assert.NotEmpty(t, leases[0].Stack)
	conns[0].Release()
	s := db.Stats()
	assert.Empty(t, db.Leases())
	assert.Equal(t, base.Use.Count+1, s.Use.Count)
	assert.Less(t, s.Use.Max, s.Uptime)
}
