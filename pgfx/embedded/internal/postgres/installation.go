package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// versionTimeout limits postgres --version and pg_config --bindir.
const versionTimeout = 10 * time.Second

// Installation is a directory with the server binaries of one PostgreSQL version.
type Installation struct {
	// BinDir is the directory after links are resolved.
	BinDir string `json:"bin_dir"`
	// Version is the output of postgres --version.
	Version string `json:"version"`
	Major   int    `json:"major"`
	Minor   int    `json:"minor"`
	// Identity changes when the postgres binary is replaced. It consists of the file's size and modification time.
	Identity string `json:"identity"`
}

// Binary returns the path of the server binary called name.
func (i Installation) Binary(name string) string { return filepath.Join(i.BinDir, executable(name)) }

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// searchPath lists directories that may contain server binaries. If there are none, list returns the reason.
type searchPath struct {
	name string
	list func() (dirs []string, reason string)
}

// searchPaths returns the search paths of this operating system.
func searchPaths(env Getenv) []searchPath {
	paths := []searchPath{pathVariable(env("PATH")), pgConfig()}
	for _, pattern := range installPatterns(runtime.GOOS, env) {
		paths = append(paths, globPattern(pattern))
	}
	return paths
}

// installPatterns returns the patterns of the directories that the packages of an operating system use.
func installPatterns(goos string, env Getenv) []string {
	switch goos {
	case "darwin":
		return []string{
			"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
			"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
			"/Applications/Postgres.app/Contents/Versions/*/bin",
			"/Library/PostgreSQL/*/bin",      // EDB installer
			"/opt/local/lib/postgresql*/bin", // MacPorts
		}
	case "windows":
		return []string{filepath.Join(cmp.Or(env("ProgramFiles"), `C:\Program Files`), `PostgreSQL\*\bin`)}
	default:
		return []string{
			"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
			"/usr/pgsql-*/bin",          // Red Hat family, PGDG packages
			"/usr/lib/postgresql*/bin",  // SUSE
			"/usr/libexec/postgresql*",  // Alpine
			"/usr/local/pgsql*/bin",     // built from source
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		}
	}
}

// pathVariable lists the directories of PATH that contain postgres.
func pathVariable(path string) searchPath {
	return searchPath{name: "PATH", list: func() ([]string, string) {
		var dirs []string
		for _, dir := range filepath.SplitList(path) {
			if _, err := os.Stat(filepath.Join(dir, executable("postgres"))); dir != "" && err == nil {
				dirs = append(dirs, dir)
			}
		}
		return dirs, "no postgres in " + path
	}}
}

func pgConfig() searchPath {
	return searchPath{name: "pg_config --bindir", list: func() ([]string, string) {
		program, err := exec.LookPath("pg_config")
		if err != nil {
			return nil, "no pg_config in PATH"
		}
		out, err := outputLine(program, "--bindir")
		if err != nil {
			return nil, err.Error()
		}
		return []string{out}, ""
	}}
}

func globPattern(pattern string) searchPath {
	return searchPath{name: pattern, list: func() ([]string, string) {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err.Error()
		}
		return dirs, "no such directory"
	}}
}

// findInstalled returns the newest usable installation. Among equal versions, the first one found wins.
func findInstalled(paths []searchPath) (Found, bool, string, error) {
	var (
		usable []Installation
		seen   = make(map[string]bool)
		report strings.Builder
	)
	for _, path := range paths {
		dirs, reason := path.list()
		if len(dirs) == 0 {
			fmt.Fprintf(&report, "\n     - %s: %s", path.name, reason)
		}
		for _, dir := range dirs {
			if seen[dir] {
				continue
			}
			seen[dir] = true
			installation, err := Inspect(dir)
			if err != nil {
				fmt.Fprintf(&report, "\n     - %s: %s: %s", path.name, dir, err)
				continue
			}
			seen[installation.BinDir] = true
			usable = append(usable, installation)
		}
	}
	if len(usable) == 0 {
		return Found{}, false, report.String(), nil
	}
	slices.SortStableFunc(usable, func(a, b Installation) int {
		return cmp.Or(cmp.Compare(b.Major, a.Major), cmp.Compare(b.Minor, a.Minor))
	})
	return Found{Installation: usable[0]}, true, "", nil
}

// Inspect returns the installation in dir, or an error that states why it can't be used.
func Inspect(dir string) (Installation, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Installation{}, errors.New("no such directory")
	case err != nil:
		return Installation{}, err
	case !info.IsDir():
		return Installation{}, errors.New("not a directory")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return Installation{}, err
	}
	for _, name := range []string{"initdb", "postgres"} {
		if info, err = os.Stat(filepath.Join(dir, executable(name))); err != nil {
			return Installation{}, fmt.Errorf("it doesn't contain %s (is only the client installed?)", name)
		}
	}
	// A directory of PATH often contains links, so one installation can be found under several names.
	if target, err := filepath.EvalSymlinks(filepath.Join(dir, executable("postgres"))); err == nil {
		if _, err := os.Stat(filepath.Join(filepath.Dir(target), executable("initdb"))); err == nil {
			dir = filepath.Dir(target)
		}
	}
	text, err := outputLine(filepath.Join(dir, executable("postgres")), "--version")
	if err != nil {
		return Installation{}, err
	}
	major, minor, err := parseVersion(text)
	if err != nil {
		return Installation{}, err
	}
	return Installation{
		BinDir: dir, Version: text, Major: major, Minor: minor,
		Identity: fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano()),
	}, nil
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// parseVersion parses text such as "postgres (PostgreSQL) 15.18 (Debian …)". Development versions such as 19devel have no minor
// version.
func parseVersion(text string) (major, minor int, err error) {
	parts := versionPattern.FindStringSubmatch(text)
	if parts == nil {
		return 0, 0, fmt.Errorf("postgres --version prints %q, which is not a PostgreSQL version", text)
	}
	major, err = strconv.Atoi(parts[1])
	if err != nil {
		return 0, 0, fmt.Errorf("postgres --version prints %q: %w", text, err)
	}
	if parts[2] != "" {
		minor, err = strconv.Atoi(parts[2])
	}
	return major, minor, err
}

// outputLine runs a program that prints one line and returns the line.
func outputLine(program, arg string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arg) //nolint:gosec // a server binary, found above
	cmd.Env = serverEnviron(os.Environ())
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return "", fmt.Errorf("%s %s: %w: %s", program, arg, err, text)
		}
		return "", fmt.Errorf("%s %s: %w", program, arg, err)
	}
	return strings.TrimSpace(string(out)), nil
}
