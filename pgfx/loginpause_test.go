package pgfx_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

func TestLoginPause_DoublesWithEachRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		note, check := pgfx.NewLoginPause()
		refused := &pgconn.PgError{Code: "28P01"}
		require.NoError(t, check("old"))
		for _, pause := range []int{125, 250, 500, 1000, 2000, 4000, 5000, 5000} {
			note("old", refused)
			time.Sleep(time.Duration(pause)*time.Millisecond - time.Nanosecond)
			require.ErrorIs(t, check("old"), refused, pause)
			require.NoError(t, check("new"), pause)
			note("old", io.EOF)
			time.Sleep(time.Nanosecond)
			require.NoError(t, check("old"), pause)
		}
		note("new", refused)
		require.NoError(t, check("old"), "only the last one is known")
		time.Sleep(125 * time.Millisecond)
		require.NoError(t, check("new"), "another pause begins")
		note("new", refused)
		note("new", nil)
		require.NoError(t, check("new"), "the server has accepted it")
	})
}

// The connections that exist still work, so no gate stops the pool from logging in.
func TestLoginPause_RefusedLoginIsNotRepeatedByEachCall(t *testing.T) {
	t.Parallel()
	const calls = 200
	role := fmt.Sprintf("login_pause_%d", os.Getpid())
	admin := started(t, serverConfig())
	setPassword := func(verb, password string) {
		_, err := admin.Pool().Exec(t.Context(), fmt.Sprintf("%s role %s login password '%s'", verb, role, password))
		require.NoError(t, err)
	}
	setPassword("create", "first")
	t.Cleanup(func() {
		_, err := admin.Pool().Exec(context.Background(), "drop role "+role)
		assert.NoError(t, err)
	})
	var dials atomic.Int64
	var password atomic.Pointer[string]
	use := func(p string) { password.Store(&p) }
	use("first")
	cfg := serverConfig()
	cfg.Username, cfg.Pool.MaxConns = role, 8
	db := started(t, cfg, countDials(&dials), pgfx.WithCredentials(func(context.Context) (pgfx.Credentials, error) {
		return pgfx.Credentials{Password: *password.Load()}, nil
	}))
	held, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()

	setPassword("alter", "second")
	before := dials.Load()
	_, err = db.Pool().Exec(t.Context(), "select 1")
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	perLogin := dials.Load() - before
	for range calls {
		_, err = db.Pool().Exec(t.Context(), "select 1")
		require.Equal(t, pgfx.CauseLogin, pgfx.CauseOf(err))
	}
	require.ErrorIs(t, err, pgfx.ErrUnavailable)
	require.ErrorAs(t, err, &refused)
	assert.LessOrEqual(t, dials.Load()-before, 8*perLogin, "at most one for each doubling of the pause")
	require.NoError(t, held.Ping(t.Context()))

	use("second")
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.NoError(t, err, "other credentials are used at once")

	use("third")
	db.Reset()
	_, err = db.Pool().Exec(t.Context(), "select 1")
	require.Error(t, err)
	setPassword("alter", "third")
	require.Eventually(t, func() bool { return db.Pool().Ping(t.Context()) == nil }, eventually, tick, "the pause ends")
}
