//go:build linux

package embedded_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// ordinary returns a user who isn't root, and a copy of this test binary that they can run.
func ordinary(t *testing.T) (credential *syscall.Credential, program string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else; as an ordinary user, every other test is this one")
	}
	found, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, copyOfThisBinary(t)
}

func copyOfThisBinary(t *testing.T) string {
	t.Helper()
	program := filepath.Join(playground(t), "program")
	source, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer func() { require.NoError(t, source.Close()) }()
	writeProgram(t, program, source)
	return program
}

// ownerOf returns the user that a process runs as.
func ownerOf(t *testing.T, pid int) int {
	t.Helper()
	info, err := os.Stat(procPath(pid))
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return int(stat.Uid)
}

func TestAnOrdinaryUserRunsAServerAsThemselves(t *testing.T) {
	t.Parallel()
	credential, program := ordinary(t)
	for name, env := range map[string][]string{
		"with a home":    {"HOME=" + playground(t)},
		"without a home": {"HOME=", "XDG_CACHE_HOME=", "TMPDIR=" + playground(t)},
		"with a user for root in the environment": {"HOME=" + playground(t), embedded.EnvUser + "=postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			actor := actAs(t, stage{program: program, credential: credential, env: env}, "wait", playground(t))
			assert.Equal(t, int(credential.Uid), ownerOf(t, actor.facts.PID))
			assert.Equal(t, int(credential.Uid), ownerOf(t, actor.facts.Keeper))
			assert.Equal(t, 1, query[int](t, actor.facts.URL, "SELECT 1"))
			require.NoError(t, actor.cmd.Process.Kill())
			require.Error(t, actor.cmd.Wait())
			assertGone(t, actor.facts)
		})
	}
}

func TestOrdinaryUsersShareAServerAmongThemselves(t *testing.T) {
	t.Parallel()
	credential, program := ordinary(t)
	dir := meetings(t)
	as := stage{program: program, credential: credential, env: []string{"HOME=" + playground(t)}}
	one, two := actAs(t, as, "share", dir), actAs(t, as, "share", dir)
	assert.Equal(t, one.facts, two.facts)
	server := shared(t, embedded.TempDir(dir))
	assert.NotEqual(t, one.facts.URL, server.URL(), "root has another one")
	require.NoError(t, one.cmd.Process.Kill())
	require.NoError(t, two.cmd.Process.Kill())
	assertGone(t, one.facts)
}

func TestRootRunsTheServerAsTheUserOfTheEnvironment(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root has to")
	}
	dir := playground(t)
	result, err := embedded.Build(embedded.Params{Options: []embedded.Option{embedded.TempDir(dir)}},
		map[string]string{embedded.EnvUser: "nobody", "PATH": os.Getenv("PATH")})
	require.NoError(t, err)
	require.NoError(t, result.Server.Start(t.Context()))
	defer func() { require.NoError(t, stop(result.Server)) }()
	found, err := user.Lookup("nobody")
	require.NoError(t, err)
	assert.Equal(t, found.Uid, strconv.Itoa(ownerOf(t, result.Server.PID())))
	assert.Equal(t, 1, query[int](t, result.Server.URL(), "SELECT 1"))
}

func TestOthersCantGetToTheServer(t *testing.T) {
	t.Parallel()
	credential, program := ordinary(t)
	server := start(t)
	out := runAs(t, stage{program: program, credential: credential, env: []string{roleURL + "=" + server.URL()}}, "connect")
	assert.Contains(t, out, "permission denied")
}

func TestAProgramWhoseFileWasRemovedStillStartsServers(t *testing.T) {
	t.Parallel()
	program := copyOfThisBinary(t)
	actor := actAs(t, stage{program: program}, "late", playground(t))
	require.NoError(t, os.Remove(program))
	require.NoError(t, actor.in.Close())
	actor.hear(t)
	assert.Equal(t, 1, query[int](t, actor.facts.URL, "SELECT 1"))
}

func TestAProgramThatHasTheKeepersVariableSaysSo(t *testing.T) {
	t.Parallel()
	out := runAs(t, stage{env: []string{"RDSFX_EMBEDDED_KEEPER=1", roleDir + "=" + playground(t)}}, "wait")
	assert.Contains(t, out, "embedded: this process was started as a keeper and didn't become one; unset RDSFX_EMBEDDED_KEEPER if you have set it")
}
