package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
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

// outside makes the module see another environment: it provides what Module does.
func outside(env map[string]string) fx.Option {
	return fx.Provide(func(p embedded.Params) (embedded.Result, error) { return embedded.Build(p, env) })
}

func TestTheEndpointIsThereWhenOtherHooksStartAndStop(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	ask := func(ctx context.Context, url string) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	asked := 0
	app := fxtest.New(t, embedded.Module, embedded.ProvideOptions(embedded.TempDir(dir)),
		fx.Invoke(func(lc fx.Lifecycle, endpoint pgfx.Endpoint) {
			hook := func(ctx context.Context) error { asked++; return ask(ctx, endpoint.URL) }
			lc.Append(fx.StartStopHook(hook, hook))
		}))
	assert.True(t, empty(dir), "nothing is made before the start")
	app.RequireStart()
	app.RequireStop()
	assert.Equal(t, 2, asked)
	assert.True(t, empty(dir))
}

func TestAModuleThatNobodyAsksStartsNothing(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	app := fxtest.New(t, embedded.Module, embedded.ProvideOptions(embedded.TempDir(dir)))
	app.RequireStart()
	assert.True(t, empty(dir))
	app.RequireStop()
}

func TestAFailingInvokeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	broken := errors.New("broken")
	app := fx.New(embedded.Module, fx.NopLogger, embedded.ProvideOptions(embedded.TempDir(dir)),
		fx.Invoke(func(pgfx.Endpoint) error { return broken }))
	require.ErrorIs(t, app.Err(), broken)
	assert.True(t, empty(dir))
}

func TestAFailingHookAfterTheServersStopsTheServer(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	broken := errors.New("broken")
	app := fx.New(embedded.Module, fx.NopLogger, embedded.ProvideOptions(embedded.TempDir(dir)),
		fx.Invoke(func(lc fx.Lifecycle, _ pgfx.Endpoint) {
			lc.Append(fx.StartHook(func() error {
				assert.False(t, empty(dir))
				return broken
			}))
		}))
	require.ErrorIs(t, app.Start(t.Context()), broken)
	assert.True(t, empty(dir))
}

