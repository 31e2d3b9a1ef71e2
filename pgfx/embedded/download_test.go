//go:build linux

package embedded_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/testrepository"
)

// repository is a repository of this machine's server binaries.
type repository struct {
	*testrepository.Repository

	url string
}

// newRepository starts a repository. prefix selects the layout.
func newRepository(t *testing.T, prefix string) repository {
	t.Helper()
	installed, err := postgres.Find(os.Getenv, postgres.Downloads{})
	require.NoError(t, err)
	if installed.URL != "" {
		t.Skip("the tests use a server that is running")
	}
	entries, err := testrepository.Installed(installed.Installation.BinDir)
	require.NoError(t, err)
	r := repository{Repository: &testrepository.Repository{}}
	server := httptest.NewServer(r.Repository)
	t.Cleanup(server.Close)
	r.url = prefix + server.URL

	source, reason, err := download.New(r.url, "")
	require.NoError(t, err)
	if source == nil {
		t.Skip(reason)
	}
	archive, err := testrepository.Jar(entries)
	if prefix != "" {
		archive, err = testrepository.TarGz(filepath.Base(source.Home("")), entries)
	}
	require.NoError(t, err)
	location, err := url.Parse(source.URL())
	require.NoError(t, err)
	r.Add(location.Path, archive)
	return r
}

// env returns the environment of a program that downloads from the repository into the cache directory.
func (r repository) env(cache string) []string {
	return []string{embedded.EnvDownload + "=" + r.url, "XDG_CACHE_HOME=" + cache}
}

// awaitPart waits until 1 MB of an archive has been received into dir.
func awaitPart(t *testing.T, dir string) {
	t.Helper()
	assert.Eventually(t, func() bool {
		parts, err := filepath.Glob(filepath.Join(dir, "*.part"))
		if err != nil || len(parts) != 1 {
			return false
		}
		info, err := os.Stat(parts[0])
		return err == nil && info.Size() == 1<<20
	}, 30*time.Second, 5*time.Millisecond)
}

func TestDownload_ServesBothLayouts(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "theseus+"} {
		t.Run("layout "+prefix, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t, prefix)
			dir := filepath.Join(newTempDir(t), "cache")
			core, logs := observer.New(zap.WarnLevel)
			opts := []embedded.Option{embedded.Download(r.url), embedded.NothingInstalled(dir), embedded.Logger(zap.New(core))}

			server, err := embedded.NewServer(opts...)
			require.NoError(t, err)
			assert.NoDirExists(t, dir, "nothing is downloaded before the start")
			assert.NotEmpty(t, server.URL())
			for range 2 {
				require.NoError(t, server.Start(t.Context()))
				assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
				require.NoError(t, stop(server))
			}
			again := start(t, opts...)
			assert.Equal(t, 1, query[int](t, again.URL(), "SELECT 1"))
			assert.Len(t, r.Requests(), 1)
			assert.Equal(t, 1, logs.Len())
		})
	}
}

func TestDownload_IsSharedByProcesses(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "")
	env, dir := r.env(newTempDir(t)), newSharedDir(t)
	programs := make([]*program, 3)
	for i := range programs {
		programs[i] = launch(t, settings{env: env}, "share-download", dir)
	}
	for _, p := range programs {
		p.awaitReport(t)
		assert.Equal(t, programs[0].server, p.server)
	}
	assert.Len(t, r.Requests(), 1)
	assert.Equal(t, 1, query[int](t, programs[0].server.URL, "SELECT 1"))
	for _, p := range programs {
		p.kill(t)
	}
	assertGone(t, programs[0].server)
}

func TestDownload_ContinuesAfterAKill(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "")
	cache := newTempDir(t)
	env := r.env(cache)
	r.Fail(testrepository.Fault{Cut: 1 << 20, Held: make(chan struct{})})
	first := launch(t, settings{env: env}, "download", newTempDir(t))
	awaitPart(t, filepath.Join(cache, "rdsfx"))
	first.kill(t)

	second := run(t, "download", newTempDir(t), env...)
	assert.Equal(t, 1, query[int](t, second.server.URL, "SELECT 1"))
	require.Len(t, r.Requests(), 2)
	assert.Regexp(t, ` bytes=\d+-$`, r.Requests()[1])
	second.kill(t)
	assertGone(t, second.server)
}

