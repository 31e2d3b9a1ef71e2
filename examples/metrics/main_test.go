package main

import (
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

func TestMetrics_AreServedToPrometheus(t *testing.T) {
	t.Parallel()
	var listener, other net.Listener
	fxtest.New(t, fxtest.Fx(options("127.0.0.1:0"), fx.Populate(&other))) // two applications in one process
	fxtest.New(t, fxtest.Fx(options("127.0.0.1:0"), fx.Populate(&listener)))
	get := func(path string) string {
		response, err := http.Get("http://" + listener.Addr().String() + path) //nolint:noctx // a test server
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	assert.Equal(t, "1 visits\n", get("/visits"))
	metrics := get("/metrics")
	assert.Contains(t, metrics, `db_query_summary="Create visits"`)
	assert.Contains(t, metrics, `db_query_summary="CheckSchema"`)
	assert.Contains(t, metrics, "rdsfx_health_state{")
}
