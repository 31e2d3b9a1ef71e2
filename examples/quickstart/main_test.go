package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
)

// build compiles the quickstart, like go run.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "quickstart")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// command returns a command that runs the binary and collects its output.
func command(t *testing.T, binary string, env ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	t.Helper()
	out = &bytes.Buffer{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, binary)
	cmd.Env = append(os.Environ(), append([]string{"DATABASE_URL="}, env...)...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// steps returns the steps of the tour in order.
func steps() []string {
	return []string{
		"rdsfx quickstart on PostgreSQL", "started", "created", "read", "upserted", "listed", "updated", "soft-deleted",
		"bulk-created", "rolled back", "committed", "pool", "statements", "health",
	}
}

func requireTour(t *testing.T, out string) {
	t.Helper()
	at := 0
	for _, step := range steps() {
		i := strings.Index(out[at:], step)
		require.GreaterOrEqual(t, i, 0, "%q is missing or out of order:\n%s", step, out)
		at += i + len(step)
	}
	assert.Contains(t, out, "updated, id still")
	assert.Contains(t, out, "2 users visible, 3 in the table")
	assert.Contains(t, out, "1000 users")
	assert.Regexp(t, `rolled back .*Ada has 100, Robert has 50`, out)
	assert.Contains(t, out, "Ada has 70, Robert has 80")
	assert.Contains(t, out, "up since")
}

func TestQuickstart_StartsServer(t *testing.T) {
	t.Parallel()
	cmd, out := command(t, build(t))
	require.NoError(t, cmd.Run(), out)
	requireTour(t, out.String())
}

func TestQuickstart_UsesDatabaseURL(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	cmd, out := command(t, build(t), "DATABASE_URL="+url)
	require.NoError(t, cmd.Run(), out)
	requireTour(t, out.String())

	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	assert.Contains(t, out.String(), "/"+conn.Config().Database)
	var schemas int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_namespace where nspname like 'rdsfx%'").Scan(&schemas))
	assert.Zero(t, schemas, "the schema is dropped")
}

func TestQuickstart_DropsSchemaOnInterrupt(t *testing.T) {
	t.Parallel()
	url := fxtest.URL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	// Block the tour at its first row: an event trigger adds a trigger to the table that waits for a lock.
	_, err = conn.Exec(t.Context(), blockInserts)
	require.NoError(t, err)

	cmd, out := command(t, build(t), "DATABASE_URL="+url)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		var waiting bool
		err := conn.QueryRow(t.Context(), `select exists (select from pg_locks where locktype = 'advisory' and not granted
			and database = (select oid from pg_database where datname = current_database()))`).Scan(&waiting) // other tests share the server
		return err == nil && waiting
	}, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), out)
	assert.Contains(t, out.String(), "stopped:")
	var schemas int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_namespace where nspname like 'rdsfx%'").Scan(&schemas))
	assert.Zero(t, schemas)
}

const blockInserts = `
create function wait_for_it() returns trigger language plpgsql as $$
begin
	perform pg_advisory_lock_shared(1);
	return null;
end $$;
create function add_wait() returns event_trigger language plpgsql as $$
begin
	create or replace trigger wait_for_it before insert on rdsfx_quickstart.users execute function wait_for_it();
end $$;
create event trigger add_wait on ddl_command_end when tag in ('CREATE TABLE') execute function add_wait();
select pg_advisory_lock(1)`

func TestQuickstart_ReportsStartErrors(t *testing.T) {
	t.Parallel()
	cmd, out := command(t, build(t), "DATABASE_URL=postgres://app:s3cret@127.0.0.1:1/app?sslmode=disable&connect_timeout=1", "DATABASE_START_TIMEOUT=1s")
	require.Error(t, cmd.Run())
	assert.Contains(t, out.String(), "cannot connect to app@127.0.0.1:1/app")
	assert.NotContains(t, out.String(), "s3cret")

	cmd, out = command(t, build(t), "DATABASE_URL=postgres://app@localhost/app", "DATABASE_TLS_MODE=on", "DATABASE_PORT=-1")
	require.Error(t, cmd.Run())
	assert.Contains(t, out.String(), "\npgfx: invalid config, 2 problems:\n")
	assert.NotContains(t, out.String(), "goroutine")
	assert.NotContains(t, out.String(), "newFxDatabase", "neither a stack nor the path of constructors")
}
