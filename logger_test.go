package rdsfx_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	fxapp "go.uber.org/fx/fxtest"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestSlogLogger_WritesLevelsNamesAndFieldsToTheHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	logger := rdsfx.SlogLogger(handler).Named("pgfx").With(zap.String("database_name", "reporting"))
	logger.Debug("left out")
	logger.Info("database ready", zap.Duration("took", time.Second), zap.Int("attempts", 2))
	logger.Warn("slow statement", zap.Strings("stack", []string{"a", "b"}))
	logger.Error("database down", zap.Error(assert.AnError))
	require.NoError(t, logger.Sync())
	assert.Equal(t, "level=INFO msg=\"database ready\" database_name=reporting logger=pgfx took=1s attempts=2\n"+
		"level=WARN msg=\"slow statement\" database_name=reporting logger=pgfx stack=\"[a b]\"\n"+
		"level=ERROR msg=\"database down\" database_name=reporting logger=pgfx error=\""+assert.AnError.Error()+"\"\n", out.String())
}

// contextHandler notes the value that the contexts of log lines carry.
type contextHandler struct {
	slog.Handler

	seen map[string]any
}

type requestKey struct{}

func (contextHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	h.seen[r.Message] = ctx.Value(requestKey{})
	return nil
}

// WithAttrs keeps the handler.
func (h contextHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func TestSlogLogger_PassesTheContextOfTheCall(t *testing.T) {
	t.Parallel()
	handler := contextHandler{slog.DiscardHandler, map[string]any{}}
	d, err := rdsfx.Open(pgfx.Config{URL: fxtest.URL(t), Stats: pgfx.StatsConfig{Slow: time.Nanosecond}},
		rdsfx.WithLogger(rdsfx.SlogLogger(handler)))
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context()))
	_, err = d.DB.Pool().Exec(context.WithValue(t.Context(), requestKey{}, "request 7"), "select 1")
	require.NoError(t, err)
	require.NoError(t, d.Close(within(t, 10*time.Second)))
	assert.Equal(t, "request 7", handler.seen["slow statement"])
	assert.Contains(t, handler.seen, "database ready")
}

func TestModule_WithoutLoggerLogsWarningsToStderr(t *testing.T) { //nolint:paralleltest // it replaces os.Stderr
	output := func(opts ...fx.Option) string {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		stderr := os.Stderr
		os.Stderr = write
		app := fxapp.New(t, append(opts, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}),
			pgfx.ProvideSetup(usersTable().For("reprting")), fx.Invoke(func(*pgfx.DB) {}))...)
		app.RequireStart().RequireStop()
		os.Stderr = stderr
		require.NoError(t, write.Close())
		text, err := io.ReadAll(read)
		require.NoError(t, err)
		return string(text)
	}
	text := output()
	assert.Contains(t, text, "setup step targets unknown database")
	assert.NotContains(t, text, "database ready", "no information")
	assert.Contains(t, text, "zap.NewNop() for silence")
	assert.NotContains(t, output(), "zap.NewNop()", "the hint comes once in a process")
	assert.Empty(t, output(fx.Supply(zap.NewNop())))
}
