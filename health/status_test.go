package health_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestStatus_JSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	boom := errors.New("boom")
	status := health.Status{
		State: health.Down, Since: at, Cause: pgfx.CauseRefused, Err: boom, LastGood: at,
		LastProbe: health.ProbeResult{
			At: at, Took: 2 * time.Microsecond, Latency: time.Microsecond, NewConn: true, Cause: pgfx.CauseRefused, Err: boom,
		},
		History: []health.Transition{{From: health.Up, To: health.Down, At: at, Lasted: time.Second, Cause: pgfx.CauseRefused, Err: boom}},
	}
	var got map[string]any
	text, err := json.Marshal(status)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Equal(t, "boom", got["error"])
	assert.Equal(t, "down", got["state"])
	assert.Equal(t, map[string]any{
		"at": "2026-01-02T03:04:05Z", "took": 2000.0, "latency": 1000.0, "new_conn": true, "cause": "refused", "error": "boom",
	}, got["last_probe"])
	assert.Equal(t, []any{map[string]any{
		"from": "up", "to": "down", "at": "2026-01-02T03:04:05Z", "lasted": 1e9, "cause": "refused", "error": "boom",
	}}, got["history"])

	text, err = json.Marshal(health.CheckResult{Name: "queue", Kind: health.Readiness, At: at, Took: time.Microsecond, Err: boom})
	require.NoError(t, err)
	assert.JSONEq(t, `{"name":"queue","kind":"readiness","at":"2026-01-02T03:04:05Z","took":1000,"error":"boom"}`, string(text))
	text, err = json.Marshal(health.ProbeResult{At: at})
	require.NoError(t, err)
	assert.JSONEq(t, `{"at":"2026-01-02T03:04:05Z","took":0,"latency":0,"new_conn":false}`, string(text), "no error, no key")
}