func TestAStartThatFailsLeavesNothingBehindAndQuotesTheServersLog(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	app := fx.New(embedded.Module, fx.NopLogger,
		embedded.ProvideOptions(embedded.TempDir(dir)), embedded.ProvideOptions(embedded.Setting("shared_buffers", "lots")),
		fx.Invoke(func(pgfx.Endpoint) {}))
	require.NoError(t, app.Err())
	err := app.Start(t.Context())
	require.ErrorContains(t, err, "embedded: start: the server ended while starting: exit status 1")
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "lots"`)
	assert.Equal(t, 1, strings.Count(err.Error(), "embedded: "))
	assert.True(t, empty(dir))
}

func TestAStartThatRunsOutOfTimeCleansUpBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	result, err := embedded.New(embedded.Params{Options: []embedded.Option{embedded.TempDir(dir)}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, result.Server.Start(ctx), context.DeadlineExceeded)
	eventually(t, "everything goes", func() bool { return empty(dir) })
	require.NoError(t, stop(result.Server))
}

func TestAStartKeepsTimeForCleaningUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // where computing takes no time
		for limit, want := range map[time.Duration]time.Duration{
			time.Hour: 6 * time.Minute, 15 * time.Second: 1500 * time.Millisecond, 2 * time.Second: 500 * time.Millisecond,
			800 * time.Millisecond: 400 * time.Millisecond,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			work, grace := embedded.StartTime(ctx)
			cancel()
			assert.Equal(t, want, grace)
			assert.Equal(t, limit, work+grace)
		}
		work, grace := embedded.StartTime(t.Context())
		assert.Equal(t, time.Minute, work)
		assert.Positive(t, grace)
	})
}

func TestACancelledStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	changedMind := errors.New("changed my mind")
	cancel(changedMind)
	_, err := embedded.Start(ctx, embedded.TempDir(dir))
	require.ErrorIs(t, err, changedMind)
	assert.True(t, empty(dir))
}

func TestTheModuleStepsAsideForDatabaseURL(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	var endpoint pgfx.Endpoint
	var server *embedded.Server
	app := fxtest.New(t, outside(map[string]string{embedded.EnvDatabaseURL: "postgres://app@db/app"}),
		embedded.ProvideOptions(embedded.TempDir(dir)), fx.Populate(&endpoint, &server))
	app.RequireStart()
	assert.True(t, endpoint.IsZero())
	assert.Empty(t, server.URL())
	assert.True(t, server.External())
	assert.Empty(t, server.LogFile())
	assert.True(t, empty(dir))
	require.NoError(t, server.Start(t.Context()))
	app.RequireStop()
}

func TestAServerGivenByEnvironmentIsUsedAndNotStopped(t *testing.T) {
	t.Parallel()
	given := start(t)
	logs, seen := observer.New(zap.InfoLevel)
	var endpoint pgfx.Endpoint
	app := fxtest.New(t, outside(map[string]string{embedded.EnvURL: given.URL()}),
		fx.Supply(zap.New(logs)), embedded.ProvideOptions(embedded.TCP(), embedded.Setting("work_mem", "5MB")), fx.Populate(&endpoint))
	app.RequireStart()
	app.RequireStop()
	assert.Equal(t, given.URL(), endpoint.URL)
	assert.Equal(t, 1, query[int](t, given.URL(), "SELECT 1"))
	entries := seen.FilterMessage("options don't apply to a server given by environment").All()
	require.Len(t, entries, 1)
	assert.Equal(t, "embedded", entries[0].LoggerName)
	assert.Equal(t, []any{"TCP", "Setting(work_mem)"}, entries[0].ContextMap()["options"])
}

func TestAServerGivenByEnvironmentThatDoesntAnswerFailsTheStart(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"nobody listens": "postgres://app:secret@" + filepath.ToSlash(t.TempDir()) + "/app",
		"no such place":  "postgres://app:secret@/app?host=" + filepath.ToSlash(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := embedded.Build(embedded.Params{}, map[string]string{embedded.EnvURL: url})
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				err = result.Server.Start(ctx)
			}
			require.ErrorContains(t, err, "embedded: ")
			require.ErrorContains(t, err, embedded.EnvURL)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestALoginThatTheGivenServerRefusesFailsAtOnce(t *testing.T) {
	t.Parallel()
	given := start(t, embedded.TCP())
	url := strings.Replace(given.URL(), "/postgres?", "/missing?", 1)
	result, err := embedded.Build(embedded.Params{}, map[string]string{embedded.EnvURL: url})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	require.ErrorContains(t, result.Server.Start(ctx), `database "missing" does not exist`)
}

func TestOptionsThatContradictEachOtherFailTheConstruction(t *testing.T) {
	t.Parallel()
	app := fx.New(embedded.Module, fx.NopLogger,
		embedded.ProvideOptions(embedded.Setting("work_mem", "1MB"), nil), embedded.ProvideOptions(embedded.Setting("WORK_MEM", "2MB")),
		fx.Invoke(func(pgfx.Endpoint) {}))
	require.ErrorContains(t, app.Err(), "embedded: setting work_mem is given twice")
}

func TestTheWiringIsValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, fx.ValidateApp(fx.NopLogger, embedded.Module, embedded.ProvideOptions(embedded.TCP()),
		fx.Invoke(func(pgfx.Endpoint, *embedded.Server) {})))
}

func TestNewWorksWithoutFx(t *testing.T) {
	t.Parallel()
	result, err := embedded.New(embedded.Params{})
	require.NoError(t, err)
	require.NoDirExists(t, result.Server.Dir())
	require.NoError(t, result.Server.Stop(t.Context()), "a stop before the start does nothing")
	require.NoError(t, result.Server.Start(t.Context()))
	require.NoError(t, result.Server.Start(t.Context()), "a second start does nothing")
	pid := result.Server.PID()
	assert.Equal(t, 1, query[int](t, result.Endpoint.URL, "SELECT 1"))
	require.NoError(t, stop(result.Server))
	require.NoError(t, stop(result.Server), "a second stop does nothing")
	require.NoError(t, result.Server.Start(t.Context()), "it can be started again")
	assert.NotEqual(t, pid, result.Server.PID())
	assert.Equal(t, 1, query[int](t, result.Endpoint.URL, "SELECT 1"))
	require.NoError(t, stop(result.Server))
	assert.NoDirExists(t, result.Server.Dir())
}

func TestAnUnexpectedEndIsLoggedOnce(t *testing.T) {
	t.Parallel()
	logs, seen := observer.New(zap.InfoLevel)
	server := start(t, embedded.Logger(zap.New(logs)))
	started := seen.FilterMessage("postgres started").All()
	require.Len(t, started, 1)
	assert.Equal(t, int64(server.PID()), started[0].ContextMap()["pid"])
	process, err := os.FindProcess(server.PID())
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	eventually(t, "the end is noticed", func() bool { return server.PID() == 0 })
	ended := seen.FilterMessage("postgres ended unexpectedly").All()
	require.Len(t, ended, 1)
	assert.Contains(t, ended[0].ContextMap()["reason"], "the server ended by itself: signal: killed")
	assert.NoDirExists(t, server.Dir())
}
