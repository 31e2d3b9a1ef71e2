package logctx_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/rdsfx-go/rdsfx/internal/logctx"
)

func TestField_IsFoundByCoresAndLeftOutByEncoders(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fields := []zapcore.Field{zap.Int("rows", 1), logctx.Field(ctx)}
	assert.Equal(t, ctx, logctx.Of(fields))
	assert.Equal(t, context.Background(), logctx.Of(fields[:1]))
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	assert.Equal(t, map[string]any{"rows": int64(1)}, encoder.Fields)
}
