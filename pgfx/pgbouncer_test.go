package pgfx_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/internal/testpgbouncer"
	"github.com/rdsfx-go/rdsfx/pgfx"
)

// pgBouncer runs PgBouncer with transaction pooling and serverConns connections to the shared server. It returns the Config of a
// new database behind PgBouncer, and of the same database without it.
func pgBouncer(t *testing.T, serverConns int) (pooled, direct pgfx.Config) {
	t.Helper()
	database := newDatabase(t)
	direct = serverConfig()
	direct.Database = database
	return pgBouncerTo(t, server.URL(), database, "transaction", serverConns), direct
}

// pgBouncerTo runs PgBouncer in front of the server at address, which may refuse connections, and returns the Config of a
// database behind it. The mode is transaction or session.
func pgBouncerTo(t *testing.T, address, database, mode string, serverConns int) (pooled pgfx.Config) {
	t.Helper()
	bouncer, err := testpgbouncer.Start(within(t, eventually), address, mode, serverConns)
	if errors.Is(err, testpgbouncer.ErrNotInstalled) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, bouncer.Stop())
		if t.Failed() {
			t.Log(bouncer.Output())
		}
	})
	return pgfx.Config{URL: bouncer.URL(database), Pooler: pgfx.PoolerTransaction}
}

// newDatabase creates a database for the test on the shared server and returns its name.
func newDatabase(t *testing.T) string {
	t.Helper()
	admin := started(t, serverConfig())
	name := "pgfx_" + strings.ToLower(strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()))
	name = name[:min(len(name), 60)]
	_, err := admin.Pool().Exec(t.Context(), "create database "+pgx.Identifier{name}.Sanitize())
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Pool().Exec(context.Background(), "drop database "+pgx.Identifier{name}.Sanitize()+" with (force)")
		require.NoError(t, err)
	})
	return name
}
