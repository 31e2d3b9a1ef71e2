package fxtest_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/fxtest"
	"github.com/rdsfx-go/rdsfx/fxtest/faults"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// another runs tests of this package in another process with the environment, and returns its output and whether they pass.
func another(t *testing.T, run string, env ...string) (output string, passed bool) {
	t.Helper()
	out, err := child(t, run, env...).CombinedOutput()
	return string(out), err == nil
}

func child(t *testing.T, run string, env ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, "-test.run="+run, "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func TestTheSameTestsRunOnAServerGivenByEnvironment(t *testing.T) {
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" {
		t.Skip("they do")
	}
	server := faults.NewServer(t)
	given := embedded.EnvURL + "=" + server.URL()
	out, passed := another(t, "^(TestEveryTestHasADatabaseOfItsOwn|TestMigrationsRunInTheOrderOfTheirNamesAndOnce|TestAnEmailIsTakenOnce)$", given)
	require.True(t, passed, out)
	assert.Equal(t, 3, strings.Count(out, "--- PASS: "), out)

	admin, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(context.WithoutCancel(t.Context()))) }()
	databases := func() int {
		var n int
		require.NoError(t, admin.QueryRow(t.Context(), `select count(*) from pg_database where datname like 'rdsfx\_t\_%'`).Scan(&n))
		return n
	}
	assert.Zero(t, databases(), "every test has dropped its own")

	killed := child(t, "^TestThatWaitsToBeKilled$", given, killMe+"=1")
	stdout, err := killed.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, killed.Start())
	ready := false
	for lines := bufio.NewScanner(stdout); !ready && lines.Scan(); {
		ready = strings.Contains(lines.Text(), "kill me")
	}
	require.True(t, ready)
	assert.Equal(t, 1, databases())
	require.NoError(t, killed.Process.Kill())
	_ = killed.Wait()                   // it was killed
	require.Eventually(t, func() bool { // its backend takes a moment to go
		out, passed := another(t, "^TestAnEmailIsTakenOnce$", given)
		require.True(t, passed, out)
		return databases() == 0
	}, time.Minute, 10*time.Millisecond, "the janitor of a later process drops what it left")

	_, err = admin.Exec(t.Context(), "create role poor login password 'poor'")
	require.NoError(t, err)
	cc := admin.Config()
	out, passed = another(t, "^TestAnEmailIsTakenOnce$", embedded.EnvURL+"=postgres://poor:poor@"+cc.Host+":"+portOf(server.URL())+"/postgres")
	assert.False(t, passed)
	assert.Contains(t, out, "give the role the attribute CREATEDB")
}

// portOf returns the port of a URL.
func portOf(url string) string {
	_, rest, _ := strings.Cut(url[strings.LastIndex(url, "@"):], ":")
	port, _, _ := strings.Cut(rest, "/")
	return port
}

// killMe makes TestThatWaitsToBeKilled wait.
const killMe = "RDSFX_TEST_KILL_ME"

func TestThatWaitsToBeKilled(t *testing.T) {
	t.Parallel()
	if os.Getenv(killMe) == "" {
		t.Skip("it plays the victim of another test")
	}
	fxtest.DB(t)
	t.Log("kill me")
	<-t.Context().Done()
}

func TestWithoutAServerTheTestSaysWhatToInstall(t *testing.T) {
	t.Parallel()
	out, passed := another(t, "^TestAnEmailIsTakenOnce$", embedded.EnvURL+"=", embedded.EnvBin+"=/no/such/directory")
	assert.False(t, passed)
	assert.Contains(t, out, "fxtest: no server for the test")
	assert.Contains(t, out, "/no/such/directory")
}

func TestTheRebuildSwitchBuildsATemplateAnewOnce(t *testing.T) {
	t.Setenv(fxtest.EnvRebuild, "")
	var runs atomic.Int32
	opt := fxtest.Migrate("rebuilt "+time.Now().String(), func(context.Context, *pgx.Conn) error {
		runs.Add(1)
		return nil
	})
	fxtest.URL(t, opt)
	assert.EqualValues(t, 1, runs.Load())
	t.Setenv(fxtest.EnvRebuild, "1")
	fxtest.URL(t, opt)
	fxtest.URL(t, opt)
	assert.EqualValues(t, 2, runs.Load(), "once in a process")
}
