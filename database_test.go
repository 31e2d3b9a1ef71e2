package rdsfx_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

func openDatabase(t *testing.T, opts ...rdsfx.Option) *rdsfx.Database {
	t.Helper()
	db, err := rdsfx.Open(pgfx.Config{URL: fxtest.URL(t)}, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	return db
}

func TestDatabase_StartAndClose(t *testing.T) {
	t.Parallel()
	var transitions []string
	core, logs := observer.New(zapcore.InfoLevel)
	db := openDatabase(t, rdsfx.WithLogger(zap.New(core)), rdsfx.WithHealth(health.WithObservers(health.Observer{
		Observe: func(_ context.Context, transition health.Transition) {
			transitions = append(transitions, string(transition.To))
		},
	})))
	_, err := db.DB.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrNotStarted)

	require.NoError(t, db.Start(t.Context()))
	assert.Equal(t, health.Up, db.Health.Status().State, "Start waits for the first probe")
	require.NoError(t, db.Tx.Do(t.Context(), func(ctx context.Context) error {
		_, err := db.Tx.Exec(ctx, "select 1")
		return err
	}))
	require.ErrorContains(t, db.Start(t.Context()), "Start was called before")
	require.NoError(t, db.DB.Pool().Ping(t.Context()), "a second Start changes nothing")

	require.NoError(t, db.Close(t.Context()))
	_, err = db.DB.Pool().Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrClosed)
	assert.Equal(t, []string{"up", "stopped"}, transitions, "the monitor closes before the pool, so it reports no outage")
	require.NoError(t, db.Close(t.Context()))
	require.Error(t, db.Start(t.Context()))
	for _, entry := range logs.All() {
		assert.Equal(t, zapcore.InfoLevel, entry.Level, entry.Message)
	}
}

func TestDatabase_StartAfterClose(t *testing.T) {
	t.Parallel()
	db := openDatabase(t)
	require.NoError(t, db.Close(t.Context()))
	require.ErrorIs(t, db.Start(t.Context()), pgfx.ErrClosed)
}

func TestDatabase_FailedStartClosesEverything(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	db := openDatabase(t, rdsfx.WithPool(pgfx.WithSetup(pgfx.SetupStep{
		Name: "fails", Run: func(context.Context, *pgfx.DB) error { return boom },
	})))
	require.ErrorIs(t, db.Start(t.Context()), boom)
	assert.Equal(t, health.Stopped, db.Health.Status().State)
	require.ErrorIs(t, db.DB.Internals().Gate().Err(), pgfx.ErrClosed)
	assert.Zero(t, db.DB.Stats().Pool.Open)
}

func TestDatabase_OpenFails(t *testing.T) {
	t.Parallel()
	config := pgfx.Config{URL: "postgres://app@127.0.0.1:1/app"}
	_, err := rdsfx.Open(pgfx.Config{URL: config.URL, Port: -1})
	var invalid *pgfx.ConfigError
	require.ErrorAs(t, err, &invalid)
	_, err = rdsfx.Open(config, rdsfx.WithTx(txn.WithDefaults(txn.Isolation("chaos"))))
	require.ErrorContains(t, err, `"chaos"`, "goleak finds the pool's goroutine if Open does not close it")
}

