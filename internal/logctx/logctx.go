// Package logctx passes contexts to log cores as fields, so that a core which adds trace IDs finds the span.
package logctx

import (
	"context"

	"go.uber.org/zap/zapcore"
)

// Field returns a field that holds ctx. Encoders leave it out. Cores that look for contexts find it, such as OpenTelemetry's bridge
// for zap (go.opentelemetry.io/contrib/bridges/otelzap) and rdsfx.SlogLogger.
func Field(ctx context.Context) zapcore.Field {
	return zapcore.Field{Type: zapcore.SkipType, Interface: ctx}
}

// Of returns the context among the fields, context.Background() if there is none.
func Of(fields []zapcore.Field) context.Context {
	for _, field := range fields {
		if ctx, ok := field.Interface.(context.Context); ok {
			return ctx
		}
	}
	return context.Background()
}
