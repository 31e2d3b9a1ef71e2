package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

func TestFind_UsesTheFirstSource(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	configured := writeBinaries(t, filepath.Join(root, "configured"), "14.1")
	installed := writeBinaries(t, filepath.Join(root, "installed"), "17.2")
	env := map[string]string{"PATH": installed, postgres.EnvBin: configured, postgres.EnvURL: "postgres://app@db/app"}

	found, err := postgres.FindInPath(env)
	require.NoError(t, err)
	assert.Equal(t, "postgres://app@db/app", found.URL)

	delete(env, postgres.EnvURL)
	found, err = postgres.FindInPath(env)
	require.NoError(t, err)
	assert.Equal(t, configured, found.Installation.BinDir)

	delete(env, postgres.EnvBin)
	found, err = postgres.FindInPath(env)
	require.NoError(t, err)
	assert.Equal(t, installed, found.Installation.BinDir)
}

func TestFind_UsesDownloadsIfNothingIsInstalled(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	installed := writeBinaries(t, filepath.Join(root, "installed"), "14.1")
	damaged := writeBinaries(t, filepath.Join(root, "damaged"), "17.6")
	downloaded := writeBinaries(t, filepath.Join(root, "downloaded"), "17.6")
	writeScript(t, filepath.Join(damaged, "postgres"), "exit 3")

	found, err := postgres.FindInPath(map[string]string{"PATH": installed}, downloaded)
	require.NoError(t, err)
	assert.Equal(t, installed, found.Installation.BinDir)

	found, err = postgres.FindInPath(map[string]string{}, damaged, downloaded)
	require.NoError(t, err)
	assert.Equal(t, downloaded, found.Installation.BinDir)

	_, err = postgres.FindInPath(map[string]string{}, damaged)
	require.ErrorIs(t, err, postgres.ErrNotFound)
}

func TestFind_PrefersTheNewestVersion(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	nine, fifteen := writeBinaries(t, filepath.Join(root, "9.6"), "9.6.24"), writeBinaries(t, filepath.Join(root, "15"), "15.18 (Debian)")
	seventeen := writeBinaries(t, filepath.Join(root, "17"), "17.2")
	beta, older := writeBinaries(t, filepath.Join(root, "19"), "19devel"), writeBinaries(t, filepath.Join(root, "17.0"), "17.0")
	for _, order := range [][]string{{nine, fifteen, seventeen, older}, {older, seventeen, fifteen, nine}} {
		found, err := postgres.FindInPath(map[string]string{"PATH": strings.Join(order, string(filepath.ListSeparator))})
		require.NoError(t, err)
		assert.Equal(t, seventeen, found.Installation.BinDir)
	}
	found, err := postgres.FindInPath(map[string]string{"PATH": seventeen + ":" + beta})
	require.NoError(t, err)
	assert.Equal(t, 19, found.Installation.Major)
	found, err = postgres.FindInGlobs(filepath.Join(root, "*"))
	require.NoError(t, err)
	assert.Equal(t, beta, found.Installation.BinDir)
}

func TestFind_SkipsABrokenInstallation(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	good, broken := writeBinaries(t, filepath.Join(root, "good"), "15.1"), writeBinaries(t, filepath.Join(root, "broken"), "99.1")
	writeScript(t, filepath.Join(broken, "postgres"), "exit 3")
	found, err := postgres.FindInPath(map[string]string{"PATH": broken + ":" + good})
	require.NoError(t, err)
	assert.Equal(t, good, found.Installation.BinDir)
}

func TestFind_ResolvesLinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	binaries, links := writeBinaries(t, filepath.Join(root, "real"), "15.1"), filepath.Join(root, "links")
	require.NoError(t, os.Mkdir(links, 0o700))
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.Symlink(filepath.Join(binaries, name), filepath.Join(links, name)))
	}
	found, err := postgres.FindInPath(map[string]string{"PATH": links})
	require.NoError(t, err)
	assert.Equal(t, binaries, found.Installation.BinDir)
}

