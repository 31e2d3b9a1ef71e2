//go:build linux

package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
)

// shared returns a shared server and releases it at the end of the test.
func shared(t *testing.T, opts ...embedded.Option) *embedded.Server {
	t.Helper()
	server, err := embedded.Shared(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop(server)) })
	return server
}

// newSharedDir is newTempDir for shared servers. At the end of the test it waits until they are gone.
func newSharedDir(t *testing.T) string {
	t.Helper()
	dir := newTempDir(t)
	t.Cleanup(func() { eventually(t, "the shared servers are gone", func() bool { return isEmpty(dir) }) })
	return dir
}

// useFor uses a server for a while and fails if it ends.
func useFor(t *testing.T, server serverInfo, duration time.Duration) {
	t.Helper()
	conn := connect(t, server.URL)
	for began := time.Now(); time.Since(began) < duration; {
		_, err := conn.Exec(t.Context(), "SELECT pg_sleep(0.05)")
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close(t.Context()))
}

// runAll starts a program several times at once.
func runAll(tb testing.TB, n int, name, dir string) []*program {
	tb.Helper()
	programs := make([]*program, n)
	for i := range programs {
		programs[i] = launch(tb, settings{}, name, dir)
	}
	for _, p := range programs {
		p.awaitReport(tb)
	}
	return programs
}

func TestShared_SixProcessesShareOneServer(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	programs := runAll(t, 6, "share", dir)
	server := programs[0].server
	for _, p := range programs {
		assert.Equal(t, server, p.server)
	}
	for _, p := range programs[1:] {
		p.kill(t)
	}
	// One lease keeps the server beyond the idle timeout.
	useFor(t, server, keeper.IdleTimeout+keeper.IdleTimeout/2)
	programs[0].kill(t)
	assertGone(t, server)
	eventually(t, "the registry is removed", func() bool { return isEmpty(dir) })
}

func TestShared_ServerWaitsForTheNextProcess(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	first, second := run(t, "share", dir), run(t, "share-on-input", dir)
	first.kill(t)
	require.NoError(t, second.in.Close())
	second.awaitReport(t)
	assert.Equal(t, first.server, second.server)
	assert.Equal(t, 1, query[int](t, second.server.URL, "SELECT 1"))
}

func TestShared_ServerOutlivesTheLastLeaseForAWhile(t *testing.T) {
	t.Parallel()
	server := shared(t, embedded.TempDir(newSharedDir(t)))
	info := infoOf(server)
	useFor(t, info, keeper.IdleTimeout+keeper.IdleTimeout/2)
	before := time.Now()
	require.NoError(t, stop(server))
	for {
		running := isRunning(info.PID)
		if time.Since(before) >= keeper.IdleTimeout {
			break
		}
		require.True(t, running)
	}
	assertGone(t, info)
}

func TestShared_ServerOutlivesItsFirstProcess(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	p := run(t, "share", dir)
	server := shared(t, embedded.TempDir(dir))
	require.NoError(t, syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM))
	require.Error(t, p.cmd.Wait())
	useFor(t, p.server, keeper.IdleTimeout+keeper.IdleTimeout/2)
	assert.Equal(t, p.server, infoOf(server))
}

func TestShared_ReplacesAServerWithAKilledKeeper(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	first := run(t, "share", dir)
	server := shared(t, embedded.TempDir(dir))
	kill(t, first.server.Keeper, syscall.SIGKILL)
	eventually(t, "the server ends", func() bool { return !isRunning(first.server.PID) })
	assert.Zero(t, server.PID())
	require.ErrorContains(t, server.Start(t.Context()),
		"embedded: this process no longer uses the shared server, or the server has ended: call Shared again")

	second := run(t, "share", dir)
	assert.Zero(t, server.PID(), "the new server isn't the one of the old lease")
	next := shared(t, embedded.TempDir(dir))
	assert.NotEqual(t, first.server.URL, next.URL())
	assert.Equal(t, second.server, infoOf(next))
	assert.Equal(t, 1, query[int](t, next.URL(), "SELECT 1"))
	assertGone(t, first.server)
}

func TestShared_NextServerSweepsTheRegistry(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	p := run(t, "share", dir)
	kill(t, p.server.Keeper, syscall.SIGKILL)
	p.kill(t)
	require.False(t, isEmpty(dir))
	// A server with other options sweeps as well.
	shared(t, embedded.TempDir(dir), embedded.Setting("work_mem", "5MB"))
	assertGone(t, p.server)
	eventually(t, "only the new entry is left", func() bool {
		files, err := filepath.Glob(filepath.Join(registryIn(t, dir), "*."+keeper.ElectionFile))
		return err == nil && len(files) == 1
	})
}

func TestShared_KilledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, delay := range []int{0, 30, 80} {
		dir := newSharedDir(t)
		first := run(t, "share-quietly", dir)
		time.Sleep(time.Duration(delay) * time.Millisecond) // varies the moment of the kill
		first.kill(t)
		second := run(t, "share", dir)
		assert.Equal(t, 1, query[int](t, second.server.URL, "SELECT 1"))
		second.kill(t)
		assertGone(t, second.server)
	}
}

