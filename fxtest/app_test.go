package fxtest_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/rdsfx-go/rdsfx"
	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/health"
	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/repo"
	"github.com/rdsfx-go/rdsfx/txn"
)

type User struct {
	ID    uuid.UUID `db:"id,pk,default"`
	Email string    `db:"email"`
}

// docs: test
func TestUsers_EmailIsUnique(t *testing.T) {
	t.Parallel()
	var users *repo.Repository[User, uuid.UUID]
	fxtest.New(t, fxtest.Migrations(os.DirFS("testdata/migrations")), fxtest.Fx(
		repo.Provide[User, uuid.UUID]("users"), // or a module of your application
		fx.Populate(&users),
	))

	require.NoError(t, users.Create(t.Context(), &User{Email: "ada@example.com"}))
	err := users.Create(t.Context(), &User{Email: "ada@example.com"})
	var violation *repo.ConstraintError
	require.ErrorAs(t, err, &violation)
	require.Equal(t, "users_email_key", violation.Constraint)
}

// docs: end

func TestNew_StartsAndStopsApp(t *testing.T) {
	t.Parallel()
	var stopped bool
	var app *fxtest.App
	r := testrecorder.Run(t, func(tb testing.TB) {
		app = fxtest.New(tb, fxtest.Logger(tb), fxtest.Fx(fx.Invoke(func(lc fx.Lifecycle) {
			lc.Append(fx.StopHook(func() { stopped = true }))
		})))
		_, err := app.Pool.Exec(t.Context(), "select 1")
		require.NoError(t, err)
		assert.Same(t, app.DB.Pool(), app.Pool)
		assert.Same(t, app.DB, app.Tx.DB())
		_, err = app.Health.ProbeNow(t.Context())
		require.NoError(t, err)
		assert.Equal(t, health.Up, app.Health.Status().State)
	})
	assert.Empty(t, r.Errors())
	assert.True(t, stopped)
	_, err := app.Pool.Exec(t.Context(), "select 1")
	require.ErrorIs(t, err, pgfx.ErrClosed)
}

func TestNew_FindsClosuresThatUseAnotherContext(t *testing.T) {
	t.Parallel()
	var named *txn.Manager
	app := fxtest.New(t, fxtest.Fx(rdsfx.ModuleFor("reporting"), fx.Populate(fx.Annotate(&named, fx.ParamTags(`name:"reporting"`)))))
	for _, m := range []*txn.Manager{app.Tx, named} {
		err := m.Do(t.Context(), func(context.Context) error {
			_, err := m.Exec(t.Context(), "select 1")
			return err
		})
		require.ErrorIs(t, err, txn.ErrOuterContext)
		require.ErrorContains(t, err, "app_test.go:")
	}
}

func TestNew_IgnoresConfiguredURL(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://app@production.invalid/app")
	app := fxtest.New(t, fxtest.Fx(fx.Supply(pgfx.Config{
		URL: "postgres://app@production.invalid/app", Username: "app", Pool: pgfx.PoolConfig{MaxConns: 3},
	})))
	assert.NotContains(t, app.DB.Target(), "production")
	assert.Equal(t, 3, app.DB.Stats().Pool.Max, "the rest of the configuration applies")
	app = fxtest.New(t)
	assert.NotContains(t, app.DB.Target(), "production")
	assert.NotContains(t, fxtest.DB(t, fxtest.Config(pgfx.Config{URL: "postgres://production.invalid"})).Target(), "production")
	app = fxtest.New(t, fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 2}}))
	assert.Equal(t, 2, app.DB.Stats().Pool.Max)
}

// service is an application's module as it runs in production: with the library's modules, an address and two databases.
var service = fx.Module("service",
	rdsfx.Module, rdsfx.ModuleFor("reporting"), embedded.Module,
	fx.Supply(pgfx.Config{URL: "postgres://app@production.invalid/app", Pool: pgfx.PoolConfig{MaxConns: 3}}),
	fx.Supply(fx.Annotate(pgfx.Config{Host: "reports.invalid"}, fx.ResultTags(`name:"reporting"`))),
	fx.Provide(func(pool *pgxpool.Pool) *counter { return &counter{pool} }),
	fx.Invoke(func(*counter) { serviceStarts.Add(1) }),
)

