//go:build linux

package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// shared asks for a shared server and gives the share up at the end of the test.
func shared(t *testing.T, opts ...embedded.Option) *embedded.Server {
	t.Helper()
	server, err := embedded.Shared(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop(server)) })
	return server
}

// meetings makes a playground that is only removed when the shared servers in it are gone.
func meetings(t *testing.T) string {
	t.Helper()
	dir := playground(t)
	t.Cleanup(func() { eventually(t, "everything goes after the last share", func() bool { return empty(dir) }) })
	return dir
}

// useFor asks a server something for a while, which it has to survive.
func useFor(t *testing.T, f facts, limit time.Duration) {
	t.Helper()
	conn := connect(t, f.URL)
	for began := time.Now(); time.Since(began) < limit; {
		_, err := conn.Exec(t.Context(), "SELECT pg_sleep(0.05)")
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close(t.Context()))
}

// actAll starts a role several times at once.
func actAll(tb testing.TB, n int, role, dir string) []*actor {
	tb.Helper()
	actors := make([]*actor, n)
	for i := range actors {
		actors[i] = launch(tb, stage{}, role, dir)
	}
	for _, a := range actors {
		a.hear(tb)
	}
	return actors
}

func TestSixProcessesAtOnceShareOneServerThatEndsWithTheLast(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	programs := actAll(t, 6, "share", dir)
	first := programs[0].facts
	for _, program := range programs {
		assert.Equal(t, first, program.facts)
	}
	for _, program := range programs[1:] {
		require.NoError(t, program.cmd.Process.Kill())
		require.Error(t, program.cmd.Wait())
	}
	// One share is enough, for longer than a server without any is kept.
	useFor(t, first, embedded.Linger+embedded.Linger/2)
	require.NoError(t, programs[0].cmd.Process.Kill())
	require.Error(t, programs[0].cmd.Wait())
	assertGone(t, first)
	eventually(t, "the meeting ends", func() bool { return empty(dir) })
}

func TestASharedServerWaitsForTheNextProcess(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	one, two := act(t, "share", dir), act(t, "second", dir)
	require.NoError(t, one.cmd.Process.Kill())
	require.Error(t, one.cmd.Wait())
	require.NoError(t, two.in.Close())
	two.hear(t)
	assert.Equal(t, one.facts, two.facts)
	assert.Equal(t, 1, query[int](t, two.facts.URL, "SELECT 1"))
}

func TestASharedServerStaysForAWhileAfterTheLastShare(t *testing.T) {
	t.Parallel()
	server := shared(t, embedded.TempDir(meetings(t)))
	left := factsOf(server)
	useFor(t, left, embedded.Linger+embedded.Linger/2)
	before := time.Now()
	require.NoError(t, stop(server))
	for {
		there := running(left.PID)
		if time.Since(before) >= embedded.Linger {
			break
		}
		require.True(t, there)
	}
	assertGone(t, left)
}

func TestTheProcessThatStartedASharedServerMayGoFirst(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	one := act(t, "share", dir)
	server := shared(t, embedded.TempDir(dir))
	require.NoError(t, syscall.Kill(-one.cmd.Process.Pid, syscall.SIGTERM))
	require.Error(t, one.cmd.Wait())
	useFor(t, one.facts, embedded.Linger+embedded.Linger/2)
	assert.Equal(t, one.facts, factsOf(server))
}

func TestAKilledKeeperOfASharedServerIsReplaced(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	one := act(t, "share", dir)
	server := shared(t, embedded.TempDir(dir))
	kill(t, one.facts.Keeper, syscall.SIGKILL)
	eventually(t, "the server ends", func() bool { return !running(one.facts.PID) })
	assert.Zero(t, server.PID())
	require.ErrorContains(t, server.Start(t.Context()), "embedded: this share of the server has been given up, or the server has ended: call Shared again")

	two := act(t, "share", dir)
	assert.Zero(t, server.PID(), "another server has taken its place")
	next := shared(t, embedded.TempDir(dir))
	assert.NotEqual(t, one.facts.URL, next.URL())
	assert.Equal(t, two.facts, factsOf(next))
	assert.Equal(t, 1, query[int](t, next.URL(), "SELECT 1"))
	assertGone(t, one.facts)
}

