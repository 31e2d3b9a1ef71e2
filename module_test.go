package rdsfx_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/fx/fxevent"
	fxapp "go.uber.org/fx/fxtest"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/internal/testctx"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// usersTable creates the table of User.
func usersTable() pgfx.SetupStep {
	return pgfx.SetupSQL("create users", "create table if not exists users (id uuid primary key default gen_random_uuid(), email text not null)")
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestModule_AnyValueStartsAll(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]any{
		"DB":         func(*pgfx.DB) {},
		"pool":       func(*pgxpool.Pool) {},
		"monitor":    func(*health.Monitor) {},
		"manager":    func(*txn.Manager) {},
		"repository": func(*repo.Repository[User, uuid.UUID]) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zapcore.DebugLevel)
			var setups, transitions atomic.Int32
			app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Supply(zap.New(core)),
				pgfx.ProvideSetup(usersTable(), pgfx.SetupStep{Name: "count", Run: func(context.Context, *pgfx.DB) error {
					setups.Add(1)
					return nil
				}}),
				health.ProvideObservers(health.Observer{Name: "count", Observe: func(context.Context, health.Transition) { transitions.Add(1) }}),
				repo.Provide[User, uuid.UUID]("users"),
				fx.Invoke(ask))
			assert.Zero(t, logs.Len(), "fx.New opens and logs nothing")
			app.RequireStart()
			assert.EqualValues(t, 1, setups.Load(), "the pool is open and set up")
			require.Eventually(t, func() bool { return transitions.Load() > 0 }, 10*time.Second, time.Millisecond, "the monitor probes")
			app.RequireStop()
		})
	}
}

func TestModule_OpensNothingUnlessRequested(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	accepted := make(chan struct{}, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.Close()
			accepted <- struct{}{}
		}
	}()
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, rdsfx.ModuleFor("reporting"), embedded.Module,
		fx.Supply(pgfx.Config{URL: "postgres://app@" + listener.Addr().String() + "/app"}),
		repo.Provide[User, uuid.UUID]("users"), pgfx.ProvideSetup(usersTable()))
	app.RequireStart().RequireStop()
	assert.Empty(t, accepted)
}

// TestModule_ValidatesEveryWiring lets Fx check each graph without starting it.
func TestModule_ValidatesEveryWiring(t *testing.T) {
	t.Parallel()
	all := fx.Invoke(func(*pgfx.DB, *pgxpool.Pool, *health.Monitor, *txn.Manager) {})
	config := fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"})
	reporting := fx.Invoke(fx.Annotate(func(*pgfx.DB, *pgxpool.Pool, *health.Monitor, *txn.Manager) {},
		fx.ParamTags(`name:"reporting"`, `name:"reporting"`, `name:"reporting"`, `name:"reporting"`)))
	users := fx.Invoke(func(*repo.Repository[User, uuid.UUID]) {})
	for name, opts := range map[string][]fx.Option{
		"environment":    {rdsfx.Module, all},
		"config":         {rdsfx.Module, config, all},
		"constructor":    {rdsfx.Module, fx.Provide(pgfx.ConfigFromEnv), all},
		"logger":         {rdsfx.Module, config, fx.Provide(zap.NewNop), all},
		"local server":   {embedded.Module, rdsfx.Module, all},
		"repository":     {rdsfx.Module, config, repo.Provide[User, uuid.UUID]("users"), users},
		"setup":          {rdsfx.Module, config, pgfx.ProvideSetup(usersTable()), all},
		"options":        {rdsfx.Module, config, pgfx.ProvideOptions(pgfx.WithTracer(nil)), all},
		"strict schema":  {rdsfx.Module, config, rdsfx.ProvideSchemaPolicy(rdsfx.SchemaFail), all},
		"two databases":  {rdsfx.Module, rdsfx.ModuleFor("reporting"), config, all, reporting},
		"only a named":   {rdsfx.ModuleFor("reporting"), reporting},
		"named config":   {rdsfx.ModuleFor("reporting"), fx.Supply(fx.Annotate(pgfx.Config{URL: "postgres://r@localhost/r"}, fx.ResultTags(`name:"reporting"`))), reporting},
		"only the pool":  {rdsfx.Module, config, fx.Invoke(func(*pgxpool.Pool) {})},
		"replace config": {rdsfx.Module, config, fx.Replace(pgfx.Config{URL: "postgres://test@localhost/test"}), all},
		"named repository": {
			rdsfx.ModuleFor("reporting"), repo.Provide[User, uuid.UUID]("users", repo.WithDatabase("reporting")),
			fx.Invoke(fx.Annotate(func(*repo.Repository[User, uuid.UUID]) {}, fx.ParamTags(`name:"reporting"`))),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, fx.ValidateApp(append(opts, fx.NopLogger)...))
		})
	}
}

