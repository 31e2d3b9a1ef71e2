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

func TestNobodyElsesServerIsHarmed(t *testing.T) {
	t.Setenv(embedded.EnvURL, "postgres://prod.example.com/orders")
	messages := testrecorder.Errors(t, func(tb testing.TB) { faults.NewCluster(tb) })
	require.Len(t, messages, 1)
	assert.Contains(t, messages[0], "unset RDSFX_POSTGRES_URL")
}

// killMe makes TestThatWaitsToBeKilledWithServers wait.
const killMe = "RDSFX_TEST_KILL_ME"

// TestThatWaitsToBeKilledWithServers is run by the test below in a process of its own.
func TestThatWaitsToBeKilledWithServers(t *testing.T) { //nolint:paralleltest // it never ends
	if os.Getenv(killMe) == "" {
		t.Skip("it waits for ever")
	}
	cluster := faults.NewCluster(t)
	t.Log("kill me", faults.HomeOf(cluster.Primary()), faults.HomeOf(cluster.Standby()))
	select {}
}

func TestTheServersOfAKilledProcessLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" || runtime.GOOS != "linux" {
		t.Skip("there are no servers of the test's own, or what holds for a killed process is another matter")
	}
	program, err := os.Executable()
	require.NoError(t, err)
	killed := exec.CommandContext(t.Context(), program, "-test.run=^TestThatWaitsToBeKilledWithServers$", "-test.v")
	killed.Env = append(os.Environ(), killMe+"=1")
	stdout, err := killed.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, killed.Start())
	var homes []string
	for lines := bufio.NewScanner(stdout); homes == nil && lines.Scan(); {
		if _, named, ready := strings.Cut(lines.Text(), "kill me "); ready {
			homes = strings.Fields(named)
		}
	}
	require.Len(t, homes, 2)
	for _, home := range homes {
		require.DirExists(t, home)
	}
	require.NoError(t, killed.Process.Kill())
	_ = killed.Wait() // it was killed
	require.Eventually(t, func() bool {
		left := 0
		for _, home := range homes {
			found, err := filepath.Glob(home + "*")
			require.NoError(t, err)
			left += len(found)
		}
		return left == 0
	}, time.Minute, 10*time.Millisecond, "the keepers of its servers clear away")
}
