// Package download fetches server binaries of PostgreSQL from a repository, for machines that have none. They are meant for
// development and tests.
package download

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/rdsfx-go/rdsfx/internal/filelock"
	"github.com/rdsfx-go/rdsfx/internal/redact"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/access"
	"github.com/rdsfx-go/rdsfx/pgfx/embedded/internal/postgres"
)

const (
	// EnvRepository is the environment variable that names the repository, or forbids downloads with [Off].
	EnvRepository = "RDSFX_POSTGRES_DOWNLOAD"
	// EnvVersion is the environment variable that selects the version to download.
	EnvVersion = "RDSFX_POSTGRES_DOWNLOAD_VERSION"
	// Off forbids downloads.
	Off = "off"
	// DefaultRepository is Maven Central, which has the binaries of the project zonkyio/embedded-postgres-binaries.
	DefaultRepository = "https://repo1.maven.org/maven2"
	// DefaultVersion exists in the repositories of both layouts.
	DefaultVersion = "17.6.0"
)

// versionPattern matches the versions of both layouts: PostgreSQL's version and the release of the repository.
var versionPattern = regexp.MustCompile(`^\d+\.\d+\.\d+[\w.-]*$`)

// Source is an archive of server binaries in a repository.
type Source struct {
	// Dirs are the directories that may hold the binaries, in order of preference.
	Dirs []string

	layout  layout
	version string
	archive *url.URL

	// stallTimeout is the longest time without data from the repository.
	stallTimeout time.Duration
	// progressInterval is the time between two lines in the log.
	progressInterval time.Duration
}

// New returns the source for this machine. repository is a URL, [Off] or empty, which means [DefaultRepository]. An empty version
// means [DefaultVersion]. If there is nothing to download, the source is nil, and reason states why.
func New(repository, version string) (source *Source, reason string, err error) {
	if strings.EqualFold(repository, Off) {
		return nil, EnvRepository + " is " + Off, nil
	}
	return newSource(repository, version, currentPlatform())
}

func newSource(repository, version, platform string) (source *Source, reason string, err error) {
	if repository == "" {
		repository = DefaultRepository
	}
	if version == "" {
		version = DefaultVersion
	}
	if !versionPattern.MatchString(version) {
		return nil, "", fmt.Errorf("%q (option DownloadVersion or %s) is not a version of three numbers, such as %s",
			version, EnvVersion, DefaultVersion)
	}
	packing := mavenLayout
	if rest, ok := strings.CutPrefix(repository, releasesPrefix); ok {
		repository, packing = rest, releasesLayout
	}
	base, err := parseRepository(repository)
	if err != nil {
		return nil, "", err
	}
	target := packing.target(platforms[platform])
	if target == "" {
		return nil, fmt.Sprintf("the repository has no server binaries for %s", platform), nil
	}
	return &Source{
		Dirs: Dirs(), layout: packing, version: version, archive: base.JoinPath(packing.path(target, version)...),
		stallTimeout: 30 * time.Second, progressInterval: 5 * time.Second,
	}, "", nil
}

// parseRepository returns the base URL of a repository. Its errors print no password.
func parseRepository(repository string) (*url.URL, error) {
	base, err := url.Parse(repository)
	if err == nil && (base.Scheme == "https" || base.Scheme == "http") && base.Host != "" && base.RawQuery == "" && base.Fragment == "" {
		return base, nil
	}
	return nil, fmt.Errorf("%q (option Download or %s) is not the URL of a repository: name one such as %s or %shttps://github.com/theseus-rs/postgresql-binaries/releases/download, or write %s to forbid downloads",
		redact.ConnString(repository), EnvRepository, DefaultRepository, releasesPrefix, Off)
}

// Dirs returns the default directories for server binaries: the user's cache directory, then a private one in the temp directory.
// For root, /var/cache/rdsfx is between them. Root's own cache directory is closed to the server's user on most systems.
func Dirs() []string {
	var dirs []string
	if dir, err := os.UserCacheDir(); err == nil {
		dirs = append(dirs, filepath.Join(dir, "rdsfx"))
	}
	if os.Geteuid() == 0 {
		dirs = append(dirs, "/var/cache/rdsfx")
	}
	return append(dirs, filepath.Join(os.TempDir(), fmt.Sprintf("rdsfx-binaries-%d", max(os.Geteuid(), 0))))
}

// URL returns the URL of the archive, which may contain a login.
func (s *Source) URL() string { return s.archive.String() }

// BinDirs returns the existing directories of server binaries that were downloaded before. Directories that another user could
// have filled are left out.
func (s *Source) BinDirs() []string {
	var dirs []string
	for _, dir := range s.Dirs {
		if access.CheckPrivate(dir, access.NoWrite) != nil {
			continue
		}
		if info, err := os.Stat(s.binDir(dir)); err == nil && info.IsDir() {
			dirs = append(dirs, s.binDir(dir))
		}
	}
	return dirs
}