func TestDatabase_NamedWithBase(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	ran := make(map[string]bool)
	step := func(name string) pgfx.SetupStep {
		return pgfx.SetupStep{Name: name, Run: func(context.Context, *pgfx.DB) error { ran[name] = true; return nil }}
	}
	users, err := repo.ModelOf[User, uuid.UUID]("users") // its table is missing, but it belongs to the default database
	require.NoError(t, err)
	db, err := rdsfx.Open(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 3}}, rdsfx.WithLogger(zap.New(core)), rdsfx.WithModels(users),
		rdsfx.WithPool(pgfx.WithSetup(step("unnamed"), step("named").For("reporting"), step("other").For("other"))),
		rdsfx.WithPool(pgfx.WithName("reporting"), pgfx.WithBase(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 7}}),
			pgfx.WithEndpoint(pgfx.Endpoint{URL: fxtest.URL(t)})),
		rdsfx.WithHealth(health.WithChecks(
			health.Check{Name: "unnamed", Run: func(context.Context) error { return nil }},
			health.Check{Name: "other", Run: func(context.Context) error { return nil }}.For("other"))))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) }()
	require.NoError(t, db.Start(t.Context()))
	assert.Equal(t, "reporting", db.DB.Name())
	assert.Equal(t, "reporting", db.Health.Status().Database)
	assert.Equal(t, 3, db.DB.Config().Pool.MaxConns)
	assert.Equal(t, map[string]bool{"unnamed": true, "named": true}, ran)
	assert.Len(t, db.Health.Checks(t.Context(), health.Readiness), 1)
	for _, entry := range logs.All() {
		assert.Equal(t, "reporting", entry.ContextMap()["database_name"], entry.Message)
	}
}

func TestDatabase_CloseIsBoundedAndReportsEverything(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	db := openDatabase(t, rdsfx.WithHealth(health.WithObservers(health.Observer{
		Name: "hangs", Observe: func(context.Context, health.Transition) { <-release },
	})))
	require.NoError(t, db.Start(t.Context()))
	leaked, err := db.DB.Pool().Acquire(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = db.Close(ctx)
	require.ErrorContains(t, err, "health: close: ")
	var held *pgfx.CloseTimeoutError
	require.ErrorAs(t, err, &held)
	assert.Len(t, held.Leases, 1)
	leaked.Release()
	close(release)
	require.NoError(t, db.Close(t.Context()), "a later Close waits for the end")
}

func TestDatabase_HangingObserverLeavesTimeForThePool(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	db := openDatabase(t, rdsfx.WithHealth(health.WithObservers(health.Observer{
		Name: "hangs", Observe: func(context.Context, health.Transition) { <-release },
	})))
	require.NoError(t, db.Start(t.Context()))
	err := db.Close(testctx.Unending(t.Context(), 500*time.Millisecond))
	require.ErrorContains(t, err, "health: close: ")
	var held *pgfx.CloseTimeoutError
	assert.NotErrorAs(t, err, &held)
	assert.Zero(t, db.DB.Stats().Pool.Open)
}

func TestDatabase_ConcurrentStartAndClose(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	for range 10 {
		db, err := rdsfx.Open(pgfx.Config{URL: url})
		require.NoError(t, err)
		var group sync.WaitGroup
		for _, call := range []func(context.Context) error{db.Start, db.Close, db.Start, db.Close} {
			group.Go(func() { _ = call(t.Context()) }) // either order is fine
		}
		group.Wait()
		require.NoError(t, db.Close(t.Context()))
		assert.Equal(t, health.Stopped, db.Health.Status().State)
		assert.Zero(t, db.DB.Stats().Pool.Open)
	}
}

func TestDatabase_PrintsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	type row struct {
		ID int64 `db:"id,pk"`
	}
	for _, config := range []pgfx.Config{
		{Host: "localhost", Database: "app", Password: secret}, {URL: "postgres://app:" + secret + "@localhost/app"},
	} {
		d, err := rdsfx.Open(config)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close(context.Background())) })
		rows, err := repo.New[row, int64](d.Tx, "rows")
		require.NoError(t, err)
		for _, value := range []any{
			d, d.DB, d.Health, d.Tx, rows, rows.Model(), d.DB.Pool(), config, &config,
			pgfx.Endpoint{URL: config.URL},
			struct{ db *pgfx.DB }{d.DB},
			struct{ manager *txn.Manager }{d.Tx},
			struct{ monitor *health.Monitor }{d.Health},
			fx.Supply(config), fx.Supply(d.DB), rdsfx.Module,
		} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				text := fmt.Sprintf(verb, value)
				assert.NotContains(t, text, secret, "%s of %T", verb, value)
				assert.NotContains(t, text, hex.EncodeToString([]byte(secret)), "%s of %T", verb, value)
			}
		}
		if config.Password != "" {
			assert.Equal(t, secret, d.DB.Config().Password, "code can read it")
		}
	}
}
