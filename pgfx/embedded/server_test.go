package embedded_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestServer_TemporarySettingsKeepSynchronousCommit(t *testing.T) {
	t.Parallel()
	server := start(t)
	conn := connect(t, server.URL())
	for name, want := range map[string]string{
		"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on", "timezone": "UTC", "listen_addresses": "",
		"server_encoding": "UTF8", "data_directory": server.DataDir(), "dynamic_shared_memory_type": "mmap",
	} {
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got))
		assert.Equal(t, want, got, name)
	}
	var collation string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT datcollate FROM pg_database WHERE datname = 'template1'").Scan(&collation))
	assert.Equal(t, "C", collation)
	var role, database string
	var superuser bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user").
		Scan(&role, &database, &superuser))
	assert.Equal(t, "postgres", role)
	assert.Equal(t, "postgres", database)
	assert.True(t, superuser)
}

func TestServer_DirectoriesArePrivate(t *testing.T) {
	t.Parallel()
	server := start(t)
	address, err := url.Parse(server.URL())
	require.NoError(t, err)
	for _, dir := range []string{address.Query().Get("host"), server.DataDir()} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), dir)
	}
}

func TestSetting_ReachesTheServer(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Setting("Max_Connections", "7"), embedded.Setting("fsync", "on"),
		embedded.Setting("app.who", "it's \"me\", really"))
	assert.Equal(t, "7", query[string](t, server.URL(), "SHOW max_connections"))
	assert.Equal(t, "on", query[string](t, server.URL(), "SHOW fsync"), "a setting overrides the defaults")
	assert.Equal(t, "it's \"me\", really", query[string](t, server.URL(), "SHOW app.who"))
}

func TestTCP_RequiresThePassword(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.TCP())
	assert.Equal(t, "127.0.0.1", query[string](t, server.URL(), "SELECT host(inet_server_addr())"))
	assert.Equal(t, "SCRAM-SHA-256", query[string](t, server.URL(), "SELECT split_part(rolpassword, '$', 1) FROM pg_authid WHERE rolname = 'postgres'"))
	config, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(config.Password), 20)
	config.Password = "wrong"
	_, err = pgx.ConnectConfig(t.Context(), config)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "28P01", refused.Code)
}

func TestTempDir_MayHaveSpecialCharacters(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newTempDir(t), `a "b" %c&d+e`)
	require.NoError(t, os.Mkdir(dir, 0o755))
	server := start(t, embedded.TempDir(dir))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestTempDir_NeedsNoWritePermissionForTheServerUser(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	require.NoError(t, os.Chmod(dir, 0o711))
	server := start(t, embedded.TempDir(dir))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestTempDir_RejectsUnusableDirectories(t *testing.T) {
	t.Parallel()
	long := filepath.Join(newTempDir(t), "a-directory-whose-name-is-much-longer-than-it-should-be-for-a-socket-of-unix-to-have-room")
	require.NoError(t, os.Mkdir(long, 0o755))
	file := filepath.Join(newTempDir(t), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	comma := filepath.Join(newTempDir(t), "a,b")
	require.NoError(t, os.Mkdir(comma, 0o755))
	for dir, want := range map[string]string{
		long:                        "more than the",
		file:                        "not a directory",
		comma:                       "comma",
		filepath.Join(long, "gone"): "no such file or directory",
	} {
		_, err := embedded.Start(t.Context(), embedded.TempDir(dir))
		require.ErrorContains(t, err, "embedded: no usable location for the server directory ("+dir)
		require.ErrorContains(t, err, want)
	}
}

func TestNewServer_CreatesNothing(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.NewServer(embedded.TempDir(dir))
	require.NoError(t, err)
	assert.NotEmpty(t, server.URL())
	assert.Equal(t, server.URL(), server.Endpoint().URL)
	assert.True(t, isEmpty(dir))
	require.NoError(t, server.Stop(t.Context()), "stopping a server before its start does nothing")
}

func TestServer_CanBeRestarted(t *testing.T) {
	t.Parallel()
	server, err := embedded.NewServer()
	require.NoError(t, err)
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, server.Start(t.Context()), "a second start does nothing")
	url, pid := server.URL(), server.PID()
	assert.Equal(t, 1, query[int](t, url, "SELECT 1"))
	require.NoError(t, stop(server))
	require.NoError(t, stop(server), "a second stop does nothing")
	require.NoError(t, server.Start(t.Context()))
	assert.NotEqual(t, pid, server.PID())
	assert.Equal(t, url, server.URL())
	assert.Equal(t, 1, query[int](t, url, "SELECT 1"))
	require.NoError(t, stop(server))
	assert.NoDirExists(t, server.Dir())
}

func TestServer_SeveralRunAtOnce(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
			if assert.NoError(t, err) {
				assert.NoError(t, stop(server))
			}
		})
	}
	group.Wait()
	assert.True(t, isEmpty(dir))
}

