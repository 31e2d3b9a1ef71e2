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

// server is shared by the tests of this package. They change only databases and roles that they create.
var server *embedded.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background() // starting and stopping have their own timeouts
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

// serverConfig returns the Config of the shared server.
func serverConfig() pgfx.Config { return pgfx.Config{URL: server.URL()} }

// cancelConfig is serverConfig for tests that expect the server to cancel a statement, which may take long on a slow machine.
func cancelConfig() pgfx.Config {
	cfg := serverConfig()
	cfg.Timeouts.Cancel = eventually
	return cfg
}

// serverPassword returns the password of the shared server's superuser.
func serverPassword(t *testing.T) string {
	t.Helper()
	cc, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	return cc.Password
}

const (
	// eventually is the longest wait for an event.
	eventually = 10 * time.Second
	// tick is the pause between two checks for it.
	tick = time.Millisecond
)

// open opens a DB and closes it at the end of the test. Closing must succeed.
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

// started opens and starts a DB.
func started(t *testing.T, cfg pgfx.Config, opts ...pgfx.Option) *pgfx.DB {
	t.Helper()
	db := open(t, cfg, opts...)
	require.NoError(t, db.Start(within(t, 10*time.Second)))
	return db
}

// waitForSleep waits until a backend runs pg_sleep, because a server ignores cancel requests for idle sessions. The condition
// selects the backend.
func waitForSleep(t *testing.T, admin *pgfx.DB, condition string, args ...any) {
	t.Helper()
	require.Eventually(t, func() bool {
		var found int
		err := admin.Pool().QueryRow(t.Context(),
			"select count(*) from pg_stat_activity where wait_event = 'PgSleep' and state = 'active' and "+condition, args...).Scan(&found)
		return err == nil && found == 1
	}, eventually, tick)
}

// within returns a ctx that ends after d, or with the test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