type counter struct{ pool *pgxpool.Pool }

var serviceStarts atomic.Int32

func TestNew_TakesModuleOfProductionAsItIs(t *testing.T) { //nolint:paralleltest // counts the starts
	before := serviceStarts.Load()
	var own struct {
		fx.In

		Pool *pgxpool.Pool
		DB   *pgfx.DB `name:"reporting"`
	}
	app := fxtest.New(t, fxtest.Fx(service, fx.Populate(&own)), fxtest.SQL("create table here (id int)"),
		fxtest.ForDatabase("reporting", fxtest.SQL("create table reports (id int)"),
			fxtest.Config(pgfx.Config{Pool: pgfx.PoolConfig{MaxConns: 2}})))
	assert.Equal(t, before+1, serviceStarts.Load(), "listing the databases runs no Invoke")
	assert.Same(t, app.Pool, own.Pool)
	assert.Equal(t, 3, app.DB.Stats().Pool.Max)
	assert.Equal(t, 2, own.DB.Stats().Pool.Max)
	assert.NotEqual(t, app.DB.Target(), own.DB.Target(), "each database is separate")
	for _, db := range []*pgfx.DB{app.DB, own.DB} {
		assert.NotContains(t, db.Target(), "invalid")
	}
	_, err := app.Pool.Exec(t.Context(), "insert into here values (1)")
	require.NoError(t, err)
	_, err = own.DB.Pool().Exec(t.Context(), "insert into reports values (1)")
	require.NoError(t, err)
	statements := fxtest.Statements(t, own.DB)
	_, err = own.DB.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err)
	statements.AssertRoundTrips(1)

	var reporting struct {
		fx.In

		DB *pgfx.DB `name:"reporting"`
	}
	fxtest.New(t, fxtest.Fx(service, fx.Populate(&reporting)))
	_, err = reporting.DB.Pool().Exec(t.Context(), "select * from reports")
	require.ErrorContains(t, err, "42P01", "without ForDatabase it is empty")
}

func TestForDatabase_RefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opt  fxtest.Option
		want string
	}{
		"unknown": {fxtest.ForDatabase("audit"), `ForDatabase("audit"): the application has no such database (known: ["" "reporting"]); add rdsfx.ModuleFor("audit")`},
		"empty":   {fxtest.ForDatabase(""), "the name is empty"},
		"fx":      {fxtest.ForDatabase("reporting", fxtest.Fx(fx.Options())), "pass Fx and ForDatabase to New"},
		"invalid": {fxtest.ForDatabase("reporting", fxtest.At("")), `ForDatabase("reporting"): at: the URL is empty`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testrecorder.Run(t, func(tb testing.TB) { fxtest.New(tb, fxtest.Fx(service), test.opt) })
			require.Len(t, r.Errors(), 1)
			assert.Contains(t, r.Errors()[0], test.want)
		})
	}
	r := testrecorder.Run(t, func(tb testing.TB) {
		fxtest.New(tb, fxtest.Fx(service), fxtest.ForDatabase("reporting"), fxtest.ForDatabase("reporting", fxtest.Salt("again")))
	})
	assert.Contains(t, r.Errors()[0], "given twice")

	r = testrecorder.Run(t, func(tb testing.TB) {
		invalid := fx.Options(fx.Provide("no constructor"), rdsfx.ModuleFor("audit")) // Fx ignores what follows the mistake
		fxtest.New(tb, fxtest.Fx(invalid), fxtest.ForDatabase("audit"))
	})
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "must provide constructor function")
}

