package rdsfx

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdsfx-go/rdsfx/internal/logctx"
)

// SlogLogger returns a logger that writes to a handler of log/slog, for applications that log with slog:
//
//	fx.Supply(rdsfx.SlogLogger(slog.Default().Handler()))
//
// The handler decides about levels. The name of the logger becomes the attribute "logger". The handler gets the context of log lines
// that belong to a call, so one that adds trace IDs finds the span.
func SlogLogger(handler slog.Handler) *zap.Logger { return zap.New(slogCore{handler}) }

// slogCore is a zapcore.Core that writes to a slog.Handler.
type slogCore struct{ handler slog.Handler }

// Enabled reports whether the handler takes lines of the level.
func (c slogCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), slogLevel(level))
}

// With returns a core whose lines have the fields.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.handler.WithAttrs(slogAttrs(fields))}
}

// Check adds the core to a line that the handler takes.
func (c slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write passes a line to the handler.
func (c slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, entry.Caller.PC)
	if entry.LoggerName != "" {
		record.AddAttrs(slog.String("logger", entry.LoggerName))
	}
	record.AddAttrs(slogAttrs(fields)...)
	if entry.Stack != "" {
		record.AddAttrs(slog.String("stack", entry.Stack))
	}
	return c.handler.Handle(logctx.Of(fields), record) //nolint:wrapcheck // zap reports it
}

// Sync does nothing, because a handler has no buffer to flush.
func (slogCore) Sync() error { return nil }

// slogLevel returns the level of slog. The levels of both packages have the same order and zero; those of slog are 4 apart.
func slogLevel(level zapcore.Level) slog.Level {
	const step = slog.LevelWarn - slog.LevelInfo
	return min(slog.Level(level)*step, slog.LevelError+3*step)
}

// slogAttrs returns the fields as attributes, with the types that zap gives them in JSON.
func slogAttrs(fields []zapcore.Field) []slog.Attr {
	attrs := make([]slog.Attr, 0, len(fields))
	for _, field := range fields {
		encoder := zapcore.NewMapObjectEncoder()
		field.AddTo(encoder)
		for _, key := range slices.Sorted(maps.Keys(encoder.Fields)) {
			attrs = append(attrs, slog.Any(key, encoder.Fields[key]))
		}
	}
	return attrs
}

// stderrLogger returns the logger of applications that provide none. It logs warnings and errors.
var stderrLogger = sync.OnceValue(func() *zap.Logger { //nolint:gochecknoglobals // a function
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime, config.EncodeDuration = zapcore.ISO8601TimeEncoder, zapcore.StringDurationEncoder
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(config), zapcore.Lock(zapcore.AddSync(stderr{})), zapcore.WarnLevel)
	var once sync.Once
	return zap.New(core, zap.Hooks(func(zapcore.Entry) error {
		once.Do(func() {
			_, _ = fmt.Fprintln(stderr{}, "rdsfx logs warnings and errors here because the application provides no *zap.Logger: "+
				"provide yours, rdsfx.SlogLogger, or zap.NewNop() for silence")
		})
		return nil
	}))
})

// stderr is os.Stderr as it is at the time of a write.
type stderr struct{}

// Write writes to os.Stderr.
func (stderr) Write(p []byte) (int, error) { return os.Stderr.Write(p) }
