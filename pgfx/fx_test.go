package pgfx_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// nopLifecycle is for constructors whose hooks a test runs by itself.
type nopLifecycle struct{}

func (nopLifecycle) Append(fx.Hook) {}

func TestTheModuleProvidesAPoolThatLivesWithTheApp(t *testing.T) {
	t.Parallel()
	var db *pgfx.DB
	var pool *pgxpool.Pool
	app := fxtest.New(t, pgfx.Module, fx.Supply(serverConfig()), fx.Provide(zap.NewNop), fx.Populate(&db, &pool))
	assert.Same(t, db.Pool(), pool)
	assert.EqualValues(t, 0, pool.Stat().NewConnsCount(), "the constructor opens no connection")
	app.RequireStart()
	_, err := pool.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	app.RequireStop()
	_, err = pool.Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrClosed)
}

func TestTheModuleOpensNothingThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, pgfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app@" + closedPort + "/app"}))
	require.NoError(t, app.Err())
	require.NoError(t, app.Start(within(t, 10*time.Second)), "an unreachable database that nobody uses doesn't matter")
	require.NoError(t, app.Stop(within(t, 10*time.Second)))
}

func TestAFailingStartLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	var db *pgfx.DB
	app := fx.New(fx.NopLogger, pgfx.Module, fx.Populate(&db), fx.StartTimeout(2*time.Second),
		fx.Supply(pgfx.Config{URL: "postgres://app@" + silentPort(t) + "/app?sslmode=disable"}))
	require.NoError(t, app.Err())
	err := app.Start(testctx.Unending(t.Context(), 2*time.Second)) // it gives up before the deadline
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	require.NoError(t, db.Close(within(t, 10*time.Second)))
	assert.Zero(t, db.Stats().Pool.Open)
}

func TestAHookThatFailsAfterOursClosesThePool(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var db *pgfx.DB
	app := fx.New(fx.NopLogger, pgfx.Module, fx.Supply(serverConfig()), fx.Populate(&db),
		fx.Invoke(func(lc fx.Lifecycle, _ *pgfx.DB) {
			lc.Append(fx.StartHook(func() error { return boom }))
		}))
	require.ErrorIs(t, app.Start(within(t, 10*time.Second)), boom)
	require.ErrorIs(t, db.Internals().Gate().Err(), pgfx.ErrClosed)
	assert.Zero(t, db.Stats().Pool.Open)
}

func TestAnInvokeThatFailsInNewLeavesNoConnection(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var db *pgfx.DB
	app := fx.New(fx.NopLogger, pgfx.Module, fx.Supply(serverConfig()), fx.Populate(&db), fx.Invoke(func(*pgxpool.Pool) error { return boom }))
	require.ErrorIs(t, app.Err(), boom)
	assert.EqualValues(t, 0, db.Pool().Stat().NewConnsCount(), "no hook runs now, so that nothing may be open")
	require.NoError(t, db.Close(t.Context())) // only for the pool's maintenance goroutine, the documented residue
}

func TestALeakedConnectionDoesNotHangTheStop(t *testing.T) {
	t.Parallel()
	var pool *pgxpool.Pool
	var laterHookRan bool
	app := fxtest.New(t, fx.NopLogger,
		fx.Invoke(func(lc fx.Lifecycle) {
			lc.Append(fx.StopHook(func(ctx context.Context) error {
				laterHookRan = true
				return ctx.Err()
			}))
		}),
		pgfx.Module, fx.Supply(serverConfig()), fx.Populate(&pool))
	app.RequireStart()
	leaked, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	err = app.Stop(testctx.Unending(t.Context(), 2*time.Second))
	var held *pgfx.CloseTimeoutError
	require.ErrorAs(t, err, &held)
	assert.Len(t, held.Leases, 1)
	assert.True(t, laterHookRan, "hooks that stop after the pool get their time")
	leaked.Release()
}

func TestIncludingTheModuleTwiceIsToldByFx(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, pgfx.Module, pgfx.Module, fx.Supply(serverConfig()), fx.Invoke(func(*pgfx.DB) {}))
	require.ErrorContains(t, app.Err(), "already provided")
}

func TestOptionsAndSetupReachThePoolThroughFx(t *testing.T) {
	t.Parallel()
	var ran []string
	record := func(name string) pgfx.SetupStep {
		return pgfx.SetupStep{Name: name, Run: func(context.Context, *pgfx.DB) error {
			ran = append(ran, name)
			return nil
		}}
	}
	var db *pgfx.DB
	app := fxtest.New(t, fx.NopLogger, pgfx.Module, fx.Supply(serverConfig()), fx.Populate(&db),
		pgfx.ProvideSetup(record("supplied")),
		fx.Provide(fx.Annotate(func(pgfx.Config) pgfx.SetupStep { return record("provided") }, fx.ResultTags(`group:"pgfx.setup"`))),
		pgfx.ProvideOptions(pgfx.WithSetup(record("option")), pgfx.WithSetup(record("of another")).For("other")),
	)
	app.RequireStart()
	defer app.RequireStop()
	assert.Equal(t, []string{"option", "provided", "supplied"}, ran)
}

func TestFxReplaceChangesTheConfigInsideTheModule(t *testing.T) {
	t.Parallel()
	var db *pgfx.DB
	app := fxtest.New(t, fx.NopLogger, pgfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app@production/app"}),
		fx.Replace(serverConfig()), fx.Populate(&db))
	app.RequireStart()
	defer app.RequireStop()
	assert.NotContains(t, db.Target(), "production")
}

func TestAnInvalidConfigFailsNewWithEveryProblem(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, pgfx.Module, fx.Invoke(func(*pgfx.DB) {}),
		fx.Supply(pgfx.Config{URL: "postgres://a@b/c", Port: -1, Pool: pgfx.PoolConfig{MinConns: -1}}))
	var invalid *pgfx.ConfigError
	require.ErrorAs(t, app.Err(), &invalid)
	assert.Len(t, invalid.Problems, 2)
}
