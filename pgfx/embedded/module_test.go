package embedded_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestModule_ServerRunsWhileOtherHooksRun(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	calls := 0
	app := fxtest.New(t, embedded.Module, embedded.ProvideOptions(embedded.TempDir(dir)),
		fx.Invoke(func(lc fx.Lifecycle, endpoint pgfx.Endpoint) {
			hook := func(ctx context.Context) error {
				calls++
				conn, err := pgx.Connect(ctx, endpoint.URL)
				if err != nil {
					return err
				}
				return conn.Close(ctx)
			}
			lc.Append(fx.StartStopHook(hook, hook))
		}))
	assert.True(t, isEmpty(dir), "constructing the application creates nothing")
	app.RequireStart()
	app.RequireStop()
	assert.Equal(t, 2, calls)
	assert.True(t, isEmpty(dir))
}

func TestModule_StartsNothingUnlessRequested(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	app := fxtest.New(t, embedded.Module, embedded.ProvideOptions(embedded.TempDir(dir)))
	app.RequireStart()
	assert.True(t, isEmpty(dir))
	app.RequireStop()
}

func TestModule_FailingInvokeLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	failure := errors.New("failing invoke")
	app := fx.New(embedded.Module, fx.NopLogger, embedded.ProvideOptions(embedded.TempDir(dir)),
		fx.Invoke(func(pgfx.Endpoint) error { return failure }))
	require.ErrorIs(t, app.Err(), failure)
	assert.True(t, isEmpty(dir))
}

func TestModule_FailingFxHookStopsTheServer(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	failure := errors.New("failing hook")
	app := fx.New(embedded.Module, fx.NopLogger, embedded.ProvideOptions(embedded.TempDir(dir)),
		fx.Invoke(func(lc fx.Lifecycle, _ pgfx.Endpoint) {
			lc.Append(fx.StartHook(func() error {
				assert.False(t, isEmpty(dir))
				return failure
			}))
		}))
	require.ErrorIs(t, app.Start(t.Context()), failure)
	assert.True(t, isEmpty(dir))
}

func TestModule_FailingStartQuotesTheServerLog(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	app := fx.New(embedded.Module, fx.NopLogger,
		embedded.ProvideOptions(embedded.TempDir(dir)), embedded.ProvideOptions(embedded.Setting("shared_buffers", "lots")),
		fx.Invoke(func(pgfx.Endpoint) {}))
	require.NoError(t, app.Err())
	err := app.Start(t.Context())
	require.ErrorContains(t, err, "embedded: start: the server ended during startup: exit status 1")
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "lots"`)
	assert.Equal(t, 1, strings.Count(err.Error(), "embedded: "))
	assert.True(t, isEmpty(dir))
}

func TestModule_DatabaseURLReplacesTheServer(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	var endpoint pgfx.Endpoint
	var server *embedded.Server
	app := fxtest.New(t, embedded.ProvideWithEnv(map[string]string{embedded.EnvDatabaseURL: "postgres://app@db/app"}),
		embedded.ProvideOptions(embedded.TempDir(dir)), fx.Populate(&endpoint, &server))
	app.RequireStart()
	assert.True(t, endpoint.IsZero())
	assert.Empty(t, server.URL())
	assert.True(t, server.External())
	assert.Empty(t, server.LogFile())
	assert.Empty(t, server.DataDir())
	assert.True(t, isEmpty(dir))
	require.NoError(t, server.Start(t.Context()))
	app.RequireStop()
}

func TestModule_UsesAnExternalServer(t *testing.T) {
	t.Parallel()
	external := start(t)
	core, logs := observer.New(zap.InfoLevel)
	var endpoint pgfx.Endpoint
	app := fxtest.New(t, embedded.ProvideWithEnv(map[string]string{embedded.EnvURL: external.URL()}),
		fx.Supply(zap.New(core)), embedded.ProvideOptions(embedded.TCP(), embedded.Setting("work_mem", "5MB")), fx.Populate(&endpoint))
	app.RequireStart()
	app.RequireStop()
	assert.Equal(t, external.URL(), endpoint.URL)
	assert.Equal(t, 1, query[int](t, external.URL(), "SELECT 1"), "an external server isn't stopped")
	entries := logs.FilterMessage("options don't apply to an external server").All()
	require.Len(t, entries, 1)
	assert.Equal(t, "embedded", entries[0].LoggerName)
	assert.Equal(t, []any{"TCP", "Setting(work_mem)"}, entries[0].ContextMap()["options"])
}

func TestModule_RejectsContradictingOptions(t *testing.T) {
	t.Parallel()
	app := fx.New(embedded.Module, fx.NopLogger,
		embedded.ProvideOptions(embedded.Setting("work_mem", "1MB"), nil), embedded.ProvideOptions(embedded.Setting("WORK_MEM", "2MB")),
		fx.Invoke(func(pgfx.Endpoint) {}))
	require.ErrorContains(t, app.Err(), "embedded: setting work_mem is given twice")
}

func TestModule_IsValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, fx.ValidateApp(fx.NopLogger, embedded.Module, embedded.ProvideOptions(embedded.TCP()),
		fx.Invoke(func(pgfx.Endpoint, *embedded.Server) {})))
}

func TestStart_UnreachableExternalServerFails(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"malformed URL":  "postgres://app:secret@" + filepath.ToSlash(t.TempDir()) + "/app",
		"no such socket": "postgres://app:secret@/app?host=" + filepath.ToSlash(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := embedded.NewServerWithEnv(map[string]string{embedded.EnvURL: url})
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				err = server.Start(ctx)
			}
			require.ErrorContains(t, err, "embedded: ")
			require.ErrorContains(t, err, embedded.EnvURL)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestStart_RefusedExternalLoginFailsImmediately(t *testing.T) {
	t.Parallel()
	external := start(t, embedded.TCP())
	url := strings.Replace(external.URL(), "/postgres?", "/missing?", 1)
	server, err := embedded.NewServerWithEnv(map[string]string{embedded.EnvURL: url})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	require.ErrorContains(t, server.Start(ctx), `database "missing" does not exist`)
}
