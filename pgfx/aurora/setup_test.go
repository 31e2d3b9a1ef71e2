package aurora_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/aurora"
)

func TestMain(m *testing.M) { fxtest.Main(m) }

// waitLimit bounds waits for events that normally come at once.
const waitLimit = 30 * time.Second

// app is a pool of a simulated cluster with its monitor.
type app struct {
	db     *pgfx.DB
	health *health.Monitor
	logs   *observer.ObservedLogs
}

// newApp starts an app for one of the cluster's endpoints.
func newApp(t *testing.T, cluster *faults.Aurora, url string, opts ...pgfx.Option) app {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	all := append([]pgfx.Option{pgfx.WithLogger(zap.New(core)), cluster.Option(), aurora.Automatic()}, opts...)
	db, err := pgfx.Open(pgfx.Config{URL: url, Pool: pgfx.PoolConfig{MaxConns: 4}}, all...)
	require.NoError(t, err)
	monitor, err := health.NewMonitor(db)
	require.NoError(t, err)
	a := app{db, monitor, logs}
	t.Cleanup(func() { a.close(t) })
	require.NoError(t, db.Start(t.Context()))
	require.NoError(t, monitor.Start(t.Context()))
	return a
}

func (a app) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	assert.NoError(t, a.health.Close(ctx))
	assert.NoError(t, a.db.Close(ctx))
}

// await waits until the topology fulfils a condition.
func (a app) await(t *testing.T, wanted func(pgfx.Topology) bool) pgfx.Topology {
	t.Helper()
	changed := make(chan struct{}, 1)
	defer a.db.Internals().SubscribeTopology(func(pgfx.Topology) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	for deadline := time.After(waitLimit); ; {
		if topology := a.db.Topology(); wanted(topology) {
			return topology
		}
		select {
		case <-changed:
		case <-deadline:
			require.Fail(t, "the topology did not change", "%+v", a.db.Topology())
		}
	}
}

// awaitLog waits for a log line and returns it.
func (a app) awaitLog(t *testing.T, message string) observer.LoggedEntry {
	t.Helper()
	require.Eventually(t, func() bool { return a.logs.FilterMessage(message).Len() > 0 }, waitLimit, time.Millisecond, message)
	return a.logs.FilterMessage(message).All()[0]
}

// server returns the instance that a new connection of the pool leads to.
func (a app) server(t *testing.T) string {
	t.Helper()
	conn, err := a.db.Connect(t.Context(), "test")
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	var id string
	require.NoError(t, conn.QueryRow(t.Context(), "select aurora_db_instance_identifier()").Scan(&id))
	return id
}

// awaitWrite executes a statement until it succeeds and returns how long that took.
func (a app) awaitWrite(t *testing.T, sql string) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		_, err := a.db.Pool().Exec(t.Context(), sql)
		if err == nil {
			return time.Since(began)
		}
		require.Less(t, time.Since(began), waitLimit, "%v", err)
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			require.NoError(t, t.Context().Err())
		}
	}
}

func writerID(t pgfx.Topology) string {
	writer, _ := t.Writer()
	return writer.ID
}
