package embedded_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

func TestTheMemoryFileSystemIsUsedWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	memory, disk := playground(t), playground(t)
	place, err := embedded.PickRoom(memory, 1, memory, disk)
	require.NoError(t, err)
	assert.Equal(t, memory, place)
	place, err = embedded.PickRoom(memory, 1<<62, memory, disk)
	require.NoError(t, err)
	assert.Equal(t, disk, place)
	_, err = embedded.PickRoom(memory, 1<<62, memory)
	require.ErrorContains(t, err, "embedded: no place for the server's directory ("+memory+": only ")
	require.ErrorContains(t, err, " MB free): set TMPDIR, or use the option TempDir, to a short path that ")
}

func TestOnLinuxTheMemoryFileSystemComesFirst(t *testing.T) {
	t.Parallel()
	candidates := embedded.RoomCandidates("")
	assert.Equal(t, []string{"/somewhere"}, embedded.RoomCandidates("/somewhere"))
	if runtime.GOOS == "linux" {
		assert.Equal(t, "/dev/shm", candidates[0])
	}
	assert.Contains(t, candidates, os.TempDir())
}

func TestAPlaceThatTheServersUserCantReachIsPassedOver(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the server runs as we do")
	}
	closed, open := playground(t), playground(t)
	inside := filepath.Join(closed, "inside")
	require.NoError(t, os.Mkdir(inside, 0o777))
	require.NoError(t, os.Chmod(closed, 0o700))
	place, err := embedded.PickRoom("", 0, inside, open)
	require.NoError(t, err)
	assert.Equal(t, open, place)
	_, err = embedded.PickRoom("", 0, inside)
	require.ErrorContains(t, err, "can't enter "+closed+" (mode 0700)")
}

func TestTheServersUserNeedsNoRightToWriteInTheTempDirectory(t *testing.T) {
	t.Parallel()
	dir := playground(t)
	require.NoError(t, os.Chmod(dir, 0o711))
	server := start(t, embedded.TempDir(dir))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
}

func TestNamesOfDirectoriesDiffer(t *testing.T) {
	t.Parallel()
	one, err := embedded.New(embedded.Params{})
	require.NoError(t, err)
	two, err := embedded.New(embedded.Params{})
	require.NoError(t, err)
	assert.NotEqual(t, one.Server.Dir(), two.Server.Dir())
	assert.True(t, strings.HasPrefix(filepath.Base(one.Server.Dir()), "rdsfx-"))
}

func TestRootGivesTheServerToAnotherUser(t *testing.T) {
	t.Parallel()
	user, err := embedded.ServerUser(1000, "anybody")
	require.NoError(t, err)
	assert.Empty(t, user, "only root has to")

	user, err = embedded.ServerUser(0, "nobody")
	require.NoError(t, err)
	assert.Equal(t, "nobody", user)

	user, err = embedded.ServerUser(0, "")
	require.NoError(t, err)
	assert.Contains(t, []string{"postgres", "nobody"}, user)

	_, err = embedded.ServerUser(0, "no-such-user")
	require.ErrorContains(t, err, "embedded: RDSFX_POSTGRES_USER=no-such-user: ")
	require.ErrorContains(t, err, "name a user of this system other than root")
	_, err = embedded.ServerUser(0, "root")
	require.ErrorContains(t, err, "user root is root, as whom PostgreSQL refuses to run")
	_, err = embedded.ServerUserAmong(0, "no-such-user")
	require.ErrorContains(t, err, "name an ordinary user in RDSFX_POSTGRES_USER")
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		opts []embedded.Option
	}{
		{"setting \"work mem\": not the name of a server setting", []embedded.Option{embedded.Setting("work mem", "1")}},
		{"setting \"\": not the name", []embedded.Option{embedded.Setting("", "1")}},
		{"setting port is decided by this package: use TCP, which picks a free port", []embedded.Option{embedded.Setting("PORT", "1")}},
		{"setting listen_addresses is decided by this package: use TCP", []embedded.Option{embedded.Setting("listen_addresses", "*")}},
		{"setting work_mem: the value holds a zero byte", []embedded.Option{embedded.Setting("work_mem", "1\x00")}},
		{`setting work_mem is given twice, as "1" and as "2"`, []embedded.Option{embedded.Setting("work_mem", "1"), embedded.Setting("Work_Mem", "2")}},
		{"persistent: the directory is empty", []embedded.Option{embedded.Persistent("")}},
		{"persistent is given twice, as /a and as /b", []embedded.Option{embedded.Persistent("/a"), embedded.Persistent("/b")}},
		{"temp dir is given twice, as /a and as /b", []embedded.Option{embedded.TempDir("/a"), embedded.TempDir("/b")}},
		{`remove when orphaned: "" is not to be removed`, []embedded.Option{embedded.RemoveWhenOrphaned("")}},
		{`remove when orphaned: "/" is not to be removed`, []embedded.Option{embedded.RemoveWhenOrphaned("/a", "/")}},
		{"temp dir: the directory is empty", []embedded.Option{embedded.TempDir("")}},
		{"logger is nil", []embedded.Option{embedded.Logger(nil)}},
		{"logger is nil\nembedded: ", []embedded.Option{embedded.Logger(nil), embedded.Setting("port", "1")}},
	} {
		_, err := embedded.Start(t.Context(), c.opts...)
		require.ErrorContains(t, err, "embedded: ")
		require.ErrorContains(t, err, strings.TrimSuffix(c.want, "\nembedded: "))
		_, err = embedded.Shared(t.Context(), c.opts...)
		require.ErrorContains(t, err, "embedded: ")
		assert.Equal(t, 1, strings.Count(err.Error(), "embedded: "))
	}
	twice := []embedded.Option{
		embedded.Setting("work_mem", "5MB"), embedded.Setting("work_mem", "5MB"),
		embedded.Persistent("x"), embedded.Persistent("x"), nil,
	}
	_, err := embedded.New(embedded.Params{Options: twice})
	require.NoError(t, err, "saying the same twice is no contradiction")
}
