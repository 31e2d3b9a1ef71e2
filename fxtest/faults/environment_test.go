package faults_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/fxtest/internal/testrecorder"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestNewCluster_SkipsOnExistingServer(t *testing.T) {
	t.Setenv(embedded.EnvURL, "postgres://prod.example.com/orders")
	messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewCluster(tb) })
	require.Len(t, messages, 1)
	assert.Contains(t, messages[0], "unset RDSFX_POSTGRES_URL")
}

// waitForKill names the variable that enables TestHelper_WaitsForKill.
const waitForKill = "RDSFX_TEST_WAIT_FOR_KILL"

// TestHelper_WaitsForKill is the process that another test kills.
func TestHelper_WaitsForKill(t *testing.T) { //nolint:paralleltest // it never returns
	if os.Getenv(waitForKill) == "" {
		t.Skip("only for another test")
	}
	cluster := faults.NewCluster(t)
	t.Log("ready", faults.ServerDir(cluster.Primary()), faults.ServerDir(cluster.Standby()))
	select {}
}

func TestNewCluster_IsRemovedAfterKill(t *testing.T) {
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" || runtime.GOOS != "linux" {
		t.Skip("needs its own servers and Linux")
	}
	binary, err := os.Executable()
	require.NoError(t, err)
	killed := exec.CommandContext(t.Context(), binary, "-test.run=^TestHelper_WaitsForKill$", "-test.v")
	killed.Env = append(os.Environ(), waitForKill+"=1")
	stdout, err := killed.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, killed.Start())
	var dirs []string
	for lines := bufio.NewScanner(stdout); dirs == nil && lines.Scan(); {
		if _, names, ready := strings.Cut(lines.Text(), "ready "); ready {
			dirs = strings.Fields(names)
		}
	}
	require.Len(t, dirs, 2)
	for _, dir := range dirs {
		require.DirExists(t, dir)
	}
	require.NoError(t, killed.Process.Kill())
	_ = killed.Wait() // its error is the kill
	require.Eventually(t, func() bool {
		remaining := 0
		for _, dir := range dirs {
			found, err := filepath.Glob(dir + "*")
			require.NoError(t, err)
			remaining += len(found)
		}
		return remaining == 0
	}, time.Minute, 10*time.Millisecond)
}