// Home returns the directory of the unpacked archive in dir.
func (s *Source) Home(dir string) string {
	name := filepath.Base(s.archive.Path)
	return filepath.Join(dir, strings.TrimSuffix(strings.TrimSuffix(name, ".jar"), ".tar.gz"))
}

func (s *Source) binDir(dir string) string { return filepath.Join(s.Home(dir), "bin") }

// Fetch downloads, verifies and unpacks the server binaries for user into the first usable directory. Processes that call it at
// once share one download. If ctx ends, the part that was received remains, and the next call continues there.
func (s *Source) Fetch(ctx context.Context, user *access.User, log *zap.Logger) (postgres.Installation, error) {
	lock, dir, err := s.lockFirst(ctx, user, log)
	if err != nil {
		return postgres.Installation{}, err
	}
	defer filelock.Release(lock)
	return s.fetch(ctx, dir, log)
}

// lockFirst locks the first usable directory.
func (s *Source) lockFirst(ctx context.Context, user *access.User, log *zap.Logger) (lock *os.File, dir string, err error) {
	var reasons []error
	for _, dir := range s.Dirs {
		lock, err := s.lock(ctx, dir, user, log)
		if err == nil {
			return lock, dir, nil
		}
		if ctx.Err() != nil {
			return nil, "", fmt.Errorf("waiting for another process to download PostgreSQL %s: %w", s.version, context.Cause(ctx))
		}
		reasons = append(reasons, err)
	}
	return nil, "", fmt.Errorf("no usable directory for server binaries: %w", errors.Join(reasons...))
}

// lock prepares dir for server binaries that user can run, and locks it against other processes.
func (s *Source) lock(ctx context.Context, dir string, user *access.User, log *zap.Logger) (*os.File, error) {
	mode := os.FileMode(0o700)
	if user != nil {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, err
	}
	if err := access.CheckPrivate(dir, access.NoWrite); err != nil {
		return nil, err
	}
	if err := access.CheckReachable(dir, user); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(s.Home(dir)+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := filelock.Try(lock, true)
	if err == nil && !locked {
		log.Info("waiting for another process to download the server binaries", zap.String("dir", s.Home(dir)))
		err = filelock.Wait(ctx, lock, true)
	}
	if err != nil {
		filelock.Release(lock)
		return nil, err
	}
	return lock, nil
}

// fetch downloads and unpacks the binaries into the locked directory dir, unless another process has done so.
func (s *Source) fetch(ctx context.Context, dir string, log *zap.Logger) (postgres.Installation, error) {
	if found, err := postgres.Inspect(s.binDir(dir)); err == nil {
		return found, nil
	}
	began := time.Now()
	part := s.Home(dir) + ".part"
	d := downloader{source: s, client: newClient(), log: log}
	defer d.client.CloseIdleConnections()
	if err := d.download(ctx, part); err != nil {
		return postgres.Installation{}, fmt.Errorf("download PostgreSQL %s: %w", s.version, err)
	}
	err := s.unpack(ctx, part, s.Home(dir))
	if ctx.Err() == nil { // the next start continues with a complete archive
		_ = os.Remove(part)
	}
	if err != nil {
		return postgres.Installation{}, fmt.Errorf("unpack %s: %w", s.archive.Redacted(), err)
	}
	found, err := postgres.Inspect(s.binDir(dir))
	if err != nil {
		return postgres.Installation{}, err
	}
	log.Info("server binaries downloaded", zap.String("version", found.Version), zap.String("bin_dir", found.BinDir),
		zap.Duration("took", time.Since(began)))
	return found, nil
}

// unpack extracts an archive to home. A rename publishes the directory once its server binaries have run.
func (s *Source) unpack(ctx context.Context, archive, home string) (err error) {
	partial := home + ".new"
	if err := os.RemoveAll(partial); err != nil { // a killed process may have left it
		return err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(partial)
		}
	}()
	if err := os.Mkdir(partial, 0o755); err != nil { //nolint:gosec // the server's user must be able to enter it
		return err
	}
	if err := os.Chmod(partial, 0o755); err != nil { //nolint:gosec // as above; the umask may have removed permissions
		return err
	}
	if err := s.layout.extract(ctx, archive, partial); err != nil {
		return err
	}
	if err := checkRuns(ctx, filepath.Join(partial, "bin")); err != nil {
		return fmt.Errorf("the server binaries don't run on this system (%s): %w", currentPlatform(), err)
	}
	if err := os.RemoveAll(home); err != nil { // damaged, or Inspect would have accepted it
		return err
	}
	return os.Rename(partial, home)
}

// checkRuns runs the server binaries. If another goroutine has forked while one was being written, its child holds the file open
// for a moment, which prevents the execution. checkRuns waits for that.
func checkRuns(ctx context.Context, binDir string) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := postgres.Inspect(binDir)
		if !errors.Is(err, syscall.ETXTBSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

func currentPlatform() string {
	return platformName(runtime.GOOS, runtime.GOARCH, runtime.GOOS == "linux" && usesMusl("/"))
}