func TestModule_CheckMayNeedTheDatabase(t *testing.T) {
	t.Parallel()
	var monitor *health.Monitor
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Populate(&monitor),
		health.ProvideChecks(
			health.Check{Name: "supplied", Run: func(context.Context) error { return nil }},
			health.Check{Name: "of another database", Run: func(context.Context) error { return nil }}.For("reporting"),
		),
		fx.Provide(fx.Annotate(func(db *pgfx.DB) health.Check {
			return health.Check{Name: "queue", Run: func(ctx context.Context) error { return db.Pool().Ping(ctx) }}
		}, fx.ResultTags(`group:"health.checks"`))))
	app.RequireStart()
	results := monitor.Checks(t.Context(), health.Readiness)
	require.Len(t, results, 2)
	assert.Equal(t, []string{"queue", "supplied"}, []string{results[0].Name, results[1].Name})
	require.NoError(t, errors.Join(results[0].Err, results[1].Err))
	app.RequireStop()
}

func TestModuleFor_KeepsDatabasesApart(t *testing.T) {
	first, second := fxtest.URL(t), fxtest.URL(t)
	t.Setenv("REPORTING_DATABASE_URL", second)
	type both struct {
		fx.In

		DB           *pgfx.DB
		Reporting    *pgfx.DB `name:"reporting"`
		Users        *repo.Repository[User, uuid.UUID]
		ReportUsers  *repo.Repository[User, uuid.UUID] `name:"reporting"`
		Tx           *txn.Manager
		ReportTx     *txn.Manager    `name:"reporting"`
		Monitor      *health.Monitor `name:"reporting"`
		ReportsPool  *pgxpool.Pool   `name:"reporting"`
		DefaultsPool *pgxpool.Pool
	}
	var b both
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, rdsfx.ModuleFor("reporting"),
		fx.Supply(pgfx.Config{URL: first}),
		pgfx.ProvideSetup(usersTable(), usersTable().For("reporting")),
		pgfx.ProvideOptions(pgfx.WithSetup(pgfx.SetupSQL("only reporting", "create table reports (id int)")).For("reporting")),
		repo.Provide[User, uuid.UUID]("users"), repo.Provide[User, uuid.UUID]("users", repo.WithDatabase("reporting")),
		fx.Invoke(func(in both) { b = in }))
	app.RequireStart()
	defer app.RequireStop()
	assert.Equal(t, "reporting", b.Reporting.Name())
	assert.NotEqual(t, b.DB.Target(), b.Reporting.Target())
	assert.Same(t, b.Reporting.Pool(), b.ReportsPool)
	assert.Same(t, b.DB.Pool(), b.DefaultsPool)

	ctx := within(t, 10*time.Second)
	require.NoError(t, b.Tx.Do(ctx, func(ctx context.Context) error {
		require.NoError(t, b.Users.Create(ctx, &User{Email: "a@example.com"}))
		require.NoError(t, b.ReportUsers.Create(ctx, &User{Email: "b@example.com"}), "outside the other database's transaction")
		_, inside := b.ReportTx.Tx(ctx)
		assert.False(t, inside)
		return nil
	}))
	for users, email := range map[*repo.Repository[User, uuid.UUID]]string{b.Users: "a@example.com", b.ReportUsers: "b@example.com"} {
		got, err := users.First(ctx)
		require.NoError(t, err)
		assert.Equal(t, email, got.Email)
	}
	_, err := b.DB.Pool().Exec(ctx, "select * from reports")
	require.ErrorContains(t, err, "42P01", "setup of the other database")
}

func TestModule_WarnsAboutUnknownDatabases(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, rdsfx.ModuleFor("reporting"), fx.Supply(pgfx.Config{URL: fxtest.URL(t)}, zap.New(core)),
		pgfx.ProvideSetup(usersTable().For("reporting"), usersTable().For("reprting")),
		health.ProvideObservers(health.Observer{Name: "pager"}.For("billing")),
		pgfx.ProvideOptions(pgfx.WithTracer(nil).For("ledger")), txn.ProvideOptions(txn.WithDefaults().For("orders")),
		repo.Provide[User, uuid.UUID]("users", repo.WithDatabase("people")),
		fx.Invoke(func(*pgfx.DB) {}))
	assert.Zero(t, logs.Len(), "the start warns, not fx.New")
	app.RequireStart().RequireStop()
	got := make(map[string]string)
	for _, entry := range logs.All() {
		assert.Equal(t, []any{"", "reporting"}, entry.ContextMap()["known"])
		got[entry.Message] = entry.ContextMap()["database"].(string)
	}
	assert.Equal(t, map[string]string{
		"setup step targets unknown database":         "reprting",
		"health observer targets unknown database":    "billing",
		"pool option targets unknown database":        "ledger",
		"transaction option targets unknown database": "orders",
		"repository targets unknown database":         "people",
	}, got)
	assert.Equal(t, "create users", logs.FilterMessage("setup step targets unknown database").All()[0].ContextMap()["setup"])
}

