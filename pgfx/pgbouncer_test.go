package pgfx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx"
)

// pgBouncer runs PgBouncer with transaction pooling and serverConns connections to the shared server. It returns the Config of a
// new database behind PgBouncer, and of the same database without it.
func pgBouncer(t *testing.T, serverConns int) (pooled, direct pgfx.Config) {
	t.Helper()
	database := newDatabase(t)
	direct = serverConfig()
	direct.Database = database
	return pgBouncerTo(t, server.URL(), database, serverConns), direct
}

// pgBouncerTo runs PgBouncer in front of the server at address, which may refuse connections, and returns the Config of a
// database behind it.
func pgBouncerTo(t *testing.T, address, database string, serverConns int) (pooled pgfx.Config) {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		if binary = "/usr/sbin/pgbouncer"; !exists(binary) {
			t.Skip("PgBouncer is not installed: apt-get install pgbouncer")
		}
	}
	to, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "rdsfx-pgbouncer-") //nolint:usetesting // t.TempDir is too long for a socket path
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777)) // PgBouncer refuses to run as root and changes its user
	config := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s password=%s

[pgbouncer]
pool_mode = transaction
default_pool_size = %d
auth_type = any
listen_addr =
unix_socket_dir = %s
listen_port = 6432
server_login_retry = 1
query_wait_timeout = 20
`, to.Host, to.Port, to.User, to.Password, serverConns, dir)
	file := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	args := []string{file}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	var output bytes.Buffer
	process := exec.CommandContext(context.WithoutCancel(t.Context()), binary, args...)
	process.Stdout, process.Stderr = &output, &output
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		require.NoError(t, process.Process.Signal(os.Interrupt))
		_ = process.Wait() // the error only reports the signal
		if t.Failed() {
			t.Log(output.String())
		}
	})
	pooled = pgfx.Config{
		URL: "postgres:///" + database + "?port=6432&user=" + url.QueryEscape(to.User) + "&host=" + dir, Pooler: pgfx.PoolerTransaction,
	}
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), pooled.URL)
		if err != nil {
			_, replied := errors.AsType[*pgconn.PgError](err)
			return replied
		}
		return conn.Close(t.Context()) == nil
	}, eventually, 10*time.Millisecond, "PgBouncer accepts connections")
	return pooled
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
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
