package pgfx_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/pgfx"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// server is shared by the tests of this package, which change nothing on it but databases and roles of their own.
var server *embedded.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background() // starting and stopping have limits of their own, and the tests take as long as they take
	var err error
	server, err = embedded.Start(ctx, embedded.TCP())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// serverConfig is the address of the shared server.
func serverConfig() pgfx.Config { return pgfx.Config{URL: server.URL()} }

// serverPassword is the password of the shared server's superuser.
func serverPassword(t *testing.T) string {
	t.Helper()
	cc, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	return cc.Password
}

const (
	// eventually bounds waiting for an event, and tick is the pause between two looks for it.
	eventually = 10 * time.Second
	tick       = time.Millisecond
)

// open makes a DB that is closed, and must close cleanly, at the end of the test.
func open(t *testing.T, cfg pgfx.Config, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db, err := pgfx.Open(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, db.Close(ctx))
	})
	return db
}

// started is open followed by Start.
func started(t *testing.T, cfg pgfx.Config, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db := open(t, cfg, opts...)
	require.NoError(t, db.Start(within(t, 10*time.Second)))
	return db
}

// sleeps waits until a backend sleeps, so that there is something to cancel: a request that finds a session that does nothing
// is ignored. The condition says which backend, with its arguments.
func sleeps(t *testing.T, admin *pgfx.DB, condition string, args ...any) {
	t.Helper()
	require.Eventually(t, func() bool {
		var found int
		err := admin.Pool().QueryRow(t.Context(),
			"select count(*) from pg_stat_activity where wait_event = 'PgSleep' and state = 'active' and "+condition, args...).Scan(&found)
		return err == nil && found == 1
	}, eventually, tick)
}

// within returns a ctx that ends with the test, and after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