func TestWhatAKilledKeeperLeavesIsSweptByTheNextOneInTheSamePlace(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	one := act(t, "share", dir)
	kill(t, one.facts.Keeper, syscall.SIGKILL)
	require.NoError(t, one.cmd.Process.Kill())
	require.Error(t, one.cmd.Wait())
	require.False(t, empty(dir))
	// Another server, with other options, sweeps all the same.
	shared(t, embedded.TempDir(dir), embedded.Setting("work_mem", "5MB"))
	assertGone(t, one.facts)
	eventually(t, "only the new meeting is there", func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "rdsfx-shared-*", "*.elect"))
		return err == nil && len(files) == 1
	})
}

func TestProcessesThatAreKilledWhileTheyStartASharedServerLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, delay := range []int{0, 30, 80} {
		dir := meetings(t)
		one := act(t, "sharer", dir)
		time.Sleep(time.Duration(delay) * time.Millisecond) // the moment is what is varied
		require.NoError(t, one.cmd.Process.Kill())
		require.Error(t, one.cmd.Wait())
		two := act(t, "share", dir)
		assert.Equal(t, 1, query[int](t, two.facts.URL, "SELECT 1"))
		require.NoError(t, two.cmd.Process.Kill())
		require.Error(t, two.cmd.Wait())
		assertGone(t, two.facts)
	}
}

func TestInOneProcessTheSameServerIsReturned(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	servers := make([]*embedded.Server, 8)
	var group sync.WaitGroup
	for i := range servers {
		group.Go(func() {
			server, err := embedded.Shared(t.Context(), embedded.TempDir(dir), embedded.Setting("max_connections", "20"))
			assert.NoError(t, err)
			servers[i] = server
		})
	}
	group.Wait()
	for _, server := range servers {
		assert.Same(t, servers[0], server)
	}
	assert.Equal(t, "20", query[string](t, servers[0].URL(), "SHOW max_connections"))
	require.NoError(t, servers[0].Start(t.Context()), "it runs already")
	other := shared(t, embedded.TempDir(dir), embedded.Setting("max_connections", "30"))
	assert.Equal(t, "30", query[string](t, other.URL(), "SHOW max_connections"), "other options are another server")

	left := factsOf(servers[0])
	require.NoError(t, stop(servers[0]))
	require.NoError(t, stop(servers[0]), "a share is given up once")
	assert.Zero(t, servers[0].PID())
	assertGone(t, left)
	again := shared(t, embedded.TempDir(dir), embedded.Setting("max_connections", "20"))
	assert.NotSame(t, servers[0], again)
	assert.Equal(t, "20", query[string](t, again.URL(), "SHOW max_connections"))
}

func TestASharedServerCostsItsUsersNoGoroutine(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "leaks: <nil>\n", runAs(t, stage{env: []string{roleDir + "=" + meetings(t)}}, "lean"))
}

func TestASharedServerListensOnTCPWhenAsked(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	one := act(t, "sharetcp", dir)
	server := shared(t, embedded.TempDir(dir), embedded.TCP())
	assert.Equal(t, one.facts.URL, server.URL())
	assert.Equal(t, "127.0.0.1", query[string](t, server.URL(), "SELECT host(inet_server_addr())"))
}

func TestASharedServerThatCantStartLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	_, err := embedded.Shared(t.Context(), embedded.TempDir(dir), embedded.Setting("shared_buffers", "lots"))
	require.ErrorContains(t, err, "embedded: shared: the server ended while starting")
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "lots"`)
	assert.True(t, empty(dir))
}

func TestASharedServerThatIsntWaitedForLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
	defer cancel()
	_, err := embedded.Shared(ctx, embedded.TempDir(dir))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestAMeetingPlaceThatOthersCanGetIntoIsRefused(t *testing.T) {
	t.Parallel()
	name := func(t *testing.T, dir string) string {
		t.Helper()
		server := shared(t, embedded.TempDir(dir))
		return filepath.Base(server.MeetingDir())
	}(t, meetings(t))
	for what, c := range map[string]struct {
		prepare func(path string) error
		want    string
	}{
		"open to others": {func(path string) error { return os.Mkdir(path, 0o755) }, "(mode 0755): chmod 700 it"},
		"a link":         {func(path string) error { return os.Symlink(filepath.Dir(path), path) }, "is no directory: remove it"},
		"someone else's": {func(path string) error {
			if err := os.Mkdir(path, 0o700); err != nil {
				return err
			}
			return os.Chown(path, 2, 2)
		}, "belongs to another user: have it removed"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := playground(t)
			if err := c.prepare(filepath.Join(dir, name)); os.IsPermission(err) {
				t.Skip("only root can give a directory away")
			}
			_, err := embedded.Shared(t.Context(), embedded.TempDir(dir))
			require.ErrorContains(t, err, "embedded: shared: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestASharedServerGivenByEnvironmentIsUsed(t *testing.T) {
	t.Parallel()
	given := start(t)
	server, err := embedded.ShareIn(t.Context(), map[string]string{embedded.EnvURL: given.URL()})
	require.NoError(t, err)
	again, err := embedded.ShareIn(t.Context(), map[string]string{embedded.EnvURL: given.URL()})
	require.NoError(t, err)
	assert.Same(t, server, again)
	assert.Equal(t, given.URL(), server.URL())
	require.NoError(t, stop(server))
	assert.Equal(t, 1, query[int](t, given.URL(), "SELECT 1"))
}

// Six processes come at once, the first of them starts the server; then all are killed. Reports how long it took until all had the
// server, and until nothing was left of it.
func BenchmarkSixProcesses(b *testing.B) {
	var ready, gone time.Duration
	for b.Loop() {
		dir := playground(b)
		began := time.Now()
		programs := actAll(b, 6, "share", dir)
		ready += time.Since(began)
		for _, program := range programs {
			require.NoError(b, program.cmd.Process.Kill())
		}
		began = time.Now()
		eventually(b, "everything goes", func() bool { return empty(dir) && !running(programs[0].facts.Keeper) })
		gone += time.Since(began)
	}
	b.ReportMetric(float64(ready.Milliseconds())/float64(b.N), "ready-ms/op")
	b.ReportMetric(float64(gone.Milliseconds())/float64(b.N), "gone-ms/op")
}

func BenchmarkSharedAgain(b *testing.B) {
	server, err := embedded.Shared(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if again, err := embedded.Shared(b.Context()); err != nil || again != server {
			b.Fatal(err)
		}
	}
}

func TestWaitingForAnotherProcessEndsWithTheContext(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"elect", "keeper"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			opt := embedded.TempDir(playground(t))
			file, err := embedded.MeetingFile(t.Context(), kind, opt)
			require.NoError(t, err)
			free, err := embedded.Lock(file)
			require.NoError(t, err)
			defer free()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = embedded.Shared(ctx, opt)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "embedded: shared: ")
		})
	}
}

func TestWithoutATempDirASharedServerIsFoundAllTheSame(t *testing.T) {
	t.Parallel()
	opt := embedded.Setting("embedded.test", embedded.NewName()) // a server that no other run of this test shares
	server := shared(t, opt)
	file, err := embedded.MeetingFile(t.Context(), "lease", opt)
	require.NoError(t, err)
	assert.FileExists(t, file)
	assert.Equal(t, server.MeetingDir(), filepath.Dir(file))
	left := factsOf(server)
	require.NoError(t, stop(server))
	assertGone(t, left)
	eventually(t, "the meeting ends", func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })
}

func TestAMeetingEndsEvenWhenItsPlaceIsTakenAway(t *testing.T) {
	t.Parallel()
	dir := meetings(t)
	one := act(t, "share", dir)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, filepath.Base(meetingOf(t, dir)))))
	require.NoError(t, one.cmd.Process.Kill())
	require.Error(t, one.cmd.Wait())
	assertGone(t, one.facts)
}

func meetingOf(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "rdsfx-shared-*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}
