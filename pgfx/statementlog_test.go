package pgfx_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestStatementLog_HasNoValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		on    bool
		level zapcore.Level
		lines int
	}{
		"on":          {true, zapcore.DebugLevel, 3},
		"off":         {false, zapcore.DebugLevel, 0},
		"other level": {true, zapcore.InfoLevel, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(test.level)
			cfg := serverConfig()
			cfg.Stats.Log = test.on
			db := started(t, cfg, pgfx.WithLogger(zap.New(core)))
			_, err := db.Pool().Exec(t.Context(), "select $1::text, 'hunter1'", "hunter2")
			require.NoError(t, err)
			_, err = db.Pool().Exec(t.Context(), "select $1::int / 0", 1)
			require.Error(t, err)
			batch := &pgx.Batch{}
			batch.Queue("select $1::text", "hunter3")
			batch.Queue("select 2")
			require.NoError(t, db.Pool().SendBatch(t.Context(), batch).Close())

			lines := logs.FilterMessage("statement").All()
			require.Len(t, lines, test.lines)
			assert.NotContains(t, fmt.Sprint(logs.All()), "hunter")
			if test.lines == 0 {
				return
			}
			assert.Equal(t, "select ?::text, ?", lines[0].ContextMap()["statement"])
			assert.EqualValues(t, 1, lines[0].ContextMap()["rows"])
			assert.Equal(t, "22012", lines[1].ContextMap()["sqlstate"])
			assert.EqualValues(t, 2, lines[2].ContextMap()["batch"])
		})
	}
}
