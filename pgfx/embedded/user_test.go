//go:build linux

package embedded_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// ordinaryUser returns the settings to run a copy of this test binary as a user other than root.
func ordinaryUser(t *testing.T, env ...string) settings {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("all other tests run as an ordinary user already")
	}
	found, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	require.NoError(t, err)
	return settings{path: copyTestBinary(t), credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, env: env}
}

func copyTestBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(newTempDir(t), "program")
	source, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer func() { require.NoError(t, source.Close()) }()
	writeExecutable(t, path, source)
	return path
}

// userOf returns the user id of a process.
func userOf(t *testing.T, pid int) int {
	t.Helper()
	info, err := os.Stat(procPath(pid))
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return int(stat.Uid)
}

func TestServer_RunsAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	base := ordinaryUser(t)
	for name, env := range map[string][]string{
		"with a home directory":     {"HOME=" + newTempDir(t)},
		"without a home directory":  {"HOME=", "XDG_CACHE_HOME=", "TMPDIR=" + newTempDir(t)},
		"ignores the user variable": {"HOME=" + newTempDir(t), embedded.EnvUser + "=postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			as := base
			as.env = env
			p := runWith(t, as, "wait", newTempDir(t))
			assert.Equal(t, int(as.credential.Uid), userOf(t, p.server.PID))
			assert.Equal(t, int(as.credential.Uid), userOf(t, p.server.Keeper))
			assert.Equal(t, 1, query[int](t, p.server.URL, "SELECT 1"))
			p.kill(t)
			assertGone(t, p.server)
		})
	}
}

func TestShared_EachUserHasTheirOwnServer(t *testing.T) {
	t.Parallel()
	as := ordinaryUser(t, "HOME="+newTempDir(t))
	dir := newSharedDir(t)
	first, second := runWith(t, as, "share", dir), runWith(t, as, "share", dir)
	assert.Equal(t, first.server, second.server)
	server := shared(t, embedded.TempDir(dir))
	assert.NotEqual(t, first.server.URL, server.URL(), "root has another server")
	require.NoError(t, first.cmd.Process.Kill())
	require.NoError(t, second.cmd.Process.Kill())
	assertGone(t, first.server)
}

func TestServer_RunsAsTheUserOfTheEnvironment(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root changes the user")
	}
	server, err := embedded.NewServerWithEnv(
		map[string]string{embedded.EnvUser: "nobody", "PATH": os.Getenv("PATH")}, embedded.TempDir(newTempDir(t)))
	require.NoError(t, err)
	require.NoError(t, server.Start(t.Context()))
	defer func() { require.NoError(t, stop(server)) }()
	found, err := user.Lookup("nobody")
	require.NoError(t, err)
	assert.Equal(t, found.Uid, strconv.Itoa(userOf(t, server.PID())))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestServer_OtherUsersCantConnect(t *testing.T) {
	t.Parallel()
	as := ordinaryUser(t)
	server := start(t)
	as.env = []string{envURL + "=" + server.URL()}
	assert.Contains(t, failingOutput(t, as, "connect"), "permission denied")
}

func TestStart_ExplainsUnreachableBinaries(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the server runs as the current user")
	}
	closed := newTempDir(t)
	binDir := filepath.Join(closed, "bin")
	require.NoError(t, os.Mkdir(binDir, 0o755))
	for _, name := range []string{"postgres", "initdb"} {
		writeExecutable(t, filepath.Join(binDir, name), strings.NewReader("#!/bin/sh\necho 'postgres (PostgreSQL) 15.1'\n"))
	}
	require.NoError(t, os.Chmod(closed, 0o700))
	server, err := embedded.NewServerWithEnv(map[string]string{embedded.EnvBin: binDir}, embedded.TempDir(newTempDir(t)))
	require.NoError(t, err)
	server.UseGoroutine()
	server.DisableCache()
	err = server.Start(t.Context())
	require.ErrorContains(t, err, "permission denied")
	require.ErrorContains(t, err, "can't enter "+closed+" (mode 0700): run chmod o+x, or name another user in RDSFX_POSTGRES_USER")
}

func TestStart_WorksAfterTheExecutableWasRemoved(t *testing.T) {
	t.Parallel()
	path := copyTestBinary(t)
	p := runWith(t, settings{path: path}, "start-on-input", newTempDir(t))
	require.NoError(t, os.Remove(path))
	require.NoError(t, p.in.Close())
	p.awaitReport(t)
	assert.Equal(t, 1, query[int](t, p.server.URL, "SELECT 1"))
}

func TestStart_ReportsTheKeeperVariable(t *testing.T) {
	t.Parallel()
	out := failingOutput(t, settings{env: []string{"RDSFX_EMBEDDED_KEEPER=2", envDir + "=" + newTempDir(t)}}, "wait")
	assert.Contains(t, out, "embedded: this process was started as a keeper but didn't become one; unset RDSFX_EMBEDDED_KEEPER if you have set it")
}