func TestDownload_UsesTheProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "")
	proxy := "HTTP_PROXY=" + r.url
	r.url = "http://repository.invalid" // only the proxy can reach this host
	p := run(t, "download", newTempDir(t), append(r.env(newTempDir(t)), proxy)...)
	assert.Equal(t, 1, query[int](t, p.server.URL, "SELECT 1"))
	p.kill(t)
	assertGone(t, p.server)
}

func TestDownload_ExplainsProxyFailures(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "")
	proxy := r.url
	r.url = "https://repository.invalid" // needs CONNECT, which this proxy doesn't support
	out := failingOutput(t, settings{env: append(r.env(newTempDir(t)), "HTTPS_PROXY="+proxy, envDir+"="+newTempDir(t))}, "download")
	assert.Contains(t, out, "the proxy refused the connection with status 404 Not Found")
	out = failingOutput(t, settings{env: append(r.env(newTempDir(t)), "HTTPS_PROXY=http://127.0.0.1:1", envDir+"="+newTempDir(t))}, "download")
	assert.Contains(t, out, "check the proxy in HTTPS_PROXY and HTTP_PROXY")
}

func TestDownload_FailureNamesTheAlternatives(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newTempDir(t), "cache")
	server := httptest.NewServer(&testrepository.Repository{})
	defer server.Close()
	opts := []embedded.Option{embedded.Download(server.URL), embedded.NothingInstalled(dir)}
	_, err := embedded.Start(t.Context(), opts...)
	require.ErrorIs(t, err, embedded.ErrNotFound)
	for _, want := range []string{
		"embedded: start: no PostgreSQL server found on this machine, and none could be downloaded: download PostgreSQL 17.6.0: http",
		"status 404 Not Found: the repository doesn't have this version", "as another way, install PostgreSQL (", embedded.EnvBin, embedded.EnvURL,
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = embedded.Shared(t.Context(), opts...)
	require.ErrorIs(t, err, embedded.ErrNotFound)
	require.ErrorContains(t, err, "embedded: shared: no PostgreSQL server found on this machine, and none could be downloaded")
}

func TestDownload_CanBeForbidden(t *testing.T) {
	t.Parallel()
	nothing := embedded.NothingInstalled(newTempDir(t))
	for want, c := range map[string]struct {
		env  map[string]string
		opts []embedded.Option
	}{
		"RDSFX_POSTGRES_DOWNLOAD is off": {
			map[string]string{embedded.EnvDownload: "off"},
			[]embedded.Option{nothing, embedded.Download("https://host/maven")},
		},
		"the option Download is off": {
			map[string]string{embedded.EnvDownload: "https://host/maven"},
			[]embedded.Option{nothing, embedded.Download(embedded.DownloadOff)},
		},
	} {
		_, err := embedded.NewServerWithEnv(c.env, c.opts...)
		require.ErrorIs(t, err, embedded.ErrNotFound)
		require.ErrorContains(t, err, want)
	}
}

func TestDownload_InterruptedStartIsContinued(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "")
	r.Fail(testrepository.Fault{Cut: 1 << 20, Held: make(chan struct{})})
	cache := filepath.Join(newTempDir(t), "cache")
	server, err := embedded.NewServer(embedded.Download(r.url), embedded.NothingInstalled(cache))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { awaitPart(t, cache); cancel() }()
	err = server.Start(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "were received, and the next start continues there")
	require.NoError(t, server.Start(t.Context()))
	assert.Equal(t, 1, query[int](t, server.URL(), "SELECT 1"))
	require.NoError(t, stop(server))
}

func TestDownloadOptions_AreValidated(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string][]embedded.Option{
		"download is given twice":                                  {embedded.Download("https://a"), embedded.Download("https://b")},
		"download version is given twice, as 17.6.0 and as 18.1.0": {embedded.DownloadVersion("17.6.0"), embedded.DownloadVersion("18.1.0")},
		"is not the URL of a repository":                           {embedded.Download("maven")},
		"is not a version of three numbers":                        {embedded.DownloadVersion("17")},
	} {
		_, err := embedded.NewServer(opts...)
		require.ErrorContains(t, err, "embedded: ")
		require.ErrorContains(t, err, want)
	}
	_, err := embedded.NewServerWithEnv(map[string]string{embedded.EnvDownload: "maven"})
	require.ErrorContains(t, err, "is not the URL of a repository")
}
