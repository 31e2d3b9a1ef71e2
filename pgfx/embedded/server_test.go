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
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestAThrowAwayServerIsFastAndLosesNothingThatWasAcknowledged(t *testing.T) {
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
	var super bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user").
		Scan(&role, &database, &super))
	assert.Equal(t, "postgres", role)
	assert.Equal(t, "postgres", database)
	assert.True(t, super)
}

func TestTheSocketIsPrivate(t *testing.T) {
	t.Parallel()
	server := start(t)
	address, err := url.Parse(server.URL())
	require.NoError(t, err)
	info, err := os.Stat(address.Query().Get("host"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(server.DataDir())
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestSettingsReachTheServer(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Setting("Max_Connections", "7"), embedded.Setting("fsync", "on"),
		embedded.Setting("app.who", "it's \"me\", really"))
	assert.Equal(t, "7", query[string](t, server.URL(), "SHOW max_connections"))
	assert.Equal(t, "on", query[string](t, server.URL(), "SHOW fsync"), "a setting wins over the defaults")
	assert.Equal(t, "it's \"me\", really", query[string](t, server.URL(), "SHOW app.who"))
}

func TestTCPAsksForThePassword(t *testing.T) {
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

func TestThePortIsNoneThatTheSystemGivesAway(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skip("the system doesn't tell")
	}
	var first, last uint16
	_, err = fmt.Sscan(string(text), &first, &last)
	require.NoError(t, err)
	result, err := embedded.New(embedded.Params{Options: []embedded.Option{embedded.TCP()}})
	require.NoError(t, err)
	config, err := pgx.ParseConfig(result.Server.URL())
	require.NoError(t, err)
	if first > 20_000 {
		assert.Less(t, config.Port, first)
		assert.GreaterOrEqual(t, config.Port, uint16(10_000))
	}
}

func TestAServerRunsInAPlaceWithAnAwkwardName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(playground(t), `a "b" %c&d+e`)
	require.NoError(t, os.Mkdir(dir, 0o755))
	server := start(t, embedded.TempDir(dir))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestPlacesThatCantHoldASocketAreRefused(t *testing.T) {
	t.Parallel()
	long := filepath.Join(playground(t), "a-directory-whose-name-is-much-longer-than-it-should-be-for-a-socket-of-unix-to-have-room")
	require.NoError(t, os.Mkdir(long, 0o755))
	file := filepath.Join(playground(t), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	comma := filepath.Join(playground(t), "a,b")
	require.NoError(t, os.Mkdir(comma, 0o755))
	for dir, want := range map[string]string{
		long:                        "more than the",
		file:                        "not a directory",
		comma:                       "comma",
		filepath.Join(long, "gone"): "no such file or directory",
	} {
		_, err := embedded.Start(t.Context(), embedded.TempDir(dir))
		require.ErrorContains(t, err, "embedded: no place for the server's directory ("+dir)
		require.ErrorContains(t, err, want)
	}
}

func TestManyServersRunSideBySide(t *testing.T) {
	t.Parallel()
	dir := playground(t)
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
	assert.True(t, empty(dir))
}

func TestStartAndStopAtTheSameTimeLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	result, err := embedded.New(embedded.Params{Options: []embedded.Option{embedded.TempDir(dir)}})
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { assert.NoError(t, result.Server.Start(t.Context())) })
		group.Go(func() { assert.NoError(t, stop(result.Server)) })
	}
	group.Wait()
	require.NoError(t, stop(result.Server))
	assert.True(t, empty(dir))
}

func TestStopEndsSessionsThatAreStillOpen(t *testing.T) {
	t.Parallel()
	server := start(t)
	conn := connect(t, server.URL())
	asked := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(300)")
		asked <- err
	}()
	eventually(t, "the statement runs", func() bool {
		return query[int](t, server.URL(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)' AND state = 'active' AND pid <> pg_backend_pid()") == 1
	})
	require.NoError(t, stop(server))
	var ended *pgconn.PgError
	require.ErrorAs(t, <-asked, &ended)
	assert.Equal(t, "57P01", ended.Code)
}

func TestAStopThatIsOutOfTimeLeavesTheRestToTheKeeper(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	server, err := embedded.Start(t.Context(), embedded.TempDir(dir))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = server.Stop(ctx)
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	eventually(t, "everything goes", func() bool { return empty(dir) })
	require.NoError(t, stop(server))
}

func TestTheLogIsWrittenToAFileOfTheServer(t *testing.T) {
	t.Parallel()
	server := start(t)
	_, err := connect(t, server.URL()).Exec(t.Context(), "DO $$ BEGIN RAISE LOG 'a line for the log'; END $$")
	require.NoError(t, err)
	eventually(t, "the line arrives", func() bool {
		text, err := os.ReadFile(server.LogFile())
		return err == nil && strings.Contains(string(text), "a line for the log")
	})
}

func TestAServerNeverPrintsItsPassword(t *testing.T) {
	t.Parallel()
	result, err := embedded.New(embedded.Params{Options: []embedded.Option{embedded.TCP()}})
	require.NoError(t, err)
	config, err := pgx.ParseConfig(result.Server.URL())
	require.NoError(t, err)
	require.NotEmpty(t, config.Password)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		assert.NotContains(t, fmt.Sprintf(verb, result.Server), config.Password)
		assert.NotContains(t, fmt.Sprintf(verb, result), config.Password)
	}
}

func BenchmarkStartFromTheCache(b *testing.B) {
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