func TestModule_IncludedTwiceFailsNew(t *testing.T) {
	t.Parallel()
	config := fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"})
	ask := fx.Invoke(func(*pgfx.DB) {})
	require.ErrorContains(t, fx.New(fx.NopLogger, rdsfx.Module, rdsfx.Module, config, ask).Err(), "already provided")
	require.ErrorContains(t, fx.New(fx.NopLogger, rdsfx.ModuleFor("a"), rdsfx.ModuleFor("a"), config).Err(), "already provided")
	require.EqualError(t, fx.New(fx.NopLogger, rdsfx.ModuleFor(`my "db"`)).Err(),
		`rdsfx: ModuleFor("my \"db\""): name the database with letters, digits, - and _ only`)
}

func TestModule_LaterHookFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var db *pgfx.DB
	var monitor *health.Monitor
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Populate(&db, &monitor),
		fx.Invoke(func(lc fx.Lifecycle, _ *pgfx.DB) { lc.Append(fx.StartHook(func() error { return boom })) }))
	require.ErrorIs(t, app.Start(within(t, 20*time.Second)), boom)
	assert.Equal(t, health.Stopped, monitor.Status().State)
	require.ErrorIs(t, db.Internals().Gate().Err(), pgfx.ErrClosed)
	assert.Zero(t, db.Stats().Pool.Open)
}

func TestModule_LaterInvokeFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var db *pgfx.DB
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Populate(&db),
		fx.Invoke(func(*pgxpool.Pool) error { return boom }))
	require.ErrorIs(t, app.Err(), boom)
	assert.EqualValues(t, 0, db.Pool().Stat().NewConnsCount(), "Fx runs no stop hook now, so nothing may be open")
	require.NoError(t, db.Close(t.Context())) // for the pool's maintenance goroutine, the documented residue
}

func TestModule_PoolLivesWithTheApplication(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.InfoLevel)
	var (
		db      *pgfx.DB
		pool    *pgxpool.Pool
		monitor *health.Monitor
	)
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}, zap.New(core)),
		fx.Populate(&db, &pool, &monitor),
		fx.Invoke(func(lc fx.Lifecycle, m *health.Monitor) {
			lc.Append(fx.StartStopHook(
				func() { assert.Equal(t, health.Up, m.Status().State, "the next start hook finds a decided state") },
				func() {
					assert.Equal(t, health.Up, m.Status().State, "a stop hook that runs before ours still finds it")
				},
			))
		}))
	assert.Same(t, db.Pool(), pool)
	assert.Equal(t, health.Starting, monitor.Status().State)
	assert.EqualValues(t, 0, pool.Stat().NewConnsCount(), "fx.New opens no connection")
	_, err := pool.Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrNotStarted)
	app.RequireStart()
	_, err = pool.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	app.RequireStop()
	_, err = pool.Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrClosed)
	assert.Equal(t, health.Stopped, monitor.Status().State)
	names := make([]string, 0, logs.Len())
	for _, entry := range logs.All() {
		names = append(names, entry.LoggerName)
	}
	assert.Equal(t, []string{"pgfx", "pgfx", "health", "health"}, names, "the monitor starts after the pool")
}

// silentPort returns the address of a listener that accepts connections and never answers.
func silentPort(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return listener.Addr().String() // the kernel accepts
}

func TestModule_SilentServerFailsStartInTime(t *testing.T) {
	t.Parallel()
	var db *pgfx.DB
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Populate(&db), fx.StartTimeout(2*time.Second),
		fx.Supply(pgfx.Config{URL: "postgres://app@" + silentPort(t) + "/app?sslmode=disable"}))
	require.NoError(t, app.Err())
	err := app.Start(testctx.Unending(t.Context(), 2*time.Second)) // it gives up before the deadline
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	require.NoError(t, db.Close(within(t, 10*time.Second)))
	assert.Zero(t, db.Stats().Pool.Open)
}

