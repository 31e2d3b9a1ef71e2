package faults_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/internal/sqlstate"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func code(err error) string { return sqlstate.Code(err) }

func TestAKilledServerKeepsItsRowsAndItsAddress(t *testing.T) { //nolint:tparallel // the steps of one scenario run in their order
	t.Parallel()
	server := faults.NewServer(t)
	address := server.URL()
	conn := connect(t, address)
	execute(t, conn, "create table entries (n int)")
	const rows = 50
	for range rows {
		execute(t, conn, "insert into entries values (1)")
	}
	server.Kill()
	require.Error(t, pingWithin(t, conn, patience))
	_, err := dial(t, address)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	server.Kill() // down already
	server.Freeze()
	server.Thaw()

	server.Restart()
	assert.Equal(t, address, server.URL())
	conn = connect(t, address)
	assert.Equal(t, rows, query[int](t, conn, "select count(*) from entries"))

	t.Run("what was set survives a restart", func(t *testing.T) {
		server.RotatePassword()
		server.ReadOnly(true)
		server.Restart()
		conn := connect(t, server.URL())
		_, err := conn.Exec(t.Context(), "insert into entries values (1)")
		assert.Equal(t, "25006", code(err))
		_, err = dial(t, address)
		assert.Equal(t, "28P01", code(err), "the first password is not valid again")
	})
	t.Run("a server that was stopped is down", func(t *testing.T) {
		conn := connect(t, server.URL())
		server.Stop()
		assert.Equal(t, "57P01", code(pingWithin(t, conn, patience)))
		_, err := dial(t, server.URL())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}

func TestAFrozenServerAcceptsAndDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := faults.NewServer(t)
	asked, silent := connect(t, server.URL()), connect(t, server.URL())
	server.Freeze()
	server.Freeze() // frozen already
	require.ErrorIs(t, pingWithin(t, silent, impatience), context.DeadlineExceeded)
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	_, err := pgx.Connect(ctx, server.URL())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, syscall.ECONNREFUSED)

	answer := make(chan error, 1)
	go func() { answer <- pingWithin(t, asked, patience) }()
	server.Thaw()
	require.NoError(t, <-answer)
	execute(t, connect(t, server.URL()), "select 1")

	server.Freeze()
	server.Kill()
	server.Restart()
	execute(t, connect(t, server.URL()), "select 1")
	server.Freeze() // and the end of the test has to cope with it
}

func TestWhatAnAdministratorDoesToSessions(t *testing.T) { //nolint:tparallel // the steps of one scenario run in their order
	t.Parallel()
	server := faults.NewServer(t, embedded.Setting("max_connections", "10"), embedded.Setting("superuser_reserved_connections", "3"))

	t.Run("backends are terminated", func(t *testing.T) {
		first, second := connect(t, server.URL()), connect(t, server.URL())
		assert.Equal(t, 2, server.TerminateBackends())
		assert.Equal(t, "57P01", code(pingWithin(t, first, patience)))
		assert.Equal(t, "57P01", code(pingWithin(t, second, patience)))
		assert.Zero(t, server.TerminateBackends())
	})
	t.Run("connections are used up and given back", func(t *testing.T) {
		conn := connect(t, server.URL())
		release := server.FillConnections()
		_, err := dial(t, server.URL())
		assert.Equal(t, "53300", code(err))
		execute(t, conn, "select 1")
		release()
		release()
		const ours = "select count(*) from pg_stat_activity where application_name = 'fxtest'"
		assert.Zero(t, query[int](t, conn, ours), "they have gone")
		for range 9 {
			connect(t, server.URL())
		}
	})
	t.Run("a writer becomes a reader and its sessions live on", func(t *testing.T) {
		conn := connect(t, server.URL())
		execute(t, conn, "create table entries (n int)")
		server.ReadOnly(true)
		_, err := conn.Exec(t.Context(), "insert into entries values (1)")
		assert.Equal(t, "25006", code(err), "the session was there before")
		_, err = connect(t, server.URL()).Exec(t.Context(), "insert into entries values (1)")
		assert.Equal(t, "25006", code(err))
		assert.Zero(t, query[int](t, conn, "select count(*) from entries"), "reads go on")
		server.ReadOnly(false)
		execute(t, conn, "insert into entries values (1)")
		execute(t, connect(t, server.URL()), "insert into entries values (1)")
	})
	t.Run("the password is rotated and sessions live on", func(t *testing.T) {
		old := server.URL()
		conn := connect(t, old)
		password := server.RotatePassword()
		_, err := dial(t, old)
		assert.Equal(t, "28P01", code(err))
		execute(t, conn, "select 1")
		u, err := url.Parse(server.URL())
		require.NoError(t, err)
		now, _ := u.User.Password()
		assert.Equal(t, password, now)
		assert.NotContains(t, server.String(), password)
		execute(t, connect(t, server.URL()), "select 1")
	})
}

