package embedded_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
)

// programs makes a directory with programs that say they are PostgreSQL of a version.
func programs(t *testing.T, dir, version string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		writeProgram(t, filepath.Join(dir, name), strings.NewReader(script))
	}
	return dir
}

func TestTheTiersAreAskedInOrder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	given, installed := programs(t, filepath.Join(root, "given"), "14.1"), programs(t, filepath.Join(root, "installed"), "17.2")
	env := map[string]string{"PATH": installed, embedded.EnvBin: given, embedded.EnvURL: "postgres://app@db/app"}

	found, err := embedded.Resolve(env)
	require.NoError(t, err)
	assert.Equal(t, "postgres://app@db/app", found.URL)

	delete(env, embedded.EnvURL)
	found, err = embedded.Resolve(env)
	require.NoError(t, err)
	assert.Equal(t, given, found.BinDir)

	delete(env, embedded.EnvBin)
	found, err = embedded.Resolve(env)
	require.NoError(t, err)
	assert.Equal(t, installed, found.BinDir)
}

func TestTheNewestInstalledVersionWins(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	nine, fifteen := programs(t, filepath.Join(root, "9.6"), "9.6.24"), programs(t, filepath.Join(root, "15"), "15.18 (Debian)")
	seventeen := programs(t, filepath.Join(root, "17"), "17.2")
	beta, older := programs(t, filepath.Join(root, "19"), "19devel"), programs(t, filepath.Join(root, "17.0"), "17.0")
	for _, order := range [][]string{{nine, fifteen, seventeen, older}, {older, seventeen, fifteen, nine}} {
		found, err := embedded.Resolve(map[string]string{"PATH": strings.Join(order, string(filepath.ListSeparator))})
		require.NoError(t, err)
		assert.Equal(t, seventeen, found.BinDir)
	}
	found, err := embedded.Resolve(map[string]string{"PATH": seventeen + ":" + beta})
	require.NoError(t, err)
	assert.Equal(t, 19, found.Major)
	found, err = embedded.ResolveGlobs(filepath.Join(root, "*"))
	require.NoError(t, err)
	assert.Equal(t, beta, found.BinDir)
}

func TestABrokenInstallationIsPassedOver(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	good, broken := programs(t, filepath.Join(root, "good"), "15.1"), programs(t, filepath.Join(root, "broken"), "99.1")
	writeProgram(t, filepath.Join(broken, "postgres"), strings.NewReader("#!/bin/sh\nexit 3\n"))
	found, err := embedded.Resolve(map[string]string{"PATH": broken + ":" + good})
	require.NoError(t, err)
	assert.Equal(t, good, found.BinDir)
}

func TestLinksLeadToWhereTheProgramsAre(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	programsDir, links := programs(t, filepath.Join(root, "real"), "15.1"), filepath.Join(root, "links")
	require.NoError(t, os.Mkdir(links, 0o700))
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.Symlink(filepath.Join(programsDir, name), filepath.Join(links, name)))
	}
	found, err := embedded.Resolve(map[string]string{"PATH": links})
	require.NoError(t, err)
	assert.Equal(t, programsDir, found.BinDir)
}

