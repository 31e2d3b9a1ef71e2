package fxtest_test

import (
	"bufio"
	"context"
	"net/url"
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

// runTests runs tests of this package in another process with additional environment variables. It returns the output and
// whether the tests passed.
func runTests(t *testing.T, run string, env ...string) (output string, passed bool) {
	t.Helper()
	out, err := testCommand(t, run, env...).CombinedOutput()
	return string(out), err == nil
}

func testCommand(t *testing.T, run string, env ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, "-test.run="+run, "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func TestEnvURL_SelectsServer(t *testing.T) { //nolint:tparallel // the steps of one scenario
	t.Parallel()
	if os.Getenv(embedded.EnvURL) != "" {
		t.Skip("the variable is set for all tests")
	}
	server := faults.NewServer(t)
	env := embedded.EnvURL + "=" + server.URL()
	admin, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(context.WithoutCancel(t.Context()))) }()
	databases := func() int {
		var n int
		require.NoError(t, admin.QueryRow(t.Context(), `select count(*) from pg_database where datname like 'rdsfx\_t\_%'`).Scan(&n))
		return n
	}

	t.Run("tests pass and drop their databases", func(t *testing.T) {
		out, passed := runTests(t, "^(TestDB_IsolatesTests|TestMigrations_RunOnceInOrder|TestUsers_EmailIsUnique)$", env)
		require.True(t, passed, out)
		assert.Equal(t, 3, strings.Count(out, "--- PASS: "), out)
		assert.Zero(t, databases())
	})
	t.Run("databases of a killed process are dropped", func(t *testing.T) {
		killed := testCommand(t, "^TestHelper_WaitsForKill$", env, waitForKill+"=1")
		stdout, err := killed.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, killed.Start())
		ready := false
		for lines := bufio.NewScanner(stdout); !ready && lines.Scan(); {
			ready = strings.Contains(lines.Text(), "ready")
		}
		require.True(t, ready)
		assert.Equal(t, 1, databases())
		require.NoError(t, killed.Process.Kill())
		_ = killed.Wait()                   // its error is the kill
		require.Eventually(t, func() bool { // its backend exits shortly afterwards
			out, passed := runTests(t, "^TestUsers_EmailIsUnique$", env)
			require.True(t, passed, out)
			return databases() == 0
		}, time.Minute, 10*time.Millisecond)
	})
	t.Run("role without CREATEDB", func(t *testing.T) {
		_, err := admin.Exec(t.Context(), "create role poor login password 'poor'")
		require.NoError(t, err)
		u, err := url.Parse(server.URL())
		require.NoError(t, err)
		out, passed := runTests(t, "^TestUsers_EmailIsUnique$", embedded.EnvURL+"=postgres://poor:poor@"+u.Host+"/postgres")
		assert.False(t, passed)
		assert.Contains(t, out, "give the role the attribute CREATEDB")
	})
}

// waitForKill names the variable that enables TestHelper_WaitsForKill.
const waitForKill = "RDSFX_TEST_WAIT_FOR_KILL"

// TestHelper_WaitsForKill is the process that another test kills.
func TestHelper_WaitsForKill(t *testing.T) {
	t.Parallel()
	if os.Getenv(waitForKill) == "" {
		t.Skip("only for another test")
	}
	fxtest.DB(t)
	t.Log("ready")
	<-t.Context().Done()
}

func TestNew_ReportsMissingServer(t *testing.T) {
	t.Parallel()
	out, passed := runTests(t, "^TestUsers_EmailIsUnique$", embedded.EnvURL+"=", embedded.EnvBin+"=/no/such/directory")
	assert.False(t, passed)
	assert.Contains(t, out, "fxtest: no server for the test")
	assert.Contains(t, out, "/no/such/directory")
}

func TestEnvRebuild_RebuildsTemplateOnce(t *testing.T) {
	t.Setenv(fxtest.EnvRebuild, "")
	var runs atomic.Int32
	opt := fxtest.Migrate("rebuild "+time.Now().String(), func(context.Context, *pgx.Conn) error {
		runs.Add(1)
		return nil
	})
	fxtest.URL(t, opt)
	assert.EqualValues(t, 1, runs.Load())
	t.Setenv(fxtest.EnvRebuild, "1")
	fxtest.URL(t, opt)
	fxtest.URL(t, opt)
	assert.EqualValues(t, 2, runs.Load(), "once for each process")
}
