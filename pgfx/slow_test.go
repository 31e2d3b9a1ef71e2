package pgfx_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

const slowMessage = "slow statement"

func TestSlow_IsKeptAndLoggedWithoutValues(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.Slow = 50 * time.Millisecond
	db, lines := startedWithLog(t, cfg)
	began := time.Now()
	_, err := db.Pool().Exec(t.Context(), "select pg_sleep($1::float8), 'hunter2'", 0.06)
	require.NoError(t, err)
	_, err = db.Pool().Exec(t.Context(), "do $$ begin perform pg_sleep(0.06); raise exception 'hunter2'; end $$")
	require.Error(t, err)
	batch := &pgx.Batch{}
	batch.Queue("select pg_sleep(0.03)")
	batch.Queue("select pg_sleep(0.04)")
	require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())

	slow := db.Slow()
	require.Len(t, slow, 3)
	assert.EqualValues(t, 3, db.Stats().Statements.Slow)
	last, failed, first := slow[0], slow[1], slow[2]
	assert.Equal(t, "select pg_sleep(?)", last.Text)
	assert.Equal(t, 2, last.Batch)
	assert.Equal(t, "do ?", failed.Text)
	assert.True(t, failed.Failed)
	assert.Equal(t, "P0001", failed.SQLState)
	assert.Equal(t, "select pg_sleep(?::float8), ?", first.Text)
	assert.EqualValues(t, 1, first.Rows)
	assert.GreaterOrEqual(t, first.Took, 50*time.Millisecond)
	assert.WithinRange(t, first.Began, began, began.Add(time.Minute))
	assert.False(t, first.Failed)
	assert.NotZero(t, first.PID)
	assert.Contains(t, first.Stack[0].Function, "TestSlow_IsKeptAndLoggedWithoutValues")

	entries := lines(slowMessage)
	require.Len(t, entries, 3)
	assert.Equal(t, zapcore.WarnLevel, entries[0].Level)
	assert.NotContains(t, fmt.Sprint(entries), "hunter2")
	fields := entries[0].ContextMap()
	assert.Equal(t, first.Text, fields["statement"])
	assert.Equal(t, first.Took, fields["took"])
	assert.Contains(t, fields["caller"], "slow_test.go")
	assert.Equal(t, "P0001", entries[1].ContextMap()["sqlstate"])
	assert.EqualValues(t, 2, entries[2].ContextMap()["batch"])
}

func TestSlow_CanBeTurnedOff(t *testing.T) {
	t.Parallel()
	cfg := serverConfig()
	cfg.Stats.Slow = pgfx.Off
	db, lines := startedWithLog(t, cfg)
	_, err := db.Pool().Exec(t.Context(), "select pg_sleep(0.01)")
	require.NoError(t, err)
	assert.Empty(t, db.Slow())
	assert.Empty(t, lines(slowMessage))
}