func TestNew_AcceptsWorkersThatStopWithTheApplication(t *testing.T) {
	t.Parallel()
	worker := fx.Invoke(func(lc fx.Lifecycle, pool *pgxpool.Pool) {
		ctx, cancel := context.WithCancel(context.Background())
		lc.Append(fx.StartStopHook(func(start context.Context) error {
			conn, err := pool.Acquire(start)
			if err != nil {
				return err
			}
			go func() { // holds a connection for as long as the application runs, and a little longer
				<-ctx.Done()
				_, _ = conn.Exec(context.Background(), "select pg_sleep(0.05)")
				conn.Release()
			}()
			return nil
		}, cancel))
	})
	r := testrecorder.Run(t, func(tb testing.TB) { fxtest.New(tb, fxtest.Fx(worker)) })
	assert.Empty(t, r.Errors())
}

func TestNew_DoesNotCountGoroutinesOfServers(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	r := testrecorder.Run(t, func(tb testing.TB) {
		app := fxtest.New(tb, fxtest.At(server.URL()))
		server.Restart()
		require.Eventually(t, func() bool { return app.Pool.Ping(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)
	})
	assert.Empty(t, r.Errors())
}

func TestNew_DoesNotCountGoroutinesOfAHealedProxy(t *testing.T) {
	t.Parallel()
	proxy := faults.NewProxy(t, fxtest.URL(t))
	fxtest.New(t, fxtest.At(proxy.URL()))
	proxy.RefuseNew()
	proxy.Heal() // listens again
}

func TestNew_ReportsStartError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []fxtest.Option
		want string
	}{
		"missing dependency": {[]fxtest.Option{fxtest.Fx(fx.Invoke(func(*repo.Repository[User, uuid.UUID]) {}))}, "missing type"},
		"missing table":      {[]fxtest.Option{fxtest.Fx(repo.Provide[User, uuid.UUID]("users"))}, "users"},
		"schema drift": {
			[]fxtest.Option{
				fxtest.SQL("create table users (id uuid primary key default gen_random_uuid(), email text)"),
				fxtest.Fx(repo.Provide[User, uuid.UUID]("users")),
			}, "email",
		},
		"bad option":   {[]fxtest.Option{fxtest.Migrate("", nil)}, "give a version"},
		"failing hook": {[]fxtest.Option{fxtest.Fx(fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StartHook(func() error { return assert.AnError })) }))}, assert.AnError.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testrecorder.Run(t, func(tb testing.TB) { fxtest.New(tb, test.opts...) })
			require.Len(t, r.Errors(), 1)
			assert.Contains(t, r.Errors()[0], test.want)
		})
	}
}

func TestNew_ReportsLeakedConnOnce(t *testing.T) {
	t.Parallel()
	var conn *pgxpool.Conn
	r := testrecorder.Run(t, func(tb testing.TB) {
		var err error
		conn, err = fxtest.New(tb).Pool.Acquire(t.Context())
		require.NoError(t, err)
	})
	conn.Release()
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "connection not released")
	assert.Contains(t, r.Errors()[0], "app_test.go:")
}

func TestNew_ReportsStopError(t *testing.T) {
	t.Parallel()
	r := testrecorder.Run(t, func(tb testing.TB) {
		fxtest.New(tb, fxtest.Fx(fx.Invoke(func(lc fx.Lifecycle) {
			lc.Append(fx.StopHook(func(context.Context) error { return assert.AnError }))
		})))
	})
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], assert.AnError.Error())
}

func TestNew_ReportsLeakedGoroutine(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	leak := fx.Invoke(func(lc fx.Lifecycle) {
		lc.Append(fx.StartHook(func() { go func() { <-release }() }))
	})
	r := testrecorder.Run(t, func(tb testing.TB) { fxtest.New(tb, fxtest.Fx(leak)) })
	close(release)
	require.Len(t, r.Errors(), 1)
	assert.Contains(t, r.Errors()[0], "goroutine of the application still running")
	assert.Contains(t, r.Errors()[0], "TestNew_ReportsLeakedGoroutine")
}
