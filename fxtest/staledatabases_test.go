package fxtest_test

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

func TestIsStale_ChecksOwnerAndAge(t *testing.T) {
	t.Parallel()
	now := time.Now()
	alive := func(pid int) bool { return pid == 7 }
	name := func(host string, pid int, age time.Duration) string {
		return fmt.Sprintf("rdsfx_t_%s_%d_%d_abcdefgh", host, pid, now.Add(-age).Unix())
	}
	for database, stale := range map[string]bool{
		name("here00", 7, time.Minute):    false,
		name("here00", 8, time.Minute):    true,
		name("here00", 7, 7*time.Hour):    true, // the process ID was reused
		name("there0", 8, time.Minute):    false,
		name("there0", 8, 7*time.Hour):    true,
		"rdsfx_tpl_0123456789abcdef01234": false,
		"postgres":                        false,
		"rdsfx_t_users":                   false,
		"rdsfx_t_here00_x_1_a":            false,
		"rdsfx_t_here00_8_x_a":            false,
		"my_rdsfx_t_here00_8_1_a":         false,
	} {
		assert.Equal(t, stale, fxtest.IsStale(database, "here00", alive, now), database)
	}
	assert.False(t, fxtest.IsStale(fxtest.NewDatabaseName(now), fxtest.HostTag(), func(int) bool { return true }, now))
	assert.True(t, fxtest.IsStale(fxtest.NewDatabaseName(now), fxtest.HostTag(), func(int) bool { return false }, now))
	assert.Less(t, len(fxtest.NewDatabaseName(now)), 64, "PostgreSQL limits names to 63 bytes")
}

func TestDropStaleDatabases_KeepsDatabasesInUse(t *testing.T) {
	t.Parallel()
	dead := exec.CommandContext(t.Context(), "true")
	require.NoError(t, dead.Run())
	url, err := fxtest.ServerURL(t.Context())
	require.NoError(t, err)
	admin, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(context.WithoutCancel(t.Context()))) }()
	unused := fmt.Sprintf("rdsfx_t_%s_%d_%d_unused", fxtest.HostTag(), dead.Process.Pid, time.Now().Unix())
	used := fmt.Sprintf("rdsfx_t_%s_%d_%d_used", fxtest.HostTag(), dead.Process.Pid, time.Now().Unix())
	for _, name := range []string{unused, used} {
		_, err = admin.Exec(t.Context(), "create database "+name+" template template0")
		require.NoError(t, err)
	}
	cc := admin.Config().Copy()
	cc.Database = used
	user, err := pgx.ConnectConfig(t.Context(), cc)
	require.NoError(t, err)
	mine := fxtest.DB(t)

	exists := func(name string) bool {
		var found bool
		require.NoError(t, admin.QueryRow(t.Context(), "select exists (select from pg_database where datname = $1)", name).Scan(&found))
		return found
	}
	require.NoError(t, fxtest.DropStaleDatabases(t.Context(), url))
	assert.False(t, exists(unused))
	assert.True(t, exists(used), "it has an open connection")
	assert.True(t, mine.IsHealthy())
	var one int
	require.NoError(t, mine.Pool().QueryRow(t.Context(), "select 1").Scan(&one))

	require.NoError(t, user.Close(t.Context()))
	require.Eventually(t, func() bool {
		require.NoError(t, fxtest.DropStaleDatabases(t.Context(), url))
		return !exists(used)
	}, 10*time.Second, 10*time.Millisecond)
}
