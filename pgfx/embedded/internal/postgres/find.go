package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rdsfx-go/rdsfx/internal/redact"
)

// ErrNotFound is matched by the error of [Find] when no source has a server.
var ErrNotFound = errors.New("no PostgreSQL server found")

// Found is the result of [Find]: either the URL of a running server or an installation to start one with.
type Found struct {
	URL          string
	Installation Installation
}

// Downloads are the server binaries that this machine has downloaded before.
type Downloads struct {
	BinDirs []string
	// Reason states why there are none.
	Reason string
}

// Find returns the server of the first source that has one: RDSFX_POSTGRES_URL, RDSFX_POSTGRES_BIN, the installed binaries, the
// downloads. A variable that is set but unusable is an error, never a reason to try the next source.
func Find(env Getenv, downloads Downloads) (Found, error) {
	return find(sources(env, searchPaths(env), downloads))
}

// source is one way to get a server. If it has none, find returns ok == false and a report of where it searched.
type source struct {
	name string
	find func() (found Found, ok bool, report string, err error)
}

// sources returns the sources in order of precedence.
func sources(env Getenv, paths []searchPath, downloads Downloads) []source {
	return []source{
		{name: "a running server", find: func() (Found, bool, string, error) { return findByURL(env(EnvURL)) }},
		{name: "a directory of server binaries", find: func() (Found, bool, string, error) { return findByDirectory(env(EnvBin)) }},
		{name: "installed server binaries", find: func() (Found, bool, string, error) { return findInstalled(paths) }},
		{name: "downloaded server binaries", find: func() (Found, bool, string, error) { return findDownloaded(downloads) }},
	}
}

func find(sources []source) (Found, error) {
	var reports strings.Builder
	for i, source := range sources {
		found, ok, report, err := source.find()
		if err != nil {
			return Found{}, err
		}
		if ok {
			return found, nil
		}
		fmt.Fprintf(&reports, "\n  %d. %s: %s", i+1, source.name, report)
	}
	return Found{}, fmt.Errorf("%w; searched, in this order:%s\n%s", ErrNotFound, reports.String(), InstallAdvice())
}

func findByURL(url string) (Found, bool, string, error) {
	if url == "" {
		return Found{}, false, EnvURL + " is not set", nil
	}
	if _, err := pgconn.ParseConfig(url); err != nil {
		return Found{}, false, "", fmt.Errorf("%s is not a connection URL: %s: %s; set it to a URL like postgres://user:password@host:5432/postgres, or unset it to use a local server",
			EnvURL, redact.ConnString(url), redact.ParseError(err))
	}
	return Found{URL: url}, true, "", nil
}

func findByDirectory(dir string) (Found, bool, string, error) {
	if dir == "" {
		return Found{}, false, EnvBin + " is not set", nil
	}
	installation, err := Inspect(dir)
	if err != nil {
		return Found{}, false, "", fmt.Errorf("%s=%s: %w; set it to the directory that contains postgres and initdb, or unset it to use an installed server",
			EnvBin, dir, err)
	}
	return Found{Installation: installation}, true, "", nil
}

// findDownloaded skips damaged directories, which the next download replaces.
func findDownloaded(downloads Downloads) (Found, bool, string, error) {
	for _, dir := range downloads.BinDirs {
		if installation, err := Inspect(dir); err == nil {
			return Found{Installation: installation}, true, "", nil
		}
	}
	return Found{}, false, downloads.Reason, nil
}

// InstallAdvice returns the ways to get a server on this operating system.
func InstallAdvice() string {
	return fmt.Sprintf("install PostgreSQL (%s), set %s to the directory that contains postgres and initdb, or set %s to the URL of a running server",
		installCommand(runtime.GOOS, osRelease("/etc/os-release")), EnvBin, EnvURL)
}

// installCommand returns the command that installs PostgreSQL. release contains the ID and ID_LIKE lines of os-release.
func installCommand(goos, release string) string {
	switch goos {
	case "darwin":
		return "brew install postgresql@17"
	case "windows":
		return "winget install PostgreSQL.PostgreSQL.17"
	case "freebsd":
		return "pkg install postgresql17-server"
	}
	for _, family := range []struct{ ids, command string }{
		{"debian ubuntu", "apt-get install postgresql"},
		{"fedora rhel centos amzn", "dnf install postgresql-server"},
		{"alpine", "apk add postgresql"},
		{"arch", "pacman -S postgresql"},
		{"suse opensuse", "zypper install postgresql-server"},
		{"nixos", "nix-shell -p postgresql"},
	} {
		for id := range strings.FieldsSeq(family.ids) {
			if strings.Contains(release, id) {
				return family.command
			}
		}
	}
	return "the package is usually called postgresql or postgresql-server"
}

// osRelease returns the lines of file that name the distribution and its family (os-release(5)).
func osRelease(file string) string {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return ""
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "ID=") || strings.HasPrefix(line, "ID_LIKE=") {
			ids = append(ids, strings.TrimSpace(line))
		}
	}
	return strings.Join(ids, " ")
}