func TestShared_ReturnsTheSameServerWithinAProcess(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
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
	require.NoError(t, servers[0].Start(t.Context()), "the server is running already")
	other := shared(t, embedded.TempDir(dir), embedded.Setting("max_connections", "30"))
	assert.Equal(t, "30", query[string](t, other.URL(), "SHOW max_connections"), "other options select another server")

	info := infoOf(servers[0])
	require.NoError(t, stop(servers[0]))
	require.NoError(t, stop(servers[0]), "a second stop does nothing")
	assert.Zero(t, servers[0].PID())
	assertGone(t, info)
	next := shared(t, embedded.TempDir(dir), embedded.Setting("max_connections", "20"))
	assert.NotSame(t, servers[0], next)
	assert.Equal(t, "20", query[string](t, next.URL(), "SHOW max_connections"))
}

func TestShared_NeedsNoGoroutine(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "leaks: <nil>\n", failingOutput(t, settings{env: []string{envDir + "=" + newSharedDir(t)}}, "share-leaks"))
}

func TestShared_ListensOnTCPIfRequested(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	p := run(t, "share-tcp", dir)
	server := shared(t, embedded.TempDir(dir), embedded.TCP())
	assert.Equal(t, p.server.URL, server.URL())
	assert.Equal(t, "127.0.0.1", query[string](t, server.URL(), "SELECT host(inet_server_addr())"))
}

func TestShared_FailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := newTempDir(t)
	_, err := embedded.Shared(t.Context(), embedded.TempDir(dir), embedded.Setting("shared_buffers", "lots"))
	require.ErrorContains(t, err, "embedded: shared: the server ended during startup")
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "lots"`)
	assert.True(t, isEmpty(dir))
}

func TestShared_ExpiredStartLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
	defer cancel()
	_, err := embedded.Shared(ctx, embedded.TempDir(dir))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestShared_RejectsAnAccessibleRegistry(t *testing.T) {
	t.Parallel()
	name := "rdsfx-v2-shared-" + strconv.Itoa(os.Geteuid())
	require.Equal(t, name, filepath.Base(shared(t, embedded.TempDir(newSharedDir(t))).RegistryDir()))
	for what, c := range map[string]struct {
		prepare func(path string) error
		want    string
	}{
		"accessible to other users": {func(path string) error { return os.Mkdir(path, 0o755) }, "(mode 0755): run chmod 700"},
		"a link":                    {func(path string) error { return os.Symlink(filepath.Dir(path), path) }, "is not a directory: remove it"},
		"owned by another user": {func(path string) error {
			if err := os.Mkdir(path, 0o700); err != nil {
				return err
			}
			return os.Chown(path, 2, 2)
		}, "belongs to another user: ask its owner to remove it"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := newTempDir(t)
			if err := c.prepare(filepath.Join(dir, name)); os.IsPermission(err) {
				t.Skip("only root can change the owner of a directory")
			}
			_, err := embedded.Shared(t.Context(), embedded.TempDir(dir))
			require.ErrorContains(t, err, "embedded: shared: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestShared_UsesAnExternalServer(t *testing.T) {
	t.Parallel()
	external := start(t)
	server, err := embedded.SharedWithEnv(t.Context(), map[string]string{embedded.EnvURL: external.URL()})
	require.NoError(t, err)
	again, err := embedded.SharedWithEnv(t.Context(), map[string]string{embedded.EnvURL: external.URL()})
	require.NoError(t, err)
	assert.Same(t, server, again)
	assert.Equal(t, external.URL(), server.URL())
	require.NoError(t, stop(server))
	assert.Equal(t, 1, query[int](t, external.URL(), "SELECT 1"))
}

func TestShared_WaitForOtherProcessesEndsWithContext(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{keeper.ElectionFile, keeper.KeeperFile} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			option := embedded.TempDir(newTempDir(t))
			file, err := embedded.EntryFile(kind, option)
			require.NoError(t, err)
			defer lockPath(t, file)()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = embedded.Shared(ctx, option)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "embedded: shared: ")
		})
	}
}

func TestShared_NeedsNoTempDir(t *testing.T) {
	t.Parallel()
	option := embedded.Setting("embedded.test", newTempDir(t)) // a server that no other run of this test shares
	server := shared(t, option)
	file, err := embedded.EntryFile(keeper.LeaseFile, option)
	require.NoError(t, err)
	assert.FileExists(t, file)
	assert.Equal(t, server.RegistryDir(), filepath.Dir(file))
	info := infoOf(server)
	require.NoError(t, stop(server))
	assertGone(t, info)
	eventually(t, "the entry is removed", func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })
}

func TestShared_ServerEndsIfTheRegistryWasRemoved(t *testing.T) {
	t.Parallel()
	dir := newSharedDir(t)
	p := run(t, "share", dir)
	require.NoError(t, os.RemoveAll(registryIn(t, dir)))
	p.kill(t)
	assertGone(t, p.server)
}

// registryIn returns the registry in dir.
func registryIn(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "rdsfx-v2-shared-*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// BenchmarkShared_SixProcesses reports the time until six processes have the server, which the first one starts, and the time
// from their kill until nothing is left.
func BenchmarkShared_SixProcesses(b *testing.B) {
	var ready, gone time.Duration
	for b.Loop() {
		dir := newTempDir(b)
		began := time.Now()
		programs := runAll(b, 6, "share", dir)
		ready += time.Since(began)
		for _, p := range programs {
			require.NoError(b, p.cmd.Process.Kill())
		}
		began = time.Now()
		eventually(b, "the server is gone", func() bool { return isEmpty(dir) && !isRunning(programs[0].server.Keeper) })
		gone += time.Since(began)
	}
	b.ReportMetric(float64(ready.Milliseconds())/float64(b.N), "ready-ms/op")
	b.ReportMetric(float64(gone.Milliseconds())/float64(b.N), "gone-ms/op")
}

func BenchmarkShared_Repeated(b *testing.B) {
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
