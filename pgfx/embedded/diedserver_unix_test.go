//go:build unix

package embedded_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestAServerThatHasDiedIsStartedAgainAtOnce(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Persistent(playground(t)))
	pid := server.PID()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, "its end", func() bool { return embedded.HasEnded(pid) })
	require.NoError(t, server.Start(t.Context()), "also when its keeper hasn't noticed yet")
	assert.NotEqual(t, pid, server.PID())
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}
