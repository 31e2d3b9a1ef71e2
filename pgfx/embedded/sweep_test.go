//go:build linux

package embedded_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// sweepAll sweeps until nothing is left: a child of this process that is just being started has a copy of the lock for a moment.
func sweepAll(t *testing.T, base string) {
	t.Helper()
	eventually(t, "everything is swept", func() bool {
		embedded.Sweep(base)
		return empty(base)
	})
}

func TestAServerThatOutlivedItsKeeperIsEndedByTheNextStart(t *testing.T) {
	t.Parallel()
	base := playground(t)
	left, err := embedded.LeaveOrphan(t.Context(), base, "")
	require.NoError(t, err)
	require.True(t, running(left.PID))
	require.True(t, embedded.SegmentExists(left.Segment))
	sweepAll(t, base)
	assert.False(t, running(left.PID))
	<-left.Ended
	assert.Empty(t, embedded.Strays(left.Data))
	assert.False(t, embedded.SegmentExists(left.Segment), "nothing stays in the kernel either")
	assert.True(t, empty(base))
}

func TestSweepingSparesAServerThatHasItsKeeper(t *testing.T) {
	t.Parallel()
	base, data := playground(t), playground(t)
	server := start(t, embedded.TempDir(base), embedded.Persistent(data))
	stale := filepath.Join(base, embedded.NewName())
	require.NoError(t, os.Mkdir(stale, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stale, "lock"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(stale, "note"), []byte(`{"data":"`+data+`"}`), 0o600))
	// The server's keeper sweeps the same directory when the server is ready, and may be at it.
	eventually(t, "what an earlier server of the same data left goes", func() bool {
		embedded.Sweep(base)
		_, err := os.Stat(stale)
		return errors.Is(err, os.ErrNotExist)
	})
	assert.DirExists(t, server.Dir())
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestSweepingSparesAServerThatSomebodyElseStarted(t *testing.T) {
	t.Parallel()
	data, base := filepath.Join(playground(t), "data"), playground(t)
	left, err := embedded.LeaveOrphan(t.Context(), playground(t), data)
	require.NoError(t, err)
	// As if an earlier server of ours had used the same data: the socket of this one is elsewhere.
	stale := filepath.Join(base, embedded.NewName())
	require.NoError(t, os.Mkdir(stale, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stale, "lock"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(stale, "note"), []byte(`{"data":"`+data+`"}`), 0o600))
	embedded.Sweep(base)
	assert.True(t, empty(base))
	assert.True(t, running(left.PID))
	left.Kill()
	<-left.Ended
}

func TestSweepingSparesDataThatAnotherKeeperHasClaimed(t *testing.T) {
	t.Parallel()
	data, base := filepath.Join(playground(t), "data"), playground(t)
	left, err := embedded.LeaveOrphan(t.Context(), base, data)
	require.NoError(t, err)
	free, err := embedded.LockDir(data)
	require.NoError(t, err)
	sweepAll(t, base)
	assert.True(t, running(left.PID), "it may be the other keeper's server, just being started")
	free()
	left.Kill()
	<-left.Ended
}

func TestOnlyWhatIsSurelyStaleIsSwept(t *testing.T) {
	t.Parallel()
	base, outside := playground(t), playground(t)
	old := time.Now().Add(-time.Hour)
	make1 := func(name string, age time.Time) string {
		dir := filepath.Join(base, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.Chtimes(dir, age, age))
		return dir
	}
	young, abandoned := make1(embedded.NewName(), time.Now()), make1(embedded.NewName(), old)
	foreign, others := make1("something", old), make1("rdsfx-4711-abcdefghijkl", old)
	require.NoError(t, os.WriteFile(filepath.Join(outside, "lock"), nil, 0o600))
	link, file := filepath.Join(base, embedded.NewName()), filepath.Join(base, embedded.NewName())
	require.NoError(t, os.Symlink(outside, link))
	require.NoError(t, os.WriteFile(file, nil, 0o600))

	owned := make1(embedded.NewName(), old)
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(owned, 2, 2))
	} else {
		require.NoError(t, os.Remove(owned))
	}

	embedded.Sweep(base)
	embedded.Sweep(filepath.Join(base, "nowhere"))
	assert.DirExists(t, young, "it may be one that is being made")
	assert.NoDirExists(t, abandoned, "nobody takes an hour to make it")
	assert.DirExists(t, foreign)
	assert.DirExists(t, others)
	if os.Geteuid() == 0 {
		assert.DirExists(t, owned, "a name proves nothing")
	}
	assert.FileExists(t, filepath.Join(outside, "lock"), "links aren't followed")
	assert.FileExists(t, file)
}
