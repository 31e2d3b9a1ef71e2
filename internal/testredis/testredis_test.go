package testredis_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdsfx-go/rdsfx/internal/testredis"
)

// asParent makes the test binary start a server, print its address and wait.
const asParent = "RDSFX_TESTREDIS_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		server, err := testredis.Start(context.Background())
		_, _ = fmt.Fprintln(os.Stdout, server.Address(), err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, args ...string) *testredis.Server {
	t.Helper()
	server, err := testredis.Start(t.Context(), args...)
	if errors.Is(err, testredis.ErrNotInstalled) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	return server
}

// send returns the reply to a command.
func send(t *testing.T, network, address, command string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), network, address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, command+"\r\n")
	require.NoError(t, err)
	reply, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(reply)
}

func TestServer_KeepsAcknowledgedWritesWhenKilled(t *testing.T) {
	t.Parallel()
	server := start(t)
	assert.Equal(t, "unix", server.Network())
	require.Equal(t, "+OK", send(t, server.Network(), server.Address(), "SET key 7"))
	pid := server.PID()
	server.Kill()
	server.Kill()
	assert.Zero(t, server.PID())
	require.NoError(t, server.Freeze(), "nothing to freeze")
	_, err := new(net.Dialer).DialContext(t.Context(), server.Network(), server.Address())
	require.Error(t, err)

	require.NoError(t, server.Restart(t.Context()))
	assert.NotEqual(t, pid, server.PID())
	assert.Equal(t, ":8", send(t, server.Network(), server.Address(), "INCR key"))
}

func TestServer_FreezesAndThaws(t *testing.T) {
	t.Parallel()
	server := start(t)
	require.NoError(t, server.Freeze())
	conn, err := new(net.Dialer).DialContext(t.Context(), server.Network(), server.Address())
	require.NoError(t, err, "the kernel accepts connections")
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "PING\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, server.Thaw())
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
	reply, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "+PONG\r\n", reply)
}

func TestServer_IsRemovedWhenStopped(t *testing.T) {
	t.Parallel()
	server := start(t)
	dir := filepath.Dir(server.Address())
	require.DirExists(t, dir)
	require.NoError(t, server.Freeze(), "a frozen server stops too")
	require.NoError(t, server.Stop())
	require.NoError(t, server.Stop())
	assert.NoDirExists(t, dir)
	require.Error(t, server.Restart(t.Context()), "its directory is gone")
}

// TestServer_EndsWithAKilledParent kills the process that started the server.
func TestServer_EndsWithAKilledParent(t *testing.T) {
	t.Parallel()
	start(t) // or skip
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	stdin, err := parent.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = stdin.Close() }()
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	address, _, _ := strings.Cut(line, " ")
	require.Equal(t, "+PONG", send(t, "unix", address, "PING"), line)

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Dir(address))
		return os.IsNotExist(err)
	}, 30*time.Second, time.Millisecond)
	_, err = new(net.Dialer).DialContext(t.Context(), "unix", address)
	require.Error(t, err)
}

func TestStart_ReportsMistakes(t *testing.T) {
	start(t) // or skip
	_, err := testredis.Start(t.Context(), "--appendfsync", "perhaps")
	require.ErrorContains(t, err, "redis-server ended at its start: ")
	require.ErrorContains(t, err, "appendfsync")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(assert.AnError)
	_, err = testredis.Start(ctx)
	require.ErrorIs(t, err, assert.AnError)
	_, err = testredis.StartCluster(ctx, 1)
	require.Error(t, err)

	t.Setenv("TMPDIR", t.TempDir()+"/missing")
	_, err = testredis.Start(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)

	t.Setenv("PATH", "")
	_, err = testredis.Start(t.Context())
	require.ErrorIs(t, err, testredis.ErrNotInstalled)
}

func TestCluster_SharesTheKeys(t *testing.T) {
	t.Parallel()
	start(t) // or skip
	cluster, err := testredis.StartCluster(t.Context(), 3)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	require.Len(t, cluster.Addresses(), 3)
	replies := make(map[string]int)
	for _, address := range cluster.Addresses() {
		reply := send(t, "tcp", address, "SET key 7")
		if strings.HasPrefix(reply, "-MOVED") {
			reply = "moved"
		}
		replies[reply]++
	}
	assert.Equal(t, map[string]int{"+OK": 1, "moved": 2}, replies)
	for _, server := range cluster.Servers {
		require.NoError(t, server.Restart(t.Context()), "a server keeps its address")
	}
}
