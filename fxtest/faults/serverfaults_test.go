package faults_test

import (
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestServer_AffectsSessions(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	server := faults.NewServer(t, embedded.Setting("max_connections", "10"), embedded.Setting("superuser_reserved_connections", "3"))

	t.Run("backends are terminated", func(t *testing.T) {
		server.TerminateBackends() // sessions from the start of the server may still be open
		first, second := connect(t, server.URL()), connect(t, server.URL())
		assert.Equal(t, 2, server.TerminateBackends())
		assert.Equal(t, "57P01", code(ping(t, first, timeout)))
		assert.Equal(t, "57P01", code(ping(t, second, timeout)))
		assert.Zero(t, server.TerminateBackends())
	})
	t.Run("connections are filled and released", func(t *testing.T) {
		conn := connect(t, server.URL())
		release := server.FillConnections()
		_, err := tryConnect(t, server.URL())
		assert.Equal(t, "53300", code(err))
		execute(t, conn, "select 1")
		release()
		release()
		const filled = "select count(*) from pg_stat_activity where application_name = 'fxtest'"
		assert.Zero(t, query[int](t, conn, filled), "the sessions have ended")
		for range 9 {
			connect(t, server.URL())
		}
	})
	t.Run("read-only mode keeps sessions", func(t *testing.T) {
		conn := connect(t, server.URL())
		execute(t, conn, "create table entries (n int)")
		server.ReadOnly(true)
		_, err := conn.Exec(t.Context(), "insert into entries values (1)")
		assert.Equal(t, "25006", code(err), "an existing session")
		_, err = connect(t, server.URL()).Exec(t.Context(), "insert into entries values (1)")
		assert.Equal(t, "25006", code(err))
		assert.Zero(t, countEntries(t, conn), "reads still work")
		server.ReadOnly(false)
		execute(t, conn, "insert into entries values (1)")
		execute(t, connect(t, server.URL()), "insert into entries values (1)")
	})
	t.Run("password rotation keeps sessions", func(t *testing.T) {
		old := server.URL()
		conn := connect(t, old)
		password := server.RotatePassword()
		_, err := tryConnect(t, old)
		assert.Equal(t, "28P01", code(err))
		execute(t, conn, "select 1")
		u, err := url.Parse(server.URL())
		require.NoError(t, err)
		current, _ := u.User.Password()
		assert.Equal(t, password, current)
		assert.NotContains(t, server.String(), password)
		execute(t, connect(t, server.URL()), "select 1")
	})
}

func TestServer_ReportsThatItIsDown(t *testing.T) {
	t.Parallel()
	messages := testrecorder.Errors(t, func(tb testing.TB) {
		server := faults.NewServer(tb)
		server.Stop()
		for _, fault := range []func(){func() { server.TerminateBackends() }, func() { server.FillConnections() }} {
			var ended sync.WaitGroup
			ended.Go(fault) // Fatal calls runtime.Goexit
			ended.Wait()
		}
	})
	require.Len(t, messages, 2)
	for _, message := range messages {
		assert.Contains(t, message, "the server is down: call Restart first")
	}
}
