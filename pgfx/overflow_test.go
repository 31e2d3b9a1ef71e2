package pgfx_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestOverflow_IsClosedOnRelease(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Pool = pgfx.PoolConfig{MaxConns: 2, MaxOverflow: 3}
	db := started(t, cfg)
	for round := range 3 {
		var held []*pgxpool.Conn
		for range 5 {
			conn, err := db.Pool().Acquire(t.Context())
			require.NoError(t, err)
			held = append(held, conn)
		}
		assert.Equal(t, 5, db.Stats().Pool.InUse)
		for _, conn := range held {
			conn.Release()
		}
		require.Eventually(t, func() bool { return db.Stats().Pool.Open == 2 }, eventually, tick, "round %d", round)
		_, err := db.Pool().Exec(t.Context(), "select 1")
		require.NoError(t, err)
	}
	assert.Equal(t, 2, db.Stats().Pool.Open, "the regular ones stay")

	db.Reset() // connections that the pool closes by itself are discounted, too
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	require.Eventually(t, func() bool { return db.Stats().Pool.Open == 1 }, eventually, tick)
}