func TestModule_LeakedConnectionDoesNotBlockStop(t *testing.T) {
	t.Parallel()
	var pool *pgxpool.Pool
	var laterHookRan bool
	app := fxapp.New(t, fx.NopLogger,
		fx.Invoke(func(lc fx.Lifecycle) {
			lc.Append(fx.StopHook(func(ctx context.Context) error {
				laterHookRan = true
				return ctx.Err()
			}))
		}),
		rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Populate(&pool))
	app.RequireStart()
	leaked, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	err = app.Stop(testctx.Unending(t.Context(), 2*time.Second))
	var held *pgfx.CloseTimeoutError
	require.ErrorAs(t, err, &held)
	assert.Len(t, held.Leases, 1)
	assert.True(t, laterHookRan, "stop hooks that run after ours get their time")
	leaked.Release()
}

func TestModule_OptionsAndSetupReachThePool(t *testing.T) {
	t.Parallel()
	var ran []string
	record := func(name string) pgfx.SetupStep {
		return pgfx.SetupStep{Name: name, Run: func(context.Context, *pgfx.DB) error {
			ran = append(ran, name)
			return nil
		}}
	}
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Invoke(func(*pgfx.DB) {}),
		pgfx.ProvideSetup(record("supplied"), record("step of another").For("other")),
		fx.Provide(fx.Annotate(func(pgfx.Config) pgfx.SetupStep { return record("provided") }, fx.ResultTags(`group:"pgfx.setup"`))),
		pgfx.ProvideOptions(pgfx.WithSetup(record("option")), pgfx.WithSetup(record("option of another")).For("other")),
	)
	app.RequireStart()
	defer app.RequireStop()
	assert.Equal(t, []string{"option", "provided", "supplied"}, ran)
}

func TestModule_ReplaceChangesTheConfig(t *testing.T) {
	t.Parallel()
	var db *pgfx.DB
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app@production/app"}),
		fx.Replace(pgfx.Config{URL: fxtest.URL(t)}), fx.Populate(&db))
	app.RequireStart()
	defer app.RequireStop()
	assert.NotContains(t, db.Target(), "production")
}

func TestModule_InvalidConfigFailsNew(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Invoke(func(*pgfx.DB) {}),
		fx.Supply(pgfx.Config{URL: "postgres://a@b/c", Port: -1, Pool: pgfx.PoolConfig{MinConns: -1}}))
	var invalid *pgfx.ConfigError
	require.ErrorAs(t, app.Err(), &invalid)
	assert.Len(t, invalid.Problems, 2)
}

func TestModule_UnreachableServerFailsStartInTime(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable"}),
		fx.Invoke(func(*pgxpool.Pool) {}))
	err := app.Start(testctx.Unending(t.Context(), 2*time.Second)) // in time for other hooks to be rolled back
	require.ErrorContains(t, err, "cannot connect to app@127.0.0.1:1/app")
	assert.NotContains(t, err.Error(), "s3cret")
}

func TestModule_MonitorClosesBeforeThePool(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.WarnLevel)
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{
		URL: fxtest.URL(t), Health: pgfx.HealthConfig{Interval: time.Millisecond},
	}), fx.Supply(zap.New(core)), fx.Invoke(func(*pgfx.DB) {}))
	app.RequireStart().RequireStop()
	assert.Empty(t, logs.All(), "an orderly stop does not log an outage")
}

func TestSchemaCheck_MissingTableFailsStart(t *testing.T) {
	t.Parallel()
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}),
		repo.Provide[User, uuid.UUID]("app.users"), fx.Invoke(func(*pgfx.DB) {}))
	err := app.Start(within(t, 20*time.Second))
	require.ErrorContains(t, err, `setup step "schema check"`)
	require.ErrorContains(t, err, "app.users")
	require.ErrorContains(t, err, "create")
}

func TestSchemaCheck_DriftWarnsOrFails(t *testing.T) {
	t.Parallel()
	drifted := pgfx.ProvideSetup(pgfx.SetupSQL("drift", "create table users (id uuid primary key default gen_random_uuid(), email text)"))
	core, logs := observer.New(zapcore.WarnLevel)
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Supply(zap.New(core)), drifted,
		repo.Provide[User, uuid.UUID]("users"), fx.Invoke(func(*pgfx.DB) {}))
	app.RequireStart().RequireStop()
	require.Equal(t, 1, logs.Len(), "one line for each finding")
	assert.Contains(t, logs.All()[0].ContextMap()["finding"], "email")

	strict := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), drifted,
		rdsfx.ProvideSchemaPolicy(rdsfx.SchemaFail),
		repo.Provide[User, uuid.UUID]("users"), fx.Invoke(func(*pgfx.DB) {}))
	require.ErrorContains(t, strict.Start(within(t, 20*time.Second)), "email")
}