func TestServer_ConcurrentStartAndStopLeaveNothing(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.NewServer(embedded.TempDir(dir))
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { assert.NoError(t, server.Start(t.Context())) })
		group.Go(func() { assert.NoError(t, stop(server)) })
	}
	group.Wait()
	require.NoError(t, stop(server))
	assert.True(t, isEmpty(dir))
}

func TestStart_CleansUpBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.NewServer(embedded.TempDir(dir))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, server.Start(ctx), context.DeadlineExceeded)
	eventually(t, "the directory is removed", func() bool { return isEmpty(dir) })
	require.NoError(t, stop(server))
}

func TestStart_ReservesTimeForCleanup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // with a fake clock, computing takes no time
		for limit, want := range map[time.Duration]time.Duration{
			time.Hour: 6 * time.Minute, 15 * time.Second: 1500 * time.Millisecond, 2 * time.Second: 500 * time.Millisecond,
			800 * time.Millisecond: 400 * time.Millisecond,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			work, grace := embedded.StartTimes(ctx)
			cancel()
			assert.Equal(t, want, grace)
			assert.Equal(t, limit, work+grace)
		}
		work, grace := embedded.StartTimes(t.Context())
		assert.Equal(t, time.Minute, work)
		assert.Positive(t, grace)
	})
}

func TestStart_LeavesNothingWhenCanceled(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := embedded.Start(ctx, embedded.TempDir(dir))
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, isEmpty(dir))
}

func TestStop_EndsOpenSessions(t *testing.T) {
	t.Parallel()
	server := start(t)
	conn := connect(t, server.URL())
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(300)")
		result <- err
	}()
	eventually(t, "the statement runs", func() bool {
		return query[int](t, server.URL(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)' AND state = 'active' AND pid <> pg_backend_pid()") == 1
	})
	require.NoError(t, stop(server))
	var ended *pgconn.PgError
	require.ErrorAs(t, <-result, &ended)
	assert.Equal(t, "57P01", ended.Code)
}

func TestStop_ContinuesInTheKeeperAfterContextEnds(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = server.Stop(ctx)
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	eventually(t, "the directory is removed", func() bool { return isEmpty(dir) })
	require.NoError(t, stop(server))
}

func TestServer_WritesItsLogFile(t *testing.T) {
	t.Parallel()
	server := start(t)
	_, err := connect(t, server.URL()).Exec(t.Context(), "DO $$ BEGIN RAISE LOG 'a line for the log'; END $$")
	require.NoError(t, err)
	eventually(t, "the line is written", func() bool {
		text, err := os.ReadFile(server.LogFile())
		return err == nil && strings.Contains(string(text), "a line for the log")
	})
}

func TestServer_NeverPrintsItsPassword(t *testing.T) {
	t.Parallel()
	server, err := embedded.NewServer(embedded.TCP())
	require.NoError(t, err)
	config, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	require.NotEmpty(t, config.Password)
	external, err := embedded.NewServerWithEnv(map[string]string{embedded.EnvURL: "postgres://app:hunter2@db/app"})
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, printed := range []any{server, struct{ S *embedded.Server }{server}, struct{ s *embedded.Server }{server}} {
			assert.NotContains(t, fmt.Sprintf(verb, printed), config.Password, verb)
		}
		assert.NotContains(t, fmt.Sprintf(verb, external), "hunter2", verb)
	}
}

func TestServer_LogsAnUnexpectedEndOnce(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	server := start(t, embedded.Logger(zap.New(core)))
	started := logs.FilterMessage("postgres started").All()
	require.Len(t, started, 1)
	assert.Equal(t, int64(server.PID()), started[0].ContextMap()["pid"])
	assert.Equal(t, int64(server.KeeperPID()), started[0].ContextMap()["keeper_pid"])
	process, err := os.FindProcess(server.PID())
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	eventually(t, "the server's end is noticed", func() bool { return server.PID() == 0 })
	ended := logs.FilterMessage("postgres ended unexpectedly").All()
	require.Len(t, ended, 1)
	assert.Contains(t, ended[0].ContextMap()["reason"], "the server ended unexpectedly: signal: killed")
	assert.NoDirExists(t, server.Dir())
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		server, err := embedded.Start(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		if err := server.Stop(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
		b.StartTimer()
	}
}
