package embedded

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

// ErrNotFound is matched by the error that says that no tier has a server.
var ErrNotFound = errors.New("no PostgreSQL server found")

// target is what resolving yields: the URL of a server that somebody else runs, or programs to run one with.
type target struct {
	url     string
	install installation
}

// tier is one way of coming by a server. look returns found == false with an account of what it looked at when it has nothing
// to offer, and an error when it was asked for and can't deliver.
type tier struct {
	name string
	look func() (t target, found bool, account string, err error)
}

// resolve asks the tiers in turn.
func resolve(tiers []tier) (target, error) {
	var accounts strings.Builder
	for i, tier := range tiers {
		t, found, account, err := tier.look()
		if err != nil {
			return target{}, fmt.Errorf("embedded: %w", err)
		}
		if found {
			return t, nil
		}
		fmt.Fprintf(&accounts, "\n  %d. %s: %s", i+1, tier.name, account)
	}
	return target{}, fmt.Errorf("embedded: %w; looked at, in this order:%s\n%s", ErrNotFound, accounts.String(), advice())
}

// tiers lists the ways in their order. One that downloads a server goes last.
func tiers(env lookup, places []place) []tier {
	return []tier{
		{name: "a running server", look: func() (target, bool, string, error) { return byURL(env(EnvURL)) }},
		{name: "a directory of programs", look: func() (target, bool, string, error) { return byDirectory(env(EnvBin)) }},
		{name: "installed programs", look: func() (target, bool, string, error) { return byPlaces(places) }},
	}
}

func byURL(url string) (target, bool, string, error) {
	if url == "" {
		return target{}, false, EnvURL + " is not set", nil
	}
	if _, err := pgconn.ParseConfig(url); err != nil {
		return target{}, false, "", fmt.Errorf("%s is not a connection URL: %s: %s; set it like postgres://user:password@host:5432/postgres, or unset it to use a local server",
			EnvURL, redact.ConnString(url), redact.ParseError(err))
	}
	return target{url: url}, true, "", nil
}

func byDirectory(dir string) (target, bool, string, error) {
	if dir == "" {
		return target{}, false, EnvBin + " is not set", nil
	}
	found, err := inspect(dir)
	if err != nil {
		return target{}, false, "", fmt.Errorf("%s=%s: %w; set it to the directory that holds the programs postgres and initdb, or unset it to use an installed server",
			EnvBin, dir, err)
	}
	return target{install: found}, true, "", nil
}

// redactedError keeps an error's identity and masks secrets in its text.
type redactedError struct{ err error }

func (e redactedError) Error() string { return redact.ConnString(e.err.Error()) }
func (e redactedError) Unwrap() error { return e.err }

// advice tells how to get a server on this operating system.
func advice() string {
	return fmt.Sprintf("install PostgreSQL (%s), or set %s to the directory that holds postgres and initdb, or set %s to a running server",
		installCommand(runtime.GOOS, osRelease("/etc/os-release")), EnvBin, EnvURL)
}

// installCommand names the command for an operating system; release is the ID and ID_LIKE of os-release.
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

// osRelease returns the lines of the file that name the distribution and its family.
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
