//go:build linux

package keeper_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

// orphan is a server without a keeper.
type orphan struct {
	*postgres.Server

	spec    keeper.Spec
	segment int
}

// startOrphan starts a server with its directory in location. Its data is in dataDir, or in the server directory if dataDir is
// empty.
func startOrphan(t *testing.T, location, dataDir string) *orphan {
	t.Helper()
	found, err := postgres.Find(os.Getenv, postgres.Downloads{})
	require.NoError(t, err)
	s := keeper.Spec{
		Installation: found.Installation, User: serverUser(t), Port: keeper.SocketPort,
		Dir: filepath.Join(location, keeper.NewDirName()), DataDir: dataDir, CacheDirs: postgres.CacheDirs(),
	}
	if dataDir == "" {
		s.DataDir = keeper.TemporaryDataDir(s.Dir)
	}
	killKeeper, err := keeper.CreateServerDir(s)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(s.DataDir, 0o700))
	initializer := postgres.Initializer{Installation: s.Installation, User: s.User, CacheDirs: s.CacheDirs}
	require.NoError(t, initializer.CreateTemporary(t.Context(), s.DataDir))
	log, err := postgres.OpenLog(filepath.Join(newTempDir(t), "log"))
	require.NoError(t, err)
	server, err := postgres.Start(keeper.ServerConfig(s), log)
	require.NoError(t, err)
	o := &orphan{Server: server, spec: s}
	t.Cleanup(func() {
		o.Stop(postgres.StopPlan{})
		postgres.KillLeftovers(s.DataDir)
		log.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, server.AwaitReady(ctx))
	file, err := postgres.ReadPIDFile(s.DataDir)
	require.NoError(t, err)
	o.segment = file.SharedMemoryID
	require.NoError(t, killKeeper())
	return o
}

func (o *orphan) isRunning() bool { return !postgres.HasEnded(o.PID()) }

// hasSegment reports whether the server's System V shared memory segment exists.
func (o *orphan) hasSegment() bool {
	var info unix.SysvShmDesc
	_, err := unix.SysvShmCtl(o.segment, unix.IPC_STAT, &info)
	return err == nil
}

// sweepAll sweeps until location is empty: between fork and exec, a child of this process holds a copy of the lock.
func sweepAll(t *testing.T, location string) {
	t.Helper()
	eventually(t, "the sweep removes everything", func() bool {
		keeper.SweepLocation(location)
		return isEmpty(location)
	})
}

// writeStaleDir writes a server directory whose keeper is gone and whose server used dataDir.
func writeStaleDir(t *testing.T, location, dataDir string) string {
	t.Helper()
	dir := filepath.Join(location, keeper.NewDirName())
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
	text, err := json.Marshal(map[string]string{"data_dir": dataDir})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "server.json"), text, 0o600))
	return dir
}

func TestSweep_KillsAServerThatOutlivedItsKeeper(t *testing.T) {
	t.Parallel()
	location := newTempDir(t)
	server := startOrphan(t, location, "")
	require.True(t, server.isRunning())
	require.True(t, server.hasSegment())
	sweepAll(t, location)
	assert.False(t, server.isRunning())
	<-server.Done()
	assert.Empty(t, postgres.Processes(server.spec.DataDir))
	assert.False(t, server.hasSegment(), "the kernel keeps no shared memory either")
}

func TestSweep_KeepsAServerWithAnotherSocket(t *testing.T) {
	t.Parallel()
	location := newTempDir(t)
	server := startOrphan(t, newTempDir(t), filepath.Join(newTempDir(t), "data"))
	// An earlier server of this user used the same persistent data directory.
	writeStaleDir(t, location, server.spec.DataDir)
	sweepAll(t, location)
	assert.True(t, server.isRunning())
}

func TestSweep_KeepsAServerWithALockedDataDirectory(t *testing.T) {
	t.Parallel()
	location := newTempDir(t)
	server := startOrphan(t, location, filepath.Join(newTempDir(t), "data"))
	claim, err := os.Open(server.spec.DataDir)
	require.NoError(t, err)
	defer filelock.Release(claim)
	locked, err := filelock.Try(claim, true)
	require.NoError(t, err)
	require.True(t, locked)
	sweepAll(t, location)
	assert.True(t, server.isRunning(), "it may be a server that another keeper is starting")
}

func TestSweep_KeepsADirectoryWithAKeeper(t *testing.T) {
	t.Parallel()
	location := newTempDir(t)
	alive := filepath.Join(location, keeper.NewDirName())
	killKeeper, err := keeper.CreateServerDir(keeper.Spec{Dir: alive, DataDir: keeper.TemporaryDataDir(alive)})
	require.NoError(t, err)
	stale := writeStaleDir(t, location, filepath.Join(location, "missing"))
	eventually(t, "the stale directory is removed", func() bool {
		keeper.SweepLocation(location)
		_, err := os.Stat(stale)
		return errors.Is(err, os.ErrNotExist)
	})
	assert.DirExists(t, alive)
	require.NoError(t, killKeeper())
	sweepAll(t, location)
}

func TestSweep_RemovesOnlyStaleDirectories(t *testing.T) {
	t.Parallel()
	location, target := newTempDir(t), newTempDir(t)
	old := time.Now().Add(-time.Hour)
	mkdir := func(name string, modified time.Time) string {
		dir := filepath.Join(location, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.Chtimes(dir, modified, modified))
		return dir
	}
	young, abandoned := mkdir(keeper.NewDirName(), time.Now()), mkdir(keeper.NewDirName(), old)
	unrelated, otherUser := mkdir("something", old), mkdir("rdsfx-v2-4711-abcdefghijkl", old)
	otherVersion := mkdir("rdsfx-0-abcdefghijkl", old)
	require.NoError(t, os.WriteFile(filepath.Join(target, "lock"), nil, 0o600))
	link, file := filepath.Join(location, keeper.NewDirName()), filepath.Join(location, keeper.NewDirName())
	require.NoError(t, os.Symlink(target, link))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var otherOwner string
	if os.Geteuid() == 0 {
		otherOwner = mkdir(keeper.NewDirName(), old)
		require.NoError(t, os.Chown(otherOwner, 2, 2))
	}

	keeper.SweepLocation(location)
	keeper.SweepLocation(filepath.Join(location, "nowhere"))
	assert.DirExists(t, young, "it may be under construction")
	assert.NoDirExists(t, abandoned)
	assert.DirExists(t, unrelated)
	assert.DirExists(t, otherUser)
	assert.DirExists(t, otherVersion)
	if otherOwner != "" {
		assert.DirExists(t, otherOwner, "the owner counts, not the name")
	}
	assert.FileExists(t, filepath.Join(target, "lock"), "links aren't followed")
	assert.FileExists(t, file)
}
