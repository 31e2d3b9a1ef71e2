//go:build unix

package embedded_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

func TestServer_RestartsAfterKill(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Persistent(newTempDir(t)))
	pid := server.PID()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "the server ends", func() bool { return postgres.HasEnded(pid) })
	require.NoError(t, server.Start(t.Context()), "even if the keeper hasn't noticed yet")
	assert.NotEqual(t, pid, server.PID())
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}
