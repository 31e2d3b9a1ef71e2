package download_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/download"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/testrepository"
)

// archivePath is the path of the source's archive in its repository.
func archivePath(t *testing.T, source *download.Source) string {
	t.Helper()
	location, err := url.Parse(source.URL())
	require.NoError(t, err)
	return location.Path
}

func TestDownload_ContinuesABrokenConnection(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	repository.Fail(testrepository.Fault{Cut: 100}, testrepository.Fault{Cut: 50})
	require.NoError(t, fetch(t, source))
	path := archivePath(t, source)
	assert.Equal(t, []string{path, path + " bytes=100-", path + " bytes=150-"}, repository.Requests())
}

func TestDownload_BeginsAgainWithoutRanges(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	repository.Fail(testrepository.Fault{Cut: 100}, testrepository.Fault{IgnoreRange: true})
	require.NoError(t, fetch(t, source))
	assert.Len(t, repository.Requests(), 2)
}

func TestDownload_GivesUpAfterSomeAttempts(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	broken := testrepository.Fault{Cut: 100, IgnoreRange: true}
	repository.Fail(broken, broken, broken, broken, broken)
	err := fetch(t, source)
	require.ErrorContains(t, err, "download PostgreSQL 17.6.0: "+source.URL()+": unexpected EOF")
	require.ErrorContains(t, err, "0.0 MB were received, and the next start continues there")
	assert.Len(t, repository.Requests(), 5)
	require.NoError(t, fetch(t, source))
}

func TestDownload_ContinuesAfterAnInterruption(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	repository.Fail(testrepository.Fault{Cut: 100, Held: make(chan struct{})})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { awaitPart(t, source, 100); cancel(context.DeadlineExceeded) }()
	_, err := source.Fetch(ctx, nil, zap.NewNop())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the next start continues there")

	require.NoError(t, fetch(t, source))
	assert.Equal(t, archivePath(t, source)+" bytes=100-", repository.Requests()[1])
}

func TestDownload_UsesACompleteFile(t *testing.T) {
	t.Parallel()
	archive, err := testrepository.Jar(testrepository.Scripts("17.6"))
	require.NoError(t, err)
	repository, source := setupWith(t, "", archive)
	require.NoError(t, os.Mkdir(source.Dirs[0], 0o700))
	require.NoError(t, os.WriteFile(source.PartOf(source.Dirs[0]), archive, 0o600))
	require.NoError(t, fetch(t, source), "a process was killed while it unpacked the archive")
	assert.Empty(t, repository.Requests())
}

func TestDownload_DiscardsTheBeginningOfAnotherFile(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 1 << 20} { // shorter and longer than the archive
		repository, source := setup(t)
		require.NoError(t, os.Mkdir(source.Dirs[0], 0o700))
		require.NoError(t, os.WriteFile(source.PartOf(source.Dirs[0]), make([]byte, size), 0o600))
		require.NoError(t, fetch(t, source))
		assert.Len(t, repository.Requests(), 2)
	}
}

func TestDownload_VerifiesTheChecksum(t *testing.T) {
	t.Parallel()
	archive, err := testrepository.Jar(testrepository.Scripts("17.6"))
	require.NoError(t, err)
	repository, source := setupWith(t, "", archive)
	repository.Set(archivePath(t, source), append(archive, 0))
	err = fetch(t, source)
	require.ErrorContains(t, err, source.URL()+" has the checksum ")
	require.ErrorContains(t, err, "or name another repository in RDSFX_POSTGRES_DOWNLOAD")
	assert.Empty(t, files(t, source))

	repository.Set(archivePath(t, source), archive)
	require.NoError(t, fetch(t, source))
}

func TestDownload_ReadsChecksumsOfOtherTools(t *testing.T) {
	t.Parallel()
	archive, err := testrepository.Jar(testrepository.Scripts("17.6"))
	require.NoError(t, err)
	repository, source := setupWith(t, "", archive)
	path := archivePath(t, source) + ".sha256"
	for text, want := range map[string]string{
		"":                    "is not a SHA-256 checksum but begins with \"\"",
		"<html>Please log in": "begins with \"<html>Please log in\": does the network answer with a login page",
		"da39a3ee5e6b4b0d3255bfef95601890afd80709": "is not a SHA-256 checksum",
		// The form of certutil. The checksum is that of no archive.
		"SHA256 hash of x:\r\nE3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855\r\nCertUtil: ok": "instead of e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		repository.Set(path, []byte(text))
		require.ErrorContains(t, fetch(t, source), want)
	}
}

func TestDownload_GivesUpASilentRepository(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	source.SetTimes(50*time.Millisecond, time.Minute)
	repository.Fail(testrepository.Fault{Cut: 100, Held: make(chan struct{})}, testrepository.Fault{Status: http.StatusBadGateway})
	err := fetch(t, source)
	require.ErrorContains(t, err, "status 502 Bad Gateway: try again later")
	assert.Len(t, repository.Requests(), 2, "a second request follows")
}

func TestDownload_ExplainsFailures(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	unreachable := newSource(t, "http://user:hunter2@"+listener.Addr().String())
	err = fetch(t, unreachable)
	require.ErrorContains(t, err, "connection refused: check the network; behind a proxy set HTTPS_PROXY, and without internet access name a reachable repository in RDSFX_POSTGRES_DOWNLOAD")
	assert.NotContains(t, err.Error(), "hunter2")

	unknown := newSource(t, "https://no-such-host.invalid")
	require.ErrorContains(t, fetch(t, unknown), ": check the network; ")

	for status, hint := range map[int]string{
		http.StatusNotFound:          "404 Not Found: the repository doesn't have this version for this platform",
		http.StatusUnauthorized:      "401 Unauthorized: if the repository requires a login",
		http.StatusForbidden:         "403 Forbidden: if the repository requires a login",
		http.StatusProxyAuthRequired: "407 Proxy Authentication Required: add user and password to the URL in HTTPS_PROXY",
		http.StatusTooManyRequests:   "429 Too Many Requests: try again later",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		require.ErrorContains(t, fetch(t, newSource(t, server.URL)), hint)
		server.Close()
	}

	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	require.ErrorContains(t, fetch(t, newSource(t, untrusted.URL)), "add its certificate authority to the system's, or name its file in SSL_CERT_FILE")
}

func TestDownload_SendsTheLogin(t *testing.T) {
	t.Parallel()
	repository, source := setup(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		repository.ServeHTTP(w, r)
	}))
	defer server.Close()
	dirs := source.Dirs
	source = newSource(t, "http://me:hunter2@"+server.Listener.Addr().String())
	source.Dirs = dirs
	require.NoError(t, fetch(t, source))
}

func TestCheckRedirect_StaysEncrypted(t *testing.T) {
	t.Parallel()
	require.NoError(t, download.CheckRedirect("https://a/x", "https://b/x"))
	require.NoError(t, download.CheckRedirect("http://a/x", "http://b/x"))
	err := download.CheckRedirect("https://a/x", "http://me:hunter2@b/x")
	require.ErrorContains(t, err, "redirect from https to http://me:xxxxx@b/x, which is not encrypted")
}