func TestAServerThatIsDownSaysSo(t *testing.T) {
	t.Parallel()
	messages := testrecorder.Errors(t, func(tb testing.TB) {
		server := faults.NewServer(tb)
		server.Stop()
		for _, fault := range []func(){func() { server.TerminateBackends() }, func() { server.FillConnections() }} {
			var ended sync.WaitGroup
			ended.Go(fault) // Fatal ends its goroutine
			ended.Wait()
		}
	})
	require.Len(t, messages, 2)
	for _, message := range messages {
		assert.Contains(t, message, "the server is down: Restart it first")
	}
}

func TestTLSOfEveryKind(t *testing.T) { //nolint:tparallel // the steps of one scenario run in their order
	t.Parallel()
	server := faults.NewServer(t)
	before := connect(t, server.URL())

	address := server.TLS(faults.CertificateValid)
	conn := connect(t, address)
	assert.True(t, query[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
	execute(t, connect(t, server.URL()), "select 1") // without TLS

	var (
		name    x509.HostnameError
		expired x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
	)
	for _, kind := range []struct {
		certificate faults.Certificate
		want        any
	}{{faults.CertificateWrongName, &name}, {faults.CertificateExpired, &expired}, {faults.CertificateUnknownCA, &unknown}} {
		address = server.TLS(kind.certificate)
		_, err := dial(t, address)
		require.ErrorAs(t, err, kind.want)
	}
	assert.Equal(t, x509.Expired, expired.Reason)
	execute(t, connect(t, server.TLS(faults.CertificateValid)), "select 1")
	execute(t, conn, "select 1")
	execute(t, before, "select 1")

	t.Run("through a proxy", func(t *testing.T) {
		proxy := faults.NewProxy(t, server.TLS(faults.CertificateValid))
		conn := connect(t, proxy.URL())
		assert.True(t, query[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
		assert.Len(t, query[string](t, conn, "select repeat('x', 1 << 20)"), 1<<20)
	})
	t.Run("a proxy says that it can't see through it", func(t *testing.T) {
		address := server.TLS(faults.CertificateValid)
		assert.Contains(t, testrecorder.Errors(t, func(tb testing.TB) {
			proxy := faults.NewProxy(tb, address)
			connect(t, proxy.URL())
			proxy.DropCommitAck()
		}), "faults: proxy: a connection is encrypted, so that its COMMIT can't be seen: connect with sslmode=disable")
		assert.Contains(t, testrecorder.Errors(t, func(tb testing.TB) {
			proxy := faults.NewProxy(tb, address)
			proxy.DropCommitAck()
			connect(t, proxy.URL())
		}), "faults: proxy: a connection is encrypted, so that the fault can't be timed: connect with sslmode=disable")
	})
}

func TestAServerThatCannotBeMadeSaysWhy(t *testing.T) {
	t.Parallel()
	messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewServer(tb, embedded.Setting("no_such_setting", "1")) })
	require.Len(t, messages, 1)
	assert.Contains(t, messages[0], "faults: a server of the test's own: ")
	assert.Contains(t, messages[0], "no_such_setting")
}

func TestHomesOfTheDeadAreSwept(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	alive, dead := filepath.Join(base, "home-1"), filepath.Join(base, "home-2")
	lock, err := faults.MakeHome(alive)
	require.NoError(t, err)
	left, err := faults.MakeHome(dead)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dead, "data"), nil, 0o600))
	require.NoError(t, left.Close()) // as the end of the process does

	_, err = faults.MakeHome(alive)
	require.ErrorIs(t, err, os.ErrExist)
	// A child of this process that is just being started has a copy of the lock for a moment.
	swept := func(home string) func() bool {
		return func() bool {
			faults.SweepHomes(filepath.Join(base, "home-*.lock"))
			_, err := os.Stat(home)
			return errors.Is(err, os.ErrNotExist)
		}
	}
	require.Eventually(t, swept(dead), patience, time.Millisecond)
	assert.DirExists(t, alive)
	assert.NoFileExists(t, dead+".lock")
	require.NoError(t, lock.Close())
	require.Eventually(t, swept(alive), patience, time.Millisecond)
}