func TestFind_RejectsUnusableVariables(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	good, client := writeBinaries(t, filepath.Join(root, "good"), "15.1"), writeBinaries(t, filepath.Join(root, "client"), "15.1")
	require.NoError(t, os.Remove(filepath.Join(client, "initdb")))
	strange := writeBinaries(t, filepath.Join(root, "strange"), "quince")
	failing := writeBinaries(t, filepath.Join(root, "failing"), "15.1")
	writeScript(t, filepath.Join(failing, "postgres"), "echo no libpq >&2\nexit 127")
	for _, c := range []struct{ name, value, want string }{
		{postgres.EnvURL, "postgres://app:hunter2@host:notaport/app", "is not a connection URL"},
		{postgres.EnvURL, "postgres://app:not hunter2@host/app", "is not a connection URL"},
		{postgres.EnvBin, filepath.Join(root, "nowhere"), "no such directory"},
		{postgres.EnvBin, filepath.Join(good, "postgres"), "not a directory"},
		{postgres.EnvBin, client, "it doesn't contain initdb (is only the client installed?)"},
		{postgres.EnvBin, strange, "which is not a PostgreSQL version"},
		{postgres.EnvBin, failing, "exit status 127: no libpq"},
	} {
		_, err := postgres.FindInPath(map[string]string{c.name: c.value, "PATH": good})
		require.ErrorContains(t, err, c.name)
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "unset it to use ")
		require.NotErrorIs(t, err, postgres.ErrNotFound)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestFind_ReportsWhereItSearched(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	client := writeBinaries(t, filepath.Join(root, "client"), "15.1")
	require.NoError(t, os.Remove(filepath.Join(client, "initdb")))
	_, err := postgres.FindInGlobs(filepath.Join(root, "nowhere", "*"), client)
	require.ErrorIs(t, err, postgres.ErrNotFound)
	for _, want := range []string{
		"no PostgreSQL server found; searched, in this order:",
		"\n  1. a running server: RDSFX_POSTGRES_URL is not set",
		"\n  2. a directory of server binaries: RDSFX_POSTGRES_BIN is not set",
		"\n  3. installed server binaries: ",
		"\n     - " + filepath.Join(root, "nowhere", "*") + ": no such directory",
		"\n     - " + client + ": " + client + ": it doesn't contain initdb",
		"\n  4. downloaded server binaries: none yet",
		"\ninstall PostgreSQL (",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = postgres.FindInPath(map[string]string{"PATH": "/nowhere"})
	require.ErrorContains(t, err, "PATH: no postgres in /nowhere")
}

func TestInstallCommand_FitsTheSystem(t *testing.T) {
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
		assert.Equal(t, c.want, postgres.InstallCommand(c.goos, c.release))
	}
}

func TestOSRelease_ReadsIDs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "os-release")
	require.NoError(t, os.WriteFile(file, []byte("NAME=x\nID=debian\nVERSION_ID=12\nID_LIKE=y\n"), 0o600))
	assert.Equal(t, "ID=debian ID_LIKE=y", postgres.OSRelease(file))
	assert.Empty(t, postgres.OSRelease(file+"x"))
}

func TestInstallPatterns_CoverEachSystem(t *testing.T) {
	t.Parallel()
	unset := func(string) string { return "" }
	for goos, want := range map[string]string{
		"linux": "/usr/lib/postgresql/*/bin", "darwin": "/opt/homebrew/opt/postgresql*/bin",
		"windows": filepath.Join(`C:\Program Files`, `PostgreSQL\*\bin`),
	} {
		assert.Contains(t, postgres.InstallPatterns(goos, unset), want)
	}
	assert.Contains(t, postgres.InstallPatterns("linux", unset), "/usr/pgsql-*/bin")
	assert.Contains(t, postgres.InstallPatterns("darwin", unset), "/usr/local/opt/postgresql*/bin")
}

func TestServerEnviron_KeepsOnlyNeededVariables(t *testing.T) {
	t.Parallel()
	got := postgres.ServerEnviron([]string{
		"PATH=/bin", "PGDATA=/x", "PGPORT=1", "PGOPTIONS=-c x=y",
		"AWS_SECRET_ACCESS_KEY=s", "LC_ALL=de_DE", "TZ=Europe/Berlin", "LD_LIBRARY_PATH=/lib",
	})
	assert.ElementsMatch(t, []string{"LC_ALL=C", "LANG=C", "TZ=UTC", "PATH=/bin", "LD_LIBRARY_PATH=/lib"}, got)
}
