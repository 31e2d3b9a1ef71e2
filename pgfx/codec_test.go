package pgfx_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// usesFastCodec reports whether a connection encodes a google/uuid without allocations.
func usesFastCodec(conn *pgx.Conn) bool {
	plan, id, buf := conn.TypeMap().PlanEncode(pgtype.UUIDOID, pgtype.BinaryFormatCode, uuid.UUID{}), any(uuid.New()), make([]byte, 0, 64)
	return testing.AllocsPerRun(10, func() { _, _ = plan.Encode(id, buf) }) == 0
}

func TestDisableFastCodecs_OnEveryConnection(t *testing.T) { //nolint:paralleltest // counts allocations
	for _, disabled := range []bool{false, true} {
		cfg := serverConfig()
		cfg.DisableFastCodecs = disabled
		db := started(t, cfg)
		require.NoError(t, db.AcquireFunc(t.Context(), func(_ context.Context, conn *pgx.Conn) error {
			assert.Equal(t, !disabled, usesFastCodec(conn), "in the pool")
			return nil
		}))
		conn, err := db.Connect(within(t, 10*time.Second), "test")
		require.NoError(t, err)
		assert.Equal(t, !disabled, usesFastCodec(conn), "outside the pool")
		require.NoError(t, conn.Close(t.Context()))
	}
}

func TestWithAfterConnect_ReplacesCodec(t *testing.T) {
	t.Parallel()
	own := &pgtype.TimestamptzCodec{ScanLocation: time.UTC}
	db := started(t, serverConfig(), pgfx.WithAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: own})
		return nil
	}))
	var at time.Time
	require.NoError(t, db.Pool().QueryRow(t.Context(), "select '2024-02-29 12:00:00Z'::timestamptz").Scan(&at))
	assert.Equal(t, time.UTC, at.Location())
}