func TestSchemaCheck_AdviceIsLoggedInOneLine(t *testing.T) {
	t.Parallel()
	type counted struct {
		ID   int64 `db:"id,pk"`
		Seen int64
		Note *string
	}
	core, logs := observer.New(zapcore.InfoLevel)
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: fxtest.URL(t)}), fx.Supply(zap.New(core)),
		pgfx.ProvideSetup(pgfx.SetupSQL("counted", "create table counted (id bigint primary key, seen int not null, note text not null)")),
		rdsfx.ProvideSchemaPolicy(rdsfx.SchemaFail), repo.Provide[counted, int64]("counted"), fx.Invoke(func(*pgfx.DB) {}))
	app.RequireStart().RequireStop()
	lines := logs.FilterMessage("models and the schema differ in the values that they can hold").All()
	require.Len(t, lines, 1)
	assert.Equal(t, zapcore.InfoLevel, lines[0].Level)
	assert.Len(t, lines[0].ContextMap()["advice"], 2)
}

func TestModule_ModelWithoutKeyFailsNew(t *testing.T) {
	t.Parallel()
	type keyless struct{ Email string }
	app := fx.New(fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{URL: "postgres://app@localhost/app"}),
		repo.Provide[keyless, uuid.UUID]("users"), fx.Invoke(func(*repo.Repository[keyless, uuid.UUID]) {}))
	require.ErrorContains(t, app.Err(), "keyless")
	require.ErrorContains(t, app.Err(), "pk")
}

func TestModule_LogsOwnErrorFirst(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.ErrorLevel)
	start := func(cfg pgfx.Config) error {
		app := fx.New(rdsfx.ModuleFor("reporting"), fx.Supply(zap.New(core)),
			fx.Supply(fx.Annotate(cfg, fx.ResultTags(`name:"reporting"`))),
			fx.WithLogger(func(logger *zap.Logger) fxevent.Logger { return &fxevent.ZapLogger{Logger: logger} }),
			fx.Invoke(fx.Annotate(func(*pgfx.DB) {}, fx.ParamTags(`name:"reporting"`))))
		return app.Start(within(t, 2*time.Second))
	}
	require.Error(t, start(pgfx.Config{URL: "postgres://app@localhost/app", Pool: pgfx.PoolConfig{MaxConns: -3}}))
	first := logs.TakeAll()[0]
	assert.Equal(t, "database not configured", first.Message)
	assert.Equal(t, `pgfx: invalid config of database "reporting": Pool.MaxConns (pool.max_conns, REPORTING_DATABASE_POOL_MAX_CONNS) is "-3": `+
		`set 1 or more, or 0 for the default; the pool must have a limit`, first.ContextMap()["error"])

	err := start(pgfx.Config{URL: "postgres://app@127.0.0.1:1/app"})
	var connect *pgfx.ConnectError
	require.ErrorAs(t, err, &connect)
	first = logs.TakeAll()[0]
	assert.Equal(t, "database not started", first.Message)
	assert.Equal(t, err.Error(), first.ContextMap()["error"])
	assert.Equal(t, "reporting", first.ContextMap()["database_name"])
}

func TestModule_OptionalStartRecoversLater(t *testing.T) {
	t.Parallel()
	late, err := embedded.NewServer()
	require.NoError(t, err)
	var db *pgfx.DB
	var users *repo.Repository[User, uuid.UUID]
	app := fxapp.New(t, fx.NopLogger, rdsfx.Module, fx.Supply(pgfx.Config{
		URL: late.URL(), Start: pgfx.StartConfig{Mode: pgfx.StartOptional},
		Retry: pgfx.RetryConfig{Delay: time.Millisecond, MaxDelay: 10 * time.Millisecond},
	}), pgfx.ProvideSetup(usersTable()), repo.Provide[User, uuid.UUID]("users"), fx.Populate(&db, &users))
	app.RequireStart()
	_, err = users.Count(t.Context())
	require.ErrorIs(t, err, pgfx.ErrUnavailable)

	require.NoError(t, late.Start(t.Context()))
	defer func() { require.NoError(t, late.Stop(context.Background())) }()
	require.Eventually(t, db.IsHealthy, 10*time.Second, time.Millisecond)
	_, err = users.Count(t.Context())
	require.NoError(t, err, "the setup ran when the database came up")
	app.RequireStop()
}
