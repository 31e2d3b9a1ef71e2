package keeper_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/keeper"
)

func TestNewLocations_PrefersSharedMemory(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"/somewhere"}, keeper.NewLocations("/somewhere", nil).Dirs())
	dirs := keeper.NewLocations("", nil).Dirs()
	if runtime.GOOS == "linux" {
		assert.Equal(t, "/dev/shm", dirs[0])
	}
	assert.Contains(t, dirs, os.TempDir())
}

// newServerDirIn returns the parent of the server directory that is selected among dirs.
func newServerDirIn(t *testing.T, memory string, free uint64, dirs ...string) (string, error) {
	t.Helper()
	locations := keeper.LocationsIn(keeper.NewLocations("", serverUser(t)), memory, free, dirs...)
	path, err := locations.NewServerDir(keeper.SocketPort)
	if err != nil {
		return "", err
	}
	return filepath.Dir(path), nil
}

func TestNewServerDir_NeedsFreeSharedMemory(t *testing.T) {
	t.Parallel()
	memory, disk := newTempDir(t), newTempDir(t)
	dir, err := newServerDirIn(t, memory, 1, memory, disk)
	require.NoError(t, err)
	assert.Equal(t, memory, dir)

	dir, err = newServerDirIn(t, memory, 1<<62, memory, disk)
	require.NoError(t, err)
	assert.Equal(t, disk, dir)

	_, err = newServerDirIn(t, memory, 1<<62, memory)
	require.ErrorContains(t, err, "no usable location for the server directory ("+memory+": only ")
	require.ErrorContains(t, err, " MB free): set TMPDIR or use the option TempDir; choose a short path that ")
}

func TestNewServerDir_SkipsUnreachableDirectories(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the server runs as the current user")
	}
	closed, open := newTempDir(t), newTempDir(t)
	inside := filepath.Join(closed, "inside")
	require.NoError(t, os.Mkdir(inside, 0o777))
	require.NoError(t, os.Chmod(closed, 0o700))
	dir, err := newServerDirIn(t, "", 0, inside, open)
	require.NoError(t, err)
	assert.Equal(t, open, dir)

	_, err = newServerDirIn(t, "", 0, inside)
	require.ErrorContains(t, err, "can't enter "+closed+" (mode 0700)")
}

func TestNewServerDir_NamesAreRandom(t *testing.T) {
	t.Parallel()
	locations := keeper.NewLocations(newTempDir(t), nil)
	first, err := locations.NewServerDir(keeper.SocketPort)
	require.NoError(t, err)
	second, err := locations.NewServerDir(keeper.SocketPort)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	assert.True(t, strings.HasPrefix(filepath.Base(first), "rdsfx-v2-"))
	assert.NoDirExists(t, first)
}

func TestFreePort_AvoidsTheEphemeralRange(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skip("the range is unknown")
	}
	var first, last int
	_, err = fmt.Sscan(string(text), &first, &last)
	require.NoError(t, err)
	port, err := keeper.FreePort()
	require.NoError(t, err)
	if first > 20_000 {
		assert.Less(t, port, first)
		assert.GreaterOrEqual(t, port, 10_000)
	}
}