func TestATierThatIsSetButUnusableIsAnError(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	good, client := programs(t, filepath.Join(root, "good"), "15.1"), programs(t, filepath.Join(root, "client"), "15.1")
	require.NoError(t, os.Remove(filepath.Join(client, "initdb")))
	strange := programs(t, filepath.Join(root, "strange"), "quince")
	failing := programs(t, filepath.Join(root, "failing"), "15.1")
	writeProgram(t, filepath.Join(failing, "postgres"), strings.NewReader("#!/bin/sh\necho no libpq >&2\nexit 127\n"))
	for _, c := range []struct{ name, value, want string }{
		{embedded.EnvURL, "postgres://app:hunter2@host:notaport/app", "is not a connection URL"},
		{embedded.EnvURL, "postgres://app:not hunter2@host/app", "is not a connection URL"},
		{embedded.EnvBin, filepath.Join(root, "nowhere"), "no such directory"},
		{embedded.EnvBin, filepath.Join(good, "postgres"), "not a directory"},
		{embedded.EnvBin, client, "no program initdb in it (is only the client installed?)"},
		{embedded.EnvBin, strange, "which is no PostgreSQL version"},
		{embedded.EnvBin, failing, "exit status 127: no libpq"},
	} {
		_, err := embedded.Resolve(map[string]string{c.name: c.value, "PATH": good})
		require.ErrorContains(t, err, "embedded: "+c.name)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "unset it to use ")
		require.NotErrorIs(t, err, embedded.ErrNotFound)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestWhenNoTierHasAServerTheErrorTellsWhatWasTriedAndWhatToInstall(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	client := programs(t, filepath.Join(root, "client"), "15.1")
	require.NoError(t, os.Remove(filepath.Join(client, "initdb")))
	_, err := embedded.ResolveGlobs(filepath.Join(root, "nowhere", "*"), client)
	require.ErrorIs(t, err, embedded.ErrNotFound)
	text := err.Error()
	for _, want := range []string{
		"embedded: no PostgreSQL server found; looked at, in this order:",
		"\n  1. a running server: RDSFX_POSTGRES_URL is not set",
		"\n  2. a directory of programs: RDSFX_POSTGRES_BIN is not set",
		"\n  3. installed programs: ",
		"\n     - " + filepath.Join(root, "nowhere", "*") + ": no such directory",
		"\n     - " + client + ": " + client + ": no program initdb in it",
		"\ninstall PostgreSQL (",
	} {
		assert.Contains(t, text, want)
	}
}

func TestPathAndPgConfigAreLookedAt(t *testing.T) {
	t.Parallel()
	_, err := embedded.Resolve(map[string]string{"PATH": "/nowhere"})
	if err == nil {
		t.Skip("a server is installed in one of the usual places")
	}
	require.ErrorContains(t, err, "PATH: no program postgres in /nowhere")
}

func TestTheAdviceFitsTheSystem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ goos, release, want string }{
		{"darwin", "", "brew install postgresql@17"},
		{"windows", "", "winget install PostgreSQL.PostgreSQL.17"},
		{"freebsd", "", "pkg install postgresql17-server"},
		{"linux", "ID=ubuntu ID_LIKE=debian", "apt-get install postgresql"},
		{"linux", `ID="rocky" ID_LIKE="rhel centos fedora"`, "dnf install postgresql-server"},
		{"linux", "ID=alpine", "apk add postgresql"},
		{"linux", "ID=manjaro ID_LIKE=arch", "pacman -S postgresql"},
		{"linux", `ID="opensuse-leap" ID_LIKE="suse opensuse"`, "zypper install postgresql-server"},
		{"linux", "ID=nixos", "nix-shell -p postgresql"},
		{"linux", "", "the package is usually called postgresql or postgresql-server"},
	} {
		assert.Equal(t, c.want, embedded.InstallCommand(c.goos, c.release))
	}
	file := filepath.Join(t.TempDir(), "os-release")
	require.NoError(t, os.WriteFile(file, []byte("NAME=x\nID=debian\nVERSION_ID=12\nID_LIKE=y\n"), 0o600))
	assert.Equal(t, "ID=debian ID_LIKE=y", embedded.OSRelease(file))
	assert.Empty(t, embedded.OSRelease(file+"x"))
}

func TestEverySystemHasItsPlaces(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	for goos, want := range map[string]string{
		"linux": "/usr/lib/postgresql/*/bin", "darwin": "/opt/homebrew/opt/postgresql*/bin",
		"windows": filepath.Join(`C:\Program Files`, `PostgreSQL\*\bin`),
	} {
		assert.Contains(t, embedded.Patterns(goos, none), want)
	}
	assert.Contains(t, embedded.Patterns("linux", none), "/usr/pgsql-*/bin")
	assert.Contains(t, embedded.Patterns("darwin", none), "/usr/local/opt/postgresql*/bin")
}

func TestTheServersProgramsSeeLittleOfTheEnvironment(t *testing.T) {
	t.Parallel()
	got := embedded.ServerEnviron([]string{
		"PATH=/bin", "PGDATA=/x", "PGPORT=1", "PGOPTIONS=-c x=y",
		"AWS_SECRET_ACCESS_KEY=s", "LC_ALL=de_DE", "TZ=Europe/Berlin", "LD_LIBRARY_PATH=/lib",
	})
	assert.ElementsMatch(t, []string{"LC_ALL=C", "LANG=C", "TZ=UTC", "PATH=/bin", "LD_LIBRARY_PATH=/lib"}, got)
}

func TestProgramsThatTheServersUserCantRunAreExplained(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the server runs as we do")
	}
	closed := playground(t)
	bin := programs(t, filepath.Join(closed, "bin"), "15.1")
	require.NoError(t, os.Chmod(closed, 0o700))
	result, err := embedded.Build(embedded.Params{Options: []embedded.Option{embedded.TempDir(playground(t))}},
		map[string]string{embedded.EnvBin: bin})
	require.NoError(t, err)
	embedded.InProcess(result.Server)
	embedded.NoCache(result.Server)
	err = result.Server.Start(t.Context())
	require.ErrorContains(t, err, "permission denied")
	require.ErrorContains(t, err, "can't enter "+closed+" (mode 0700): make it enterable, or name another user in RDSFX_POSTGRES_USER")
}
